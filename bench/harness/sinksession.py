"""The server's side of an SMTP session that takes everything: bytes in, replies out. No socket, no clock.

It does what a good submission server does (PIPELINING, CHUNKING, 8BITMIME, SIZE, STARTTLS, AUTH) and keeps nothing
but the identity and size of each message. It is written for benchmarks: quick, and strict where that shows a
client's fault.
"""

import base64
import re
from dataclasses import dataclass

_MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_END_OF_DATA = b"\r\n.\r\n"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the server is like. With a `login` nobody sends without it; `works` says that each message takes time."""

    chunking: bool = True
    pipelining: bool = True
    starttls: bool = False
    login: tuple[str, str] | None = None
    works: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that the server answered for."""

    message_id: str
    size_bytes: int


class SinkSession:
    """One session. After `take_replies` look at `wants_tls`, `is_working` and `is_over`."""

    def __init__(self, offer: Offer, *, tls_is_on: bool = False) -> None:
        self._offer = offer
        self._tls_is_on = tls_is_on
        self._inbox = bytearray()
        self._replies: list[bytes] = [b"220 sink.example ESMTP\r\n"]
        self._accepted: list[Accepted] = []
        self._finished: Accepted | None = None  # and being worked on
        self._content = bytearray()
        self._chunk: tuple[int, bool] | None = None  # size of a BDAT, and whether it is the last
        self._in_data = False
        self._searched = 0  # bytes of the inbox known to hold no end of data
        self._auth: list[str] | None = None  # answers of an AUTH that goes on; its mechanism is first
        self._is_logged_in = offer.login is None
        self._recipients = 0
        self._has_sender = False
        self._taken = 0
        self.wants_tls = False
        self.is_over = False

    @property
    def is_working(self) -> bool:
        """Whether a message is being worked on; `done_working` ends that."""
        return self._finished is not None

    def done_working(self) -> None:
        assert self._finished is not None
        self._accept(self._finished)
        self._finished = None

    def receive(self, data: bytes) -> None:
        self._inbox += data

    def take_replies(self) -> bytes:
        """Goes on as far as the bytes allow."""
        while not (self.wants_tls or self.is_over or self.is_working) and self._step():
            pass
        replies = b"".join(self._replies)
        self._replies.clear()
        return replies

    def take_accepted(self) -> list[Accepted]:
        accepted, self._accepted = self._accepted, []
        return accepted

    def tls_started(self) -> None:
        """What came before counts no more, RFC 3207 §4.2."""
        self.wants_tls, self._tls_is_on = False, True
        self._inbox.clear()
        self._is_logged_in = self._offer.login is None
        self._reset()

    def _step(self) -> bool:
        """One command or piece of content; False when more bytes must come."""
        if self._chunk is not None:
            return self._take_chunk(*self._chunk)
        if self._in_data:
            return self._take_data()
        end = self._inbox.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 2]
        if self._auth is not None:
            self._go_on_with_auth(line)
            return True
        verb, _, rest = line.partition(b" ")
        self._obey(verb.upper(), rest)
        if self._inbox and not self._offer.pipelining and self._chunk is None:
            self.is_over = True  # as OpenSMTPD does with those who do not wait
        return True

    def _obey(self, verb: bytes, rest: bytes) -> None:
        match verb:
            case b"EHLO":
                self._reset()
                self._say_hello()
            case b"HELO" | b"RSET" | b"NOOP":
                if verb != b"NOOP":
                    self._reset()
                self._say(b"250 2.0.0 Ok")
            case b"MAIL":
                self._begin()
            case b"RCPT":
                self._recipients += self._has_sender
                self._say(b"250 2.1.5 Ok" if self._has_sender else b"503 5.5.1 MAIL first")
            case b"DATA":
                self._in_data, self._searched = bool(self._recipients), 0
                self._say(b"354 End data with <CR><LF>.<CR><LF>" if self._in_data else b"503 5.5.1 RCPT first")
            case b"BDAT" if self._offer.chunking:
                size, _, last = rest.partition(b" ")
                self._chunk = (int(size), last.upper() == b"LAST")
            case b"STARTTLS" if self._offer.starttls and not self._tls_is_on:
                self._say(b"220 2.0.0 Ready to start TLS")
                self.wants_tls = True
            case b"AUTH":
                self._begin_auth(rest.decode())
            case b"QUIT":
                self._say(b"221 2.0.0 Bye")
                self.is_over = True
            case _:
                self._say(b"500 5.5.2 What?")

    def _say(self, reply: bytes) -> None:
        self._replies.append(reply + b"\r\n")

    def _say_hello(self) -> None:
        words = ["sink.example", "SIZE 50000000", "8BITMIME", "ENHANCEDSTATUSCODES"]
        words += ["PIPELINING"] * self._offer.pipelining + ["CHUNKING"] * self._offer.chunking
        if self._offer.starttls and not self._tls_is_on:
            words.append("STARTTLS")
        elif self._offer.login is not None:
            words.append("AUTH PLAIN LOGIN")
        self._say("\r\n".join([*(f"250-{word}" for word in words[:-1]), f"250 {words[-1]}"]).encode())

    # transactions

    def _reset(self) -> None:
        self._has_sender, self._recipients = False, 0
        self._content.clear()

    def _begin(self) -> None:
        if not self._is_logged_in:
            self._say(b"530 5.7.0 Authentication required")
        elif self._has_sender:
            self._say(b"503 5.5.1 There is a transaction already")
        else:
            self._has_sender = True
            self._say(b"250 2.1.0 Ok")

    def _take_chunk(self, size: int, is_last: bool) -> bool:
        if len(self._inbox) < size:
            return False
        self._content += self._inbox[:size]
        del self._inbox[:size]
        self._chunk = None
        if not self._recipients:
            self._say(b"503 5.5.1 RCPT first")
        elif is_last:
            self._end_content()
        else:
            self._say(b"250 2.0.0 Ok: %d bytes" % size)
        return True

    def _take_data(self) -> bool:
        if self._inbox.startswith(b".\r\n"):
            end = 0
        elif (found := self._inbox.find(_END_OF_DATA, self._searched)) < 0:
            self._searched = max(0, len(self._inbox) - len(_END_OF_DATA))
            return False
        else:
            end = found + 2
        self._content += self._inbox[:end]
        del self._inbox[: end + 3]
        self._in_data = False
        self._end_content()
        return True

    def _end_content(self) -> None:
        header = bytes(self._content.partition(b"\r\n\r\n")[0])
        found = _MESSAGE_ID.search(header)
        message = Accepted(found[1].decode(errors="replace") if found else "", len(self._content))
        self._reset()
        if self._offer.works:
            self._finished = message
        else:
            self._accept(message)

    def _accept(self, message: Accepted) -> None:
        self._accepted.append(message)
        self._taken += 1
        self._say(b"250 2.0.0 Ok: queued as %012X" % self._taken)

    # logging in

    def _begin_auth(self, text: str) -> None:
        mechanism, _, initial = text.partition(" ")
        if self._offer.login is None or (self._offer.starttls and not self._tls_is_on):
            self._say(b"503 5.5.1 Not now")
            return
        self._auth = [mechanism.upper()]
        if initial:
            self._go_on_with_auth(initial.encode())
        else:
            self._say(b"334 " + (b"VXNlcm5hbWU6" if mechanism.upper() == "LOGIN" else b""))

    def _go_on_with_auth(self, line: bytes) -> None:
        assert self._auth is not None
        self._auth.append(base64.b64decode(line).decode())
        match self._auth:
            case ["LOGIN", _]:
                self._say(b"334 UGFzc3dvcmQ6")
                return
            case ["LOGIN", user, password]:
                shown = (user, password)
            case ["PLAIN", answer] if answer.count("\0") == 2:
                shown = (answer.split("\0")[1], answer.split("\0")[2])
            case _:
                shown = ("", "")
        self._auth = None
        self._is_logged_in = shown == self._offer.login
        self._say(b"235 2.7.0 Authentication successful" if self._is_logged_in else b"535 5.7.8 No")
