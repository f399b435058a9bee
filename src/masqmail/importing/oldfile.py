"""Opens one old file: its settings, and what was odd in it for the report."""

from masqmail.importing.grammar import read_statements
from masqmail.importing.migration import Migration, Options, good_name
from masqmail.importing.report import Weight

_SUFFIXES = (".route", ".get", ".conf")


def options_of(migration: Migration, file: str, text: str, *, many: tuple[str, ...] = ()) -> Options:
    """The settings of a file. Of equal names the last counts, but for those that begin with one of `many`."""
    reading = read_statements(text, migration.dialect)
    for remark in reading.remarks:
        migration.report.add(Weight.CHECK, remark.text, place=f"{file}:{remark.line}")
    return Options(file, reading.statements, migration.report, many=many)


def base_name(path: str) -> str:
    """The name of a route or account from the path of its file: `/etc/masqmail/fastnet.route` is `fastnet`."""
    name = path.rpartition("/")[2]
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix) or name
    return good_name(name)
