"""A whole old configuration of MasqMail: the main file with the route, get, alias and list files that it names."""

from collections.abc import Iterable

from masqmail.importing.accounts import Accounts
from masqmail.importing.dialect import Dialect, guess
from masqmail.importing.grammar import read_statements
from masqmail.importing.links import Links
from masqmail.importing.localmail import LocalMail
from masqmail.importing.mainfile import MainFile
from masqmail.importing.migration import Files, Migration, Outcome
from masqmail.importing.oldfile import options_of
from masqmail.importing.report import Weight
from masqmail.importing.routes import LISTS, Routes
from masqmail.importing.values import split_list

_ACCUMULATING = (*LISTS, "get.", "online_gets.")
_NAMING_FILES = (*_ACCUMULATING, "local_net_route", "permanent_routes")

_IN_GENERAL = (
    "certificates are checked, at every smarthost that is not on this machine",
    "a message that cannot go because no link is up gets no older, and its sender no warning",
    "members of the old trusted group may not set another sender any more; [submission] trusted_users may",
    "mail for user+detail goes to user, and ~/.forward counts; recipient_delimiter and forward_files stop that",
    "messages of more than 50 MB are refused, unless [smtp] max_message_size says otherwise",
)

_BEFORE_10 = ("sendmail -t adds the addresses of the command line; up to 0.3.0 they were taken away",)


def import_masqmail(main_file: str, files: Files, dialect: Dialect | None = None) -> Outcome:
    """Turns a configuration into ours; the dialect is guessed unless it is given.

    Never fails for what stands in the files: what cannot be used is a note. Raises `FileNotFoundError` when the
    main file cannot be read.
    """
    text = files.read(main_file)
    if text is None:
        raise FileNotFoundError(main_file)
    migration = Migration(files)
    migration.dialect, reason = (dialect, "you said so") if dialect else guess(_names(text, files))
    version = f"MasqMail {migration.dialect.value}"
    migration.document.head(f"Imported from {main_file}, {version}")
    migration.report.add(Weight.KNOWN, f"read as {version}: {reason} (--dialect takes another one)", place=main_file)
    options = options_of(migration, main_file, text, many=_ACCUMULATING)
    main = MainFile(migration, options)
    main.read_host()
    links = Links(migration, options)
    accounts = Accounts(migration, options, links)
    Routes(migration, options, links, accounts, main.default_port()).read()
    accounts.read()
    LocalMail(migration, options).read()
    main.read_rest()
    links.finish()
    _forget_missing_accounts(migration)
    migration.lose_rest(options, migration.document.section("host"), {})
    for fact in (*_IN_GENERAL, *(_BEFORE_10 if migration.dialect.is_old else ())):
        migration.report.add(Weight.KNOWN, fact)
    if migration.accounts:
        migration.report.add(
            Weight.KNOWN, "how often mail is fetched was told by -goTIME; it is interval in [fetch.NAME] now"
        )
    return migration.outcome()


def _names(text: str, files: Files) -> Iterable[str]:
    """The names of all settings in the main file and in the route and get files it names."""
    for statement in read_statements(text, Dialect.V10).statements:
        yield statement.name
        if statement.name.startswith(_NAMING_FILES):
            for item in split_list(statement.value).items:
                if item.startswith("/") and (content := files.read(item)) is not None:
                    yield from (inner.name for inner in read_statements(content, Dialect.V10).statements)


def _forget_missing_accounts(migration: Migration) -> None:
    """A route cannot log in to an account that could not be taken over."""
    accounts = migration.document.names("fetch")
    for name in migration.document.names("routes"):
        section = migration.document.section("routes", name)
        if "pop_before_smtp" in section and section["pop_before_smtp"] not in accounts:
            section.comment(f"pop_before_smtp: the account {section['pop_before_smtp']} could not be taken over")
            section.remove("pop_before_smtp")
