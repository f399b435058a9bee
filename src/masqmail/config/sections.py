"""Puts the configuration together from a TOML document: every section, with the defaults of these surroundings."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from masqmail.config.faults import closest, key_text, quote, write_one_of
from masqmail.config.fetch import FetchSection
from masqmail.config.lines import KeyPath
from masqmail.config.model import (
    BUILT_IN_LINKS,
    DETECTOR_OPTIONS,
    Configuration,
    Host,
    Link,
    Local,
    LocalUser,
    Log,
    Notices,
    Paths,
    Queue,
    Smtp,
    Submission,
)
from masqmail.config.reader import Reader, settings_of
from masqmail.config.routes import IMPLICIT_TLS_PORT, SMTP_PORT, Rewrite, RouteSection
from masqmail.config.surroundings import Surroundings
from masqmail.config.values import BadValue, describe, kind_of
from masqmail.mail.address import Mailbox
from masqmail.settings import Domain, DomainPattern, HostPort

#: Every section by its header, in the order in which people meet them.
HEADERS: Mapping[str, type] = {
    "host": Host,
    "paths": Paths,
    "submission": Submission,
    "queue": Queue,
    "smtp": Smtp,
    **{f"links.NAME, detect = {word}": kind for word, kind in DETECTOR_OPTIONS.items()},
    "routes.NAME": RouteSection,
    "routes.NAME.rewrite": Rewrite,
    "local": Local,
    "local.users.NAME": LocalUser,
    "fetch.NAME": FetchSection,
    "notices": Notices,
    "log": Log,
}

_NAMES = tuple(dict.fromkeys(header.partition(".")[0] for header in HEADERS))
_GOOD_NAME = re.compile(r"[\w.+-]{1,64}")
_USER_SMTP_PORT = 2525

Section = TypeVar("Section")


def header_of(key: str) -> str:
    """A section that knows this setting, or nothing."""
    header = next((header for header, kind in HEADERS.items() if key in settings_of(kind)), "")
    return header.partition(",")[0]


def assemble(
    document: dict[str, Any], reader: Reader, surroundings: Surroundings, *, folder: Path, path: Path | None
) -> Configuration:
    """Reads every section; faults are noted in the reader, and a value with a fault is its default here."""
    return _Assembly(document, reader, surroundings, folder).configuration(path)


class _Assembly:
    def __init__(self, document: dict[str, Any], reader: Reader, surroundings: Surroundings, folder: Path) -> None:
        self._document = document
        self._reader = reader
        self._faults = reader.faults
        self._surroundings = surroundings
        self._folder = folder

    def configuration(self, path: Path | None) -> Configuration:
        surroundings = self._surroundings
        for key, value in self._document.items():
            if key not in _NAMES:
                self._unknown_section(key, value)
        host = self._host()
        trusted = ("root",) if surroundings.is_root else ("root", surroundings.user_name)
        return Configuration(
            path=path,
            host=host,
            paths=self._plain(Paths, "paths", spool=surroundings.default_spool, runtime=surroundings.default_runtime),
            submission=self._plain(Submission, "submission", trusted_users=trusted),
            queue=self._plain(Queue, "queue"),
            smtp=self._smtp(),
            links=self._links(),
            routes=self._routes(),
            local=self._local(host.user),
            fetch=self._fetch(),
            notices=self._plain(Notices, "notices"),
            log=self._plain(Log, "log"),
        )

    def _unknown_section(self, key: str, value: object) -> None:
        if not isinstance(value, dict | list):
            self._reader.unknown(key, (), ())
            return
        likely = closest(key, _NAMES)
        known = ", ".join(f"[{name}]" for name in _NAMES)
        instead = f"write [{likely}]" if likely else f"take it out; there are {known}"
        self._faults.add((key,), f"there is no section [{key_text((key,))}]", instead)

    def _plain(self, kind: type[Section], name: str, /, **defaults: object) -> Section:
        """A section that stands once in the file."""
        table = self._document.get(name, {})
        return self._reader.section(kind, table, (name,), defaults=defaults) or kind(**defaults)

    def _host(self) -> Host:
        surroundings = self._surroundings
        host = self._plain(
            Host,
            "host",
            name=self._system_name(),
            postmaster=Mailbox("root" if surroundings.is_root else surroundings.user_name),
            user=surroundings.service_account if surroundings.is_root else surroundings.user_name,
            group=surroundings.service_account if surroundings.is_root else surroundings.group_name,
            local_domains=(),
        )
        if "local_domains" in self._table("host"):
            return host
        domains = dict.fromkeys(("localhost", host.name.partition(".")[0], host.name))
        return replace(host, local_domains=tuple(map(DomainPattern, domains)))

    def _system_name(self) -> object:
        """The system's host name, unless it is none that could be told to others."""
        try:
            return kind_of(Domain).read(self._surroundings.host_name)
        except BadValue:
            return Domain("localhost")

    def _smtp(self) -> Smtp:
        port = SMTP_PORT if self._surroundings.is_root else _USER_SMTP_PORT
        smtp = self._plain(
            Smtp,
            "smtp",
            listen=(HostPort("127.0.0.1", port), HostPort("::1", port)),
            users=self._folder / "users",
        )
        return replace(
            smtp,
            listen=tuple(HostPort(address.host, address.port or port) for address in smtp.listen),
            tls_listen=tuple(
                HostPort(address.host, address.port or IMPLICIT_TLS_PORT) for address in smtp.tls_listen
            ),
        )

    def _local(self, user: str) -> Local:
        users: dict[str, LocalUser] = {}
        tables = self._take("local", "users")
        for name, table, path in self._named(tables, ("local", "users")):
            if own := self._reader.section(LocalUser, table, path):
                users[name] = own
        defaults: dict[str, object] = {} if self._surroundings.is_root else {"aliases": ()}
        alias_user = user if user != "root" else "nobody"
        local = self._plain(Local, "local", alias_user=alias_user, **defaults)
        return replace(local, users=users)

    def _links(self) -> dict[str, Link]:
        links = dict(BUILT_IN_LINKS)
        for name, table, path in self._named(self._document.get("links", {}), ("links",)):
            if link := self._link(name, table, path):
                links[name] = link
        return links

    def _link(self, name: str, table: dict[str, Any], path: KeyPath) -> Link | None:
        if self._faults.at("links", name, "detect"):
            return None  # refused by name; its other settings belong to that detector
        word = table.pop("detect", None)
        if isinstance(word, str) and word in DETECTOR_OPTIONS:
            options = self._reader.section(DETECTOR_OPTIONS[word], table, path)
            return Link(name, word, options) if options is not None else None
        advice = write_one_of(word, tuple(DETECTOR_OPTIONS))
        if word is None:
            self._faults.add(path, f"[{key_text(path)}] needs detect", advice.replace("write", "write detect =", 1))
        else:
            self._faults.add((*path, "detect"), f"there is no detector {describe(word)}", advice)
        return None

    def _routes(self) -> dict[str, RouteSection]:
        routes: dict[str, RouteSection] = {}
        for name, table, path in self._named(self._document.get("routes", {}), ("routes",)):
            self._refuse_password(table, path)
            if table.get("wrapper") == []:
                del table["wrapper"]  # asks for nothing
            rewrite = self._reader.section(Rewrite, table.pop("rewrite", {}), (*path, "rewrite"))
            parts = {"name": name, "rewrite": rewrite or Rewrite()}
            if route := self._reader.section(RouteSection, table, path, parts=parts):
                hops = tuple(HostPort(hop.host, route.port_for(hop)) for hop in route.smarthost)
                routes[name] = replace(route, smarthost=hops)
        return routes

    def _fetch(self) -> dict[str, FetchSection]:
        accounts: dict[str, FetchSection] = {}
        for name, table, path in self._named(self._document.get("fetch", {}), ("fetch",)):
            self._refuse_password(table, path)
            if table.get("wrapper") == []:
                del table["wrapper"]  # asks for nothing
            if account := self._reader.section(FetchSection, table, path, parts={"name": name}):
                accounts[name] = account.with_port()
        return accounts

    def _refuse_password(self, table: dict[str, Any], path: KeyPath) -> None:
        if table.pop("password", None) is not None:
            self._faults.add(
                (*path, "password"),
                f"{key_text(path)}.password is in a file that everybody may read",
                "write password_file, password_command or password_credential",
            )

    def _named(self, tables: object, path: tuple[str, ...]) -> list[tuple[str, dict[str, Any], KeyPath]]:
        """The sections [PATH.NAME], those that are none left out with a fault."""
        header = key_text(path)
        if not isinstance(tables, dict):
            self._faults.add(path, f"{header} is {describe(tables)}", f"write sections: [{header}.NAME]")
            return []
        found: list[tuple[str, dict[str, Any], KeyPath]] = []
        for name, table in tables.items():
            place = (*path, name)
            if not isinstance(table, dict):
                wrong = f"{key_text(place)} is {describe(table)}, and [{header}] has only sections below it"
                self._faults.add(place, wrong, f"write [{header}.NAME] above it, with a name of your choice")
            elif not _GOOD_NAME.fullmatch(name):
                self._faults.add(place, f"{quote(name)} is no name", "write letters, digits and . _ + - (64 at most)")
            else:
                found.append((name, table, place))
        return found

    def _table(self, name: str) -> dict[str, Any]:
        table = self._document.get(name, {})
        return table if isinstance(table, dict) else {}

    def _take(self, name: str, key: str) -> object:
        """A part of a section, taken out of it."""
        return self._table(name).pop(key, {})
