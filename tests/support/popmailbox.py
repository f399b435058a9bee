"""A POP3 server with mail, on the loopback ports of `scripted_server`, that can be as odd as a test wants it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from support.popserver import PopServer

#: What a server with everything announces.
ALL_CAPABILITIES = ("TOP", "UIDL", "PIPELINING", "USER", "SASL PLAIN")


@dataclass
class Mail:
    """A message on the server; its content is what a client that undoes the dots has to get."""

    uid: str
    content: bytes
    listed_size: int | None = None  # where LIST lies

    @property
    def size(self) -> int:
        return len(self.content) if self.listed_size is None else self.listed_size


def mail(uid: str, text: str = "", *, size: int = 0) -> Mail:
    """A small message, or one of about this size."""
    content = f"Subject: {uid}\r\n\r\n{text or f'This is {uid}.'}\r\n".encode()
    while len(content) < size:
        content += b"0123456789" * 7 + b"\r\n"
    return Mail(uid, content)


def stuffed(content: bytes) -> bytes:
    """Text as it travels, with its end."""
    whole = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    return whole + (b"" if not content or content.endswith(b"\r\n") else b"\r\n") + b".\r\n"


@dataclass
class PopMailbox:
    """A mailbox, and what is remarkable about its server. Each connection is served by a new `MailboxServer`."""

    mails: list[Mail] = field(default_factory=list)
    capabilities: tuple[str, ...] = ALL_CAPABILITIES
    missing: frozenset[str] = frozenset()  # commands that it does not know
    refuse: dict[str, int] = field(default_factory=dict)  # "RETR 2": so many more times with -ERR
    drop_at: int | None = None  # closes the connection behind so many bytes of mail
    uidl_tail: str = ""  # behind each line
    list_at_most: int | None = None  # lines of LIST before its dot
    rewrite: Callable[[str, bytes], bytes] | None = None  # has the last word on each reply
    garbled: bool = False  # says +OK to the next RETR before the end of the message before it
    sessions: list["MailboxServer"] = field(default_factory=list)

    def serve(self) -> "MailboxServer":
        server = MailboxServer(capabilities=self.capabilities, mailbox=self)
        self.sessions.append(server)
        return server

    @property
    def uids(self) -> list[str]:
        return [mail.uid for mail in self.mails]

    def commands(self, session: int = -1) -> list[str]:
        """What was said behind the log-in."""
        said = self.sessions[session].commands
        return said[next(i for i, line in enumerate(said) if line.startswith(("AUTH", "APOP", "PASS"))) + 1 :]


@dataclass
class MailboxServer(PopServer):
    """One session. `most_at_once` says how many commands were here together."""

    mailbox: PopMailbox = field(default_factory=PopMailbox)
    most_at_once: int = 0
    has_quit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._mails = list(self.mailbox.mails)
        self._deleted: set[int] = set()
        self._sent_bytes = 0
        self._said_too_early = b""

    def receive(self, data: bytes) -> bytes:
        self._inbox += data
        self.most_at_once = max(self.most_at_once, self._inbox.count(b"\r\n"))
        while not self.is_closed and not self.wants_tls and self._step():
            pass
        return self._take_output()

    def _obey(self, line: str) -> None:
        verb, *words = line.split(" ")
        if verb in self.mailbox.missing or self._is_refused(line) or self._is_refused(verb):
            self.commands.append(line)
            self._send(line, b"-ERR not this time\r\n")
        elif verb not in ("STAT", "LIST", "UIDL", "TOP", "RETR", "DELE", "NOOP", "QUIT"):
            before, self._output = self._output, b""
            super()._obey(line)
            reply, self._output = self._output, before
            self._send(line, reply)
        else:
            self.commands.append(line)
            self._send(line, self._reply(verb, words))

    def _is_refused(self, what: str) -> bool:
        times = self.mailbox.refuse.get(what, 0)
        if times:
            self.mailbox.refuse[what] = times - 1
        return times > 0

    def _reply(self, verb: str, words: list[str]) -> bytes:
        there = [(number, mail) for number, mail in enumerate(self._mails, 1) if number not in self._deleted]
        match verb:
            case "STAT":
                return f"+OK {len(there)} {sum(mail.size for _, mail in there)}\r\n".encode()
            case "LIST":
                return _listing(f"{number} {mail.size}" for number, mail in there[: self.mailbox.list_at_most])
            case "UIDL":
                return _listing(f"{number} {mail.uid}{self.mailbox.uidl_tail}" for number, mail in there)
            case "QUIT":
                gone = {id(mail) for number, mail in enumerate(self._mails, 1) if number in self._deleted}
                self.mailbox.mails[:] = [mail for mail in self.mailbox.mails if id(mail) not in gone]
                self.has_quit = self.is_closed = True
                return b"+OK Bye\r\n"
            case "NOOP":
                return b"+OK\r\n"
        number = int(words[0])
        if number in self._deleted or not 1 <= number <= len(self._mails):
            return b"-ERR no such message\r\n"
        content = self._mails[number - 1].content
        if verb == "DELE":
            self._deleted.add(number)
            return b"+OK gone\r\n"
        if verb == "TOP":
            head, separator, _ = content.partition(b"\r\n\r\n")
            content = head + separator
        return b"+OK here it is\r\n" + stuffed(content)

    def _send(self, line: str, reply: bytes) -> None:
        if self.mailbox.rewrite is not None:
            reply = self.mailbox.rewrite(line, reply)
        if self.mailbox.garbled and line.startswith("RETR"):
            reply = reply.removeprefix(self._said_too_early)
            self._said_too_early = b""
            if self._inbox.startswith(b"RETR"):
                self._said_too_early = b"+OK here it is\r\n"
                reply = reply.removesuffix(b".\r\n") + self._said_too_early + b".\r\n"
        if self.mailbox.drop_at is not None and line.startswith("RETR"):
            room = self.mailbox.drop_at - self._sent_bytes
            self._sent_bytes += len(reply)
            if len(reply) > room:
                reply, self.is_closed = reply[: max(0, room)], True
        self._output += reply


def _listing(lines: "object") -> bytes:
    return "".join(f"{line}\r\n" for line in ("+OK", *lines, ".")).encode()  # type: ignore[misc]
