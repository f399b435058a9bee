"""The library IMAPClient, and the `imaplib` below it, on a connection of ours.

They know the protocol's words and read its answers. What they would do besides is kept from them: to connect, to log
what they hear, to wait without a limit, to remember passwords.
"""

import imaplib
import re
from typing import Any

from imapclient import IMAPClient
from imapclient.response_parser import parse_response

from masqmail.mail.status import Status
from masqmail.net.complaints import tidy
from masqmail.net.errors import ConnectionLost
from masqmail.proto.errors import PeerError
from masqmail.retrieval.imapplan import Refusal
from masqmail.retrieval.imapwire import Wire

_SECTION = re.compile(rb"BODY\[[^]]*\](?:<(\d+)>)?", re.IGNORECASE)


class _Imap4(imaplib.IMAP4):
    """The library's connection, over ours. It overrides what `imaplib` calls "overridable methods", and two more."""

    tagged_commands: Any
    untagged_responses: Any

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._line = b""
        super().__init__()

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        pass

    def read(self, size: int) -> bytes:
        return self._wire.read(size)

    def readline(self) -> bytes:
        try:
            self._line = self._wire.readline()
        except ConnectionLost as lost:
            raise self._goodbye() or lost from lost
        return self._line

    def send(self, data: Any) -> None:
        self._wire.send(bytes(data))

    def shutdown(self) -> None:
        pass

    def _connect(self) -> None:
        """Waits for the greeting. Raises `ConnectionLost` for BYE, and `PeerError` for what is none of IMAP."""
        try:
            super()._connect()  # type: ignore[misc]
        except self.error as error:
            if goodbye := self._goodbye():
                raise goodbye from error
            if self.state not in ("NONAUTH", "AUTH"):
                what = f"does not greet us like an IMAP server: {tidy(self._line)}"
                raise PeerError(Status(554, "5.5.0", what)) from error
            raise

    def _get_capabilities(self) -> None:
        """Most servers name them in their greeting, which saves a round trip."""
        if found := self.untagged_responses.pop("CAPABILITY", None):
            self.capabilities = tuple(str(found[-1], "ascii", "replace").upper().split())
        else:
            super()._get_capabilities()  # type: ignore[misc]

    def _command_complete(self, name: str, tag: bytes) -> tuple[str, list[bytes]]:
        """The end of a command. Raises `Refusal` for NO and BAD."""
        while (answer := self.tagged_commands[tag]) is None:
            self._get_response()
            if name != "LOGOUT" and (goodbye := self._goodbye()):
                raise goodbye
        del self.tagged_commands[tag]
        kind, data = answer
        if kind != "OK":
            raise Refusal(self._said(data[-1]))
        return kind, data

    def _goodbye(self) -> ConnectionLost | None:
        """What a BYE of the server means, if it has said that."""
        words = self.untagged_responses.get("BYE")
        return ConnectionLost(f"said goodbye: {self._said(words[-1])}") if words else None

    def _said(self, words: bytes) -> str:
        """What the server says, for people: without the password."""
        return tidy(self._wire.credentials.conceal_line(words))

    def _log(self, line: str) -> None:
        """It would keep the last lines, with passwords."""


class Client(IMAPClient):  # type: ignore[misc]
    """IMAPClient on a connection of ours."""

    def __init__(self, wire: Wire, host: str) -> None:
        self._wire = wire
        super().__init__(host, ssl=False)
        self._imap.debug = 0  # or it writes all it reads into a log, messages and all

    def _create_IMAP4(self) -> _Imap4:  # noqa: N802
        return _Imap4(self._wire)

    def _set_read_timeout(self) -> None:
        pass


def bodies_in(lines: list[Any]) -> dict[tuple[int, int], bytes | None]:
    """The BODY sections in FETCH responses, by UID and offset. Raises `PeerError` for what cannot be read."""
    found: dict[tuple[int, int], bytes | None] = {}
    try:
        words = parse_response(lines)
        for attributes in words[1::2]:  # message number, attributes, ...
            pairs = dict(zip(attributes[::2], attributes[1::2], strict=True))
            for key, content in pairs.items():
                if b"UID" in pairs and (section := _SECTION.fullmatch(key)):
                    found[int(pairs[b"UID"]), int(section[1] or 0)] = content
                    if not isinstance(content, bytes | None):
                        raise ValueError("a section is no text")
    except (IMAPClient.Error, ValueError, TypeError) as error:
        raise PeerError(Status(554, "5.5.0", f"sends an answer that makes no sense: {error}")) from error
    return found
