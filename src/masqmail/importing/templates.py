"""The old texts of bounces and warnings as [notices]: their text alone, since the rest of a report is made by us."""

import re
from collections.abc import Iterator

from masqmail.importing.commands import with_our_variables
from masqmail.importing.migration import Migration, Option, Options
from masqmail.importing.report import Weight
from masqmail.mail.template import OLD_LINES, OLD_NAMES, VARIABLES
from masqmail.settings import TemplateSource

_HEADER = re.compile(r"[A-Za-z-]+:|[ \t]")
_BOUNDARY = re.compile(r'boundary="?([^";\s]+)', re.IGNORECASE)
_NO_TEXT = re.compile(r"Content-Type:(?!\s*text/)", re.IGNORECASE)
_STOCK = re.compile(r"(?:/usr/.*|/etc/masqmail)/tpl/")


def read_templates(migration: Migration, options: Options) -> None:
    """Takes over both texts, unless they are those that came with the old program."""
    for key, name in (("bounce_template", "errmsg_file"), ("warning_template", "warnmsg_file")):
        if option := options.take(name):
            _read(migration, key, option)


def _read(migration: Migration, key: str, option: Option) -> None:
    section = migration.document.section("notices")
    if _STOCK.match(option.value):
        migration.lose(section, option, "this text came with the old program; our own is used")
        return
    content = migration.files.read(option.value)
    if content is None:
        migration.wrong(section, option, "the file cannot be read; our own text is used")
        return
    text, lost = convert(content)
    for what in lost:
        section.comment(f"{option.value}: {what} has no counterpart")
        migration.report.add(Weight.LOST, "it has no counterpart in the text of a report", what, option.value)
    if not text:
        migration.lose(section, option, "there is no text in it")
        return
    if migration.put(section, key, TemplateSource, text, option):
        migration.changed(option, "its text stands in the new file; the message itself is added to a report anyway")


def convert(template: str) -> tuple[str, tuple[str, ...]]:
    """The text of a template with our variables, and what of it has no counterpart."""
    lines = template.replace("\r\n", "\n").expandtabs().split("\n")
    boundary = next((match[1] for line in lines if (match := _BOUNDARY.search(line))), "")
    lost: list[str] = []
    if _HEADER.match(lines[0]):
        end = lines.index("") if "" in lines else len(lines)
        lost.append("the header of the template")
        lines = lines[end + 1 :]
    kept = [OLD_LINES.get(line.strip(), line) for line in _text_parts(lines, boundary)]
    for line in kept:
        if line.startswith("@"):
            lost.append(line.strip())
    text = "\n".join(f"${{{line}}}" if line in OLD_LINES.values() else line for line in kept if line[:1] != "@")
    ours, unknown = with_our_variables(text, lambda name: OLD_NAMES.get(name, name if name in VARIABLES else None))
    ours = ours.strip("\n")
    return ours + "\n" if ours else "", (*lost, *(f"${{{name}}}" for name in unknown))


def _text_parts(lines: list[str], boundary: str) -> Iterator[str]:
    """The lines of a template that are text: all of them, or those of the text parts where it is in parts."""
    is_head = is_other = False
    for line in lines:
        if boundary and line.startswith(f"--{boundary}"):
            is_head, is_other = True, False
        elif is_head:
            is_other = is_other or bool(_NO_TEXT.match(line))
            is_head = bool(line.strip())
        elif not is_other:
            yield "".join(char for char in line if char.isprintable())
