"""Writes `docs/reference/settings.md` from the model: `python -m masqmail.config.reference > FILE`."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field
from typing import Any

from masqmail.config.reader import settings_of
from masqmail.config.sections import HEADERS
from masqmail.config.show import toml, written
from masqmail.config.unsupported import ANY, KEYS, SECTIONS, WORDS
from masqmail.config.values import VARIABLES, item_of, kind_of, without_none

_INTRODUCTION = f"""\
# Settings

<!-- Made by `python -m masqmail.config.reference`; the words are those of the fields in `masqmail.config`. -->

The configuration is one TOML file: `/etc/masqmail/masqmail.toml` for a daemon started as root, otherwise
`$XDG_CONFIG_HOME/masqmail/masqmail.toml`. `--config FILE` or the variable `MASQMAIL_CONFIG` names another one. It
holds no secrets and everybody may read it; a default file that is missing or cannot be read means the defaults.
`masqmail check` finds every fault in it at once, and `masqmail check --show` prints what is in effect.

Unknown sections and settings are faults. Where a list is expected, one text alone will do.

| value | how to write it |
|---|---|
| duration | `"90s"` `"15m"` `"4h"` `"5d"`, or several in a row: `"1h30m"` |
| size | `"250KB"` `"50MB"` `"1GB"` in powers of 1000, or a number of bytes |
| path | absolute, or beside the configuration file; `~/` is the home of the daemon's own account |
| path of a user | absolute or in `~/`, the home of the recipient; with variables |
| command | a list of the program and its arguments, or one text that is split like a shell line, without expansion |
| address pattern | a glob with `*` and `?`; case does not matter in domains; without `@` it is a local part in any \
domain; `<>` is the null sender |
| host with its port | `"mail.example.org:587"`, `"192.168.1.1:25"`, `"[::1]:25"` |
| network | `"192.168.1.0/24"`, `"fd00::/8"` |
| variables | {" ".join(f"`${{{name}}}`" for name in VARIABLES)} |

The links `internet` (whatever interface has the default route) and `always` exist without being configured.
"""


def settings_page() -> str:
    """The whole page as Markdown."""
    return "\n".join([_INTRODUCTION, *_sections(), *_not_yet()])


def _sections() -> Iterator[str]:
    for header, section in HEADERS.items():
        yield f"## [{header}]\n" if "," not in header else f"## [{header.replace(',', '],').replace('= ', '= `')}`\n"
        yield " ".join((inspect.getdoc(section) or "").split()) + "\n"
        settings = settings_of(section)
        if not settings:
            continue
        yield "| setting | what it does | value | default |\n|---|---|---|---|"
        yield from (_row(key, field) for key, field in settings.items())
        yield "\n" + example(header) + "\n"


def _row(key: str, field: Field[Any]) -> str:
    cells = (f"`{key}`", field.metadata["doc"], _value(field.type), _default(field))
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _value(hint: object) -> str:
    hint = without_none(hint)
    item = item_of(hint)
    kind = kind_of(hint if item is None else item)
    return kind.name if item is None else f"list; each {kind.name}"


def _default(field: Field[Any]) -> str:
    if field.metadata["otherwise"]:
        return str(field.metadata["otherwise"])
    if field.default is MISSING:
        return "must be given"
    if field.default is None or field.default == ():
        return "none"
    return f"`{toml(written(field.type, field.default))}`"


def example(header: str) -> str:
    """A section of the page's examples as a block of TOML, with every setting that has one."""
    name, _, detect = header.partition(", detect = ")
    lines = [f"[{name}]"]
    if detect:
        lines.append(f"detect = {toml(detect)}")
    for key, field in settings_of(HEADERS[header]).items():
        if field.metadata["example"]:
            lines.append(f"{key} = {field.metadata['example']}")
        elif field.default not in (MISSING, None, ()) and not field.metadata["otherwise"]:
            lines.append(f"{key} = {toml(written(field.type, field.default))}")
    return "\n".join(["```toml", *lines, "```"])


def _not_yet() -> Iterator[str]:
    yield "## Not supported yet\n"
    yield "This version knows the following and refuses it by name:\n"
    for path in KEYS:
        name = ".".join(path).replace(ANY, "NAME")
        yield f"- `[{name}]`" if path in SECTIONS else f"- `{name}`"
    for path, (words, _) in WORDS.items():
        listed = ", ".join(f"`{toml(word)}`" for word in sorted(words))
        yield f"- `{'.'.join(path).replace(ANY, 'NAME')}` = {listed}"
    yield '- `queue.store` = `"postgresql://…"`\n'


if __name__ == "__main__":
    sys.stdout.write(settings_page())
