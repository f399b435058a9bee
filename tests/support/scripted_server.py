"""An SMTP server that does what a test tells it to: a pure machine, and the same behind a loopback port.

It judges by a policy, remembers what it took, and is independent of our own server.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from masqmail.settings import HostPort

#: What a policy answers to make the server hang up without a word ...
DROP = "DROP"
#: ... and to make it do so after it took the message.
TAKE_AND_DROP = "250 TAKE AND DROP"

ALL_KEYWORDS = ("PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE 50000000", "ENHANCEDSTATUSCODES", "DSN")

#: Called with the step (MAIL, RCPT, DATA, CONTENT, EHLO, ...) and its subject; the reply, or None for the usual one.
Policy = Callable[[str, str], str | None]


def no_policy(step: str, subject: str) -> str | None:
    return None


@dataclass(frozen=True)
class Taken:
    """A message the server took responsibility for."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass
class ScriptedServer:
    """Bytes in, replies out. CONTENT is judged by its sender, RCPT by its recipient, in LMTP both."""

    keywords: tuple[str, ...] = ALL_KEYWORDS
    policy: Policy = no_policy
    greeting: str = "220 mx.test ESMTP"
    lmtp: bool = False
    commands: list[str] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    is_closed: bool = False
    wants_tls: bool = False
    password: str = "sesame"

    def __post_init__(self) -> None:
        self._inbox = b""
        self._output = b""
        self._chunk: tuple[int, bool] | None = None  # octets missing, LAST
        self._in_data = False
        self._auth: list[str] | None = None
        self._reset()

    def connect(self) -> bytes:
        """What a client hears first."""
        self._say(self.policy("CONNECT", "") or self.greeting)
        return self._take_output()

    def receive(self, data: bytes) -> bytes:
        self._inbox += data
        while not self.is_closed and not self.wants_tls and self._step():
            pass
        return self._take_output()

    def tls_started(self) -> None:
        self.wants_tls = False
        self._inbox = b""

    def _step(self) -> bool:
        if self._chunk is not None:
            return self._read_chunk()
        if self._in_data:
            return self._read_data()
        line, separator, rest = self._inbox.partition(b"\r\n")
        if not separator:
            return False
        self._inbox = rest
        self._obey(line.decode())
        return True

    def _obey(self, line: str) -> None:
        self.commands.append(line)
        if self._auth is not None:
            self._go_on_with_auth(line)
            return
        verb = line.split(" ")[0].split(":")[0].upper()
        match verb:
            case "EHLO" | "LHLO" | "HELO":
                usual = "250 mx.test" if verb == "HELO" else "\n".join(("mx.test", *self.keywords))
                self._judge(verb, "", usual if verb == "HELO" else _multi_line(250, usual))
            case "STARTTLS":
                self.wants_tls = self._judge("STARTTLS", "", "220 go ahead").startswith("220")
            case "AUTH":
                self._begin_auth(line.split(" "))
            case "RSET":
                self._reset()
                self._judge("RSET", "", "250 reset")
            case "MAIL":
                self._mail(_path(line))
            case "RCPT":
                self._rcpt(_path(line))
            case "DATA":
                self._data()
            case "BDAT":
                words = line.split(" ")
                self._chunk = int(words[1]), "LAST" in words
            case "QUIT":
                self._judge("QUIT", "", "221 bye")
                self.is_closed = True
            case _:
                self._say("500 what?")

    def _mail(self, sender: str) -> None:
        if self._sender is not None:
            self._say("503 5.5.1 nested MAIL")
        elif self._judge("MAIL", sender, "250 2.1.0 fine").startswith("2"):
            self._sender = sender

    def _rcpt(self, recipient: str) -> None:
        if self._sender is None:
            self._say("503 5.5.1 need MAIL")
        elif self._judge("RCPT", recipient, "250 2.1.5 fine").startswith("2"):
            self._recipients.append(recipient)

    def _data(self) -> None:
        if not self._recipients and self.policy("DATA without recipients", "") is None:
            self._say("503 5.5.1 no recipients")
        elif self._judge("DATA", self._sender or "", "354 go on").startswith("354"):
            self._in_data = True

    def _read_data(self) -> bool:
        if self._inbox.startswith(b".\r\n"):
            content, rest = b"", self._inbox[3:]
        else:
            head, separator, rest = self._inbox.partition(b"\r\n.\r\n")
            if not separator:
                return False
            content = head + b"\r\n"
        self._inbox, self._in_data = rest, False
        self._finish((b"\r\n" + content).replace(b"\r\n..", b"\r\n.")[2:])
        return True

    def _read_chunk(self) -> bool:
        assert self._chunk is not None
        size, is_last = self._chunk
        if len(self._inbox) < size:
            return False
        content, self._inbox, self._chunk = self._inbox[:size], self._inbox[size:], None
        assert is_last, "the client sends one chunk per message"
        if not self._recipients:
            self._say("503 5.5.1 no recipients")
        else:
            self._finish(content)
        return True

    def _finish(self, content: bytes) -> None:
        """The end of a message: one reply, or in LMTP one for each recipient."""
        sender = self._sender or ""
        if self.lmtp:
            takers = [who for who in self._recipients if self._judge("CONTENT", who, "250 mine").startswith("2")]
        else:
            is_taken = self._judge("CONTENT", sender, "250 2.0.0 mine").startswith("2") and self._recipients
            takers = self._recipients if is_taken else []
        if takers:
            self.taken.append(Taken(sender, tuple(takers), content))
        self._reset()

    def _begin_auth(self, words: list[str]) -> None:
        if (reply := self.policy("AUTH", words[1])) is not None:
            self._say(reply)
            return
        self._auth = words[1:]
        if len(words) == 2:
            self._say("334 " + {"LOGIN": "VXNlcm5hbWU6", "CRAM-MD5": "PDFAbXgudGVzdD4="}.get(words[1], ""))
        else:
            self._go_on_with_auth(words[2], counted=True)

    def _go_on_with_auth(self, response: str, *, counted: bool = False) -> None:
        assert self._auth is not None
        if not counted:
            self._auth.append(response)
        if self._auth[0] == "LOGIN" and len(self._auth) == 2:
            self._say("334 UGFzc3dvcmQ6")
            return
        self._auth = None
        self._judge("PASSWORD", response, "235 2.7.0 welcome")

    def _judge(self, step: str, subject: str, usual: str) -> str:
        reply = self.policy(step, subject) or usual
        self._say(reply)
        return reply

    def _say(self, reply: str) -> None:
        if self.is_closed:
            return
        if reply in (DROP, TAKE_AND_DROP):
            self.is_closed = True
            return
        self._output += reply.encode() + b"\r\n"
        if reply.startswith("421"):
            self.is_closed = True

    def _take_output(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def _reset(self) -> None:
        self._sender: str | None = None
        self._recipients: list[str] = []


class ContentFilter(ScriptedServer):
    """Hangs up in the middle of a message that is longer than it likes."""

    def receive(self, data: bytes) -> bytes:
        output = super().receive(data)
        self.is_closed |= len(self._inbox) > 100_000
        return output


def _multi_line(code: int, text: str) -> str:
    lines = text.split("\n")
    return "\r\n".join(f"{code}{' ' if line is lines[-1] else '-'}{line}" for line in lines)


def _path(line: str) -> str:
    return line.split("<", 1)[1].split(">", 1)[0]


@dataclass
class Listener:
    """A loopback port whose connections are each served by a new server of `make`."""

    address: HostPort
    servers: list[ScriptedServer]
    resumed: list[bool]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)  # for what a server says unasked


