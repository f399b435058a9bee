"""Aliases and local delivery as [local]."""

import re
from pathlib import Path

from masqmail.importing.commands import read_delivery_command
from masqmail.importing.migration import Migration, Option, Options
from masqmail.importing.report import Weight
from masqmail.importing.values import BadOldValue
from masqmail.routing.aliasfile import ItemKind, parse
from masqmail.settings import Command, UserPath

_STORES = ("mbox", "mda", "maildir")
_GOOD_USER = re.compile(r"[\w.+-]{1,64}")
_TEXT_BEHIND_QUOTE = re.compile(r'"(?:[^"\\]|\\.)*"\s*[^,\s][^,]*')
_LONGEST_LINE = 254
_NO_FROM = "programs of aliases and the mda get the message as it is, without a From line"


class LocalMail:
    """Reads what the main file says about delivery on this host."""

    def __init__(self, migration: Migration, options: Options) -> None:
        self._migration = migration
        self._options = options
        self._section = migration.document.section("local")

    def read(self) -> None:
        section, take = self._section, self._options.take
        folder = take("mail_dir")
        if folder:
            self._migration.put(section, "mbox", UserPath, f"{folder.value.rstrip('/')}/${{user}}", folder)
        self._aliases()
        self._case()
        self._stores()
        if self._migration.flag(take("do_save_envelope_to"), section):
            section["save_envelope_to"] = True
        for option in self._options.take_all(("pipe_from", "mda_from")):
            self._migration.lose(section, option, _NO_FROM)

    def _case(self) -> None:
        old, new = self._options.take("alias_local_caseless"), self._options.take("caseless_matching")
        is_caseless = self._migration.flag(old, self._section) | self._migration.flag(new, self._section)
        self._section["match_case"] = not is_caseless

    def _aliases(self) -> None:
        section = self._section
        alias, globs = self._options.take("alias_file"), self._options.take("globalias_file")
        section["aliases"] = []
        if alias and alias.value.startswith("/"):
            if self._migration.put_list(section, "aliases", Path, [alias.value], alias):
                self._examine(alias)
        elif alias:
            self._migration.wrong(section, alias, "no absolute path")
        if globs and globs.value.startswith("/"):
            self._migration.put_list(section, "glob_aliases", Path, [globs.value], globs)
        elif globs:
            self._migration.wrong(section, globs, "no absolute path")

    def _examine(self, option: Option) -> None:
        """Says which lines of the alias file read differently now."""
        text = self._migration.files.read(option.value)
        if text is None:
            self._migration.check(option, "the file cannot be read; the path is kept")
            return
        report = self._migration.report
        for number, line in enumerate(text.splitlines(), 1):
            for what in _differences(line):
                report.add(Weight.CHANGED, what, place=f"{option.value}:{number}")
        table = parse(text, option.value)
        for fault in table.faults:
            report.add(Weight.CHECK, fault.reason, place=f"{fault.file}:{fault.line}")
        kinds = {
            ItemKind.FILE: "the target is a file, to which mail is appended now",
            ItemKind.INCLUDE: "the list is read now",
            ItemKind.PIPE: "the program runs as alias_user now, without a shell",
        }
        for entry in table.entries:
            for item in entry.items:
                if item.kind in kinds:
                    report.add(Weight.CHANGED, kinds[item.kind], entry.name, f"{option.value}:{entry.line}")

    def _stores(self) -> None:
        section, take = self._section, self._options.take
        mda = self._mda(take("mda"))
        default = take("mbox_default")
        if default and default.value not in _STORES:
            self._migration.wrong(
                section, default, "neither mbox, mda nor maildir, so local mail waited for ever; mbox is used"
            )
        store = default.value if default and default.value in _STORES else "mbox"
        if store == "mda" and not mda:
            assert default is not None
            self._migration.check(default, "there is no mda that could be used, so mbox is")
            store = "mbox"
        section["delivery"] = store
        for name in _STORES:  # the first one that names a user counted
            option = take(f"{name}_users")
            for user in self._migration.items(option):
                assert option is not None
                self._user(user, name if name != "mda" or mda else "mbox", option)

    def _user(self, user: str, store: str, option: Option) -> None:
        if not _GOOD_USER.fullmatch(user):
            self._migration.wrong(self._section, option, f'"{user}" is no user')
            return
        if user != user.lower():  # the lists did not care, and accounts are hardly ever called so
            self._migration.changed(option, f'case did not count here, and does now: {user} is "{user.lower()}"')
        user = user.lower()
        section = self._migration.document.section("local", "users", user)
        if "delivery" in section:
            self._migration.changed(option, f"{user} is in two lists; {section['delivery']} is used")
        else:
            section["delivery"] = store

    def _mda(self, option: Option | None) -> bool:
        """Whether there is a program that delivers."""
        if option is None:
            return False
        try:
            command = read_delivery_command(option.value, self._migration.dialect)
        except BadOldValue as error:
            self._migration.wrong(self._section, option, str(error))
            return False
        for remark in command.remarks:
            self._migration.changed(option, remark)
        self._migration.changed(
            option, "it ran as the account mail; see docs/reference/delivery.md for whom it runs as now"
        )
        return self._migration.put(self._section, "mda", Command, list(command.words), option)


def _differences(line: str) -> list[str]:
    """What a line of an alias file meant to the old program and does not mean now."""
    found = []
    if line[:1] in (" ", "\t") and line.strip():
        found.append("the line was an entry of its own, and continues the one above now")
    if not line.startswith("#"):
        if _TEXT_BEHIND_QUOTE.search(line.partition(":")[2]):
            found.append("text behind a closing quote was lost, and belongs to the target now")
        if len(line.encode(errors="replace")) > _LONGEST_LINE:
            found.append(f"the line was cut at {_LONGEST_LINE} bytes, and is read whole now")
    return found
