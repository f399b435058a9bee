"""From the online detection to [links.NAME]: one link for each name that routes or accounts stand under."""

from collections.abc import Iterable
from pathlib import Path

from masqmail.config.values import KINDS, BadValue
from masqmail.importing.commands import read_command
from masqmail.importing.document import Value
from masqmail.importing.migration import Migration, Option, Options, good_name
from masqmail.importing.report import Weight
from masqmail.importing.values import BadOldValue
from masqmail.routing.link import ALWAYS, INTERNET
from masqmail.settings import Command, HostPort

_MASQDIALER_PORT = 224
_SECTION = "links"


class Links:
    """Makes links by the names of the old connections, all with the same detector."""

    def __init__(self, migration: Migration, options: Options) -> None:
        self._migration = migration
        self._names: dict[str, str] = {}
        self._notes = migration.document.section(_SECTION)
        self._settings: dict[str, Value] = {"detect": "manual"}
        self._only = ""  # the one name that the detector ever gave
        self._option: Option | None = None
        self._read(options)

    def name_of(self, connection: str, option: Option) -> str:
        """The link of a connection."""
        if connection not in self._names:
            self._names[connection] = self._add(connection, option)
        return self._names[connection]

    def finish(self) -> None:
        """Says what the detection means now."""
        report = self._migration.report
        if not self._names:
            if self._option:
                self._migration.lose(self._notes, self._option, "no routes or accounts depend on a connection")
            return
        if self._option is None:
            names = ", ".join(self._names)
            text = f"nothing told which connection is up, so you tell: masqmail link up NAME, for {names}"
            report.add(Weight.CHECK, text)
        elif self._settings["detect"] in ("command", "masqdialer"):
            self._migration.changed(self._option, "it is asked every 5 seconds now, not once for each message")

    def _add(self, connection: str, option: Option) -> str:
        name = good_name(connection)
        if name == ALWAYS:
            name = "always-2"
        if name in self._names.values():
            name = good_name(f"{name}-2")
        if name != connection:
            self._migration.check(option, f'the link is called "{name}", so whatever tells the name must say that')
        elif name == INTERNET:
            self._migration.check(option, 'this link "internet" takes the place of the one that is found by itself')
        section = self._migration.document.section(_SECTION, name)
        settings = self._settings if self._only in ("", connection) else {"detect": "manual"}
        for key, value in settings.items():
            section[key] = value
        return name

    def _read(self, options: Options) -> None:
        """Finds the detection; without one the links are up when somebody says so."""
        query = options.take("online_query")
        detect = options.take("online_detect")
        file, pipe, server = (options.take(name) for name in ("online_file", "online_pipe", "mserver_iface"))
        used: Option | None = None
        if query:
            used = query
            self._command(query)
        elif detect and detect.value == "file":
            used = file
            self._file(file.value, file) if file else self._missing(detect, "online_file")
        elif detect and detect.value == "pipe":
            used = pipe
            self._command(pipe) if pipe else self._missing(detect, "online_pipe")
        elif detect and detect.value == "mserver":
            used = server
            self._masqdialer(server.value, server) if server else self._missing(detect, "mserver_iface")
        elif detect:
            self._migration.wrong(self._notes, detect, "neither file, pipe nor mserver")
        self._option = used or detect
        for unused in _others((detect if query else None, file, pipe, server), used):
            why = (
                "online_query is used"
                if query
                else f"online_detect = {detect.value if detect else ''} does not use it"
            )
            self._migration.lose(self._notes, unused, why)

    def _missing(self, detect: Option, name: str) -> None:
        self._migration.wrong(self._notes, detect, f"there is no {name}, so nothing was ever online")

    def _file(self, path: str, option: Option) -> None:
        self._use({"detect": "file", "path": path}, Path, path, option)

    def _masqdialer(self, text: str, option: Option) -> None:
        server = text if ":" in text else f"{text}:{_MASQDIALER_PORT}"
        self._use({"detect": "masqdialer", "server": server}, HostPort, server, option)

    def _command(self, option: Option) -> None:
        try:
            command = read_command(option.value, self._migration.dialect)
        except BadOldValue as error:
            self._migration.wrong(self._notes, option, str(error))
            return
        for remark in command.remarks:
            self._migration.changed(option, remark)
        words = command.words
        program = words[0].rpartition("/")[2]
        match [program, *words[1:]]:
            case ["cat", path] if path.startswith("/"):
                self._file(path, option)
            case ["echo", name]:
                self._settings, self._only = {"detect": "always"}, name
                self._migration.changed(option, f'the link "{name}" is always up')
            case ["mservdetect", host, port]:
                self._masqdialer(f"{host}:{port}", option)
            case _:
                self._use({"detect": "command", "command": words}, Command, list(words), option)

    def _use(self, settings: dict[str, Value], kind: object, value: Value, option: Option) -> None:
        try:
            KINDS[kind].read(value)
        except BadValue:
            self._migration.wrong(self._notes, option, f"not {KINDS[kind].name}")
        else:
            self._settings = settings


def _others(options: Iterable[Option | None], used: Option | None) -> list[Option]:
    return [option for option in options if option is not None and option is not used]