@asynccontextmanager
async def listening(
    make: Callable[[], ScriptedServer],
    *,
    tls: ssl.SSLContext | None = None,
    implicit_tls: bool = False,
    slice_bytes: int = 0,
    path: Path | None = None,
) -> AsyncIterator[Listener]:
    """Serves on loopback, or on a Unix socket, until the block ends.

    With `slice_bytes` replies go out in pieces of that size.
    """
    listener = Listener(HostPort("", 0), [], [])
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = make()
        listener.servers.append(server)
        listener.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks[task] = writer
        try:
            await _serve(server, reader, writer, tls, slice_bytes)
            if (tls_object := writer.get_extra_info("ssl_object")) is not None:
                listener.resumed.append(tls_object.session_reused)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            del tasks[task]
            writer.close()

    if path is not None:
        port = await asyncio.start_unix_server(handle, path)
    else:
        port = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls if implicit_tls else None)
        listener.address = HostPort("127.0.0.1", port.sockets[0].getsockname()[1])
    try:
        yield listener
    finally:
        port.close()
        for writer in tasks.values():
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(
    server: ScriptedServer,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    tls: ssl.SSLContext | None,
    slice_bytes: int,
) -> None:
    output = server.connect()
    while True:
        step = slice_bytes or max(1, len(output))
        for start in range(0, len(output), step):
            writer.write(output[start : start + step])
            await writer.drain()
            if slice_bytes:
                await asyncio.sleep(0)
        if server.is_closed:
            return
        if server.wants_tls:
            assert tls is not None
            plain = writer.transport
            try:
                await writer.start_tls(tls)
            except AttributeError:  # CPython 3.11, when the client goes away in the handshake
                writer._transport = plain  # type: ignore[attr-defined]
                return
            server.tls_started()
        data = await reader.read(65536)
        if not data:
            return
        output = server.receive(data)
