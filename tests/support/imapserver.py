"""An IMAP server that does what a test tells it to, on the loopback ports of `scripted_server`.

It knows the commands that our client uses and no others. Its mail is in `Box`es, which connections share.
"""

import base64
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from support.scripted_server import ScriptedServer

_COMMAND = re.compile(r"(\S+) (UID )?(\S+) ?(.*)")
_PART = re.compile(r"BODY\.PEEK\[(HEADER)?\]<(\d+)\.(\d+)>")

CAPABILITIES = ("IMAP4rev1", "UIDPLUS", "IDLE", "ESEARCH", "SASL-IR", "AUTH=PLAIN")


@dataclass
class Mail:
    """A message on the server. `size_bytes` is what the server says of it."""

    content: bytes
    flags: set[str] = field(default_factory=set)
    size_bytes: int = -1

    @property
    def said_size(self) -> int:
        return len(self.content) if self.size_bytes < 0 else self.size_bytes


@dataclass
class Box:
    """A folder."""

    mails: dict[int, Mail] = field(default_factory=dict)
    uid_validity: int = 7
    uid_next: int = 1

    def add(self, *contents: bytes) -> list[int]:
        """Puts messages in and returns their UIDs."""
        uids = []
        for content in contents:
            self.mails[self.uid_next] = Mail(content)
            uids.append(self.uid_next)
            self.uid_next += 1
        return uids

    def numbered(self) -> list[tuple[int, int, Mail]]:
        """Message number, UID and message."""
        return [(number, uid, mail) for number, (uid, mail) in enumerate(sorted(self.mails.items()), 1)]


#: Changes the bytes of one answer, for servers that do not do as they should.
Mangle = Callable[[str, bytes], bytes]


@dataclass
class ImapServer(ScriptedServer):
    """Takes any name, and the password that it has. The policy is asked for each command, CONNECT included.

    What it returns stands for the end of the answer: "NO [CODE] no", "OK fine" or DROP. After `cut_after` octets the
    connection is cut. With `most_octets` it hands out less than was asked for.
    """

    greeting: str = "* OK [CAPABILITY {}] Hello"
    capabilities: tuple[str, ...] = CAPABILITIES
    boxes: dict[str, Box] = field(default_factory=lambda: {"INBOX": Box()})
    cut_after: int | None = None
    most_octets: int | None = None
    mangle: Mangle = lambda command, answer: answer
    idles: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.box: Box | None = None
        self._tag = ""
        self._sent = 0
        self._will_deflate = False
        self._deflater: zlib._Compress | None = None
        self._inflater: zlib._Decompress | None = None

    def connect(self) -> bytes:
        self._say(self.policy("CONNECT", "") or self.greeting.format(" ".join(self.capabilities)))
        return self._take_output()

    def receive(self, data: bytes) -> bytes:
        output = super().receive(self._inflater.decompress(data) if self._inflater else data)
        if self.cut_after is not None and self._sent + len(output) >= self.cut_after:
            output = output[: self.cut_after - self._sent]
            self.is_closed = True
        self._sent += len(output)
        return output

    def _take_output(self) -> bytes:
        output = super()._take_output()
        if self._deflater is not None and output:
            output = self._deflater.compress(output) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        if self._will_deflate:
            self._will_deflate = False
            self._deflater, self._inflater = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        return output

    def _obey(self, line: str) -> None:
        self.commands.append(line)
        if self.idles:
            self.idles = False
            self._end("IDLE", "")
        elif self._auth is not None:
            self._finish_auth(line)
        else:
            match = _COMMAND.fullmatch(line)
            assert match is not None, f"no IMAP command: {line!r}"
            self._tag = match[1]
            self._carry_out((match[2] or "") + match[3].upper(), match[4])

    def _carry_out(self, verb: str, rest: str) -> None:
        before = len(self._output)
        match verb:
            case "CAPABILITY":
                self._say("* CAPABILITY " + " ".join(self.capabilities))
                self._end(verb, rest)
            case "STARTTLS":
                self.wants_tls = self._end(verb, rest)
            case "LOGIN":
                is_right = rest.split(" ", 1)[1] == '"' + self.password + '"'
                self._end(verb, rest, "OK in" if is_right else "NO [AUTHENTICATIONFAILED] Wrong password")
            case "AUTHENTICATE":
                self._begin(rest)
            case "COMPRESS":
                self._will_deflate = self._end(verb, rest)
            case "SELECT" | "EXAMINE":
                self._select(verb, rest)
            case "UID SEARCH":
                self._search(rest)
                self._end(verb, rest)
            case "UID FETCH" | "FETCH":
                self._fetch(verb, rest)
                self._end(verb, rest)
            case "UID STORE":
                for _, mail in self._chosen(rest.split(" ")[0]):
                    mail.flags.add("\\Deleted")
                self._end(verb, rest)
            case "UID EXPUNGE" | "EXPUNGE":
                self._expunge(rest or "1:*")
                self._end(verb, rest)
            case "UID COPY" | "UID MOVE":
                self._copy(verb, *rest.split(" ", 1))
            case "CREATE":
                if self._end(verb, rest):
                    self.boxes[rest.strip('"')] = Box()
            case "IDLE":
                if (reply := self.policy("IDLE", "")) is not None:
                    self._say(reply if reply == "DROP" else f"{self._tag} {reply}")
                else:
                    self._say("+ idling")
                    self.idles = True
            case "LOGOUT":
                self._say("* BYE see you")
                self._end(verb, rest)
                self.is_closed = True
            case "NOOP" | "ID" | "SUBSCRIBE":
                self._end(verb, rest)
            case _:
                self._say(f"{self._tag} BAD What?")
        self._output = self._output[:before] + self.mangle(f"{verb} {rest}", self._output[before:])

    def _end(self, verb: str, rest: str, usual: str = "OK done") -> bool:
        reply = self.policy(verb, rest) or usual
        self._say(reply if reply == "DROP" else f"{self._tag} {reply}")
        return reply.startswith("OK")

    def _begin(self, rest: str) -> None:
        name, _, initial = rest.partition(" ")
        self._auth = [name]
        if (reply := self.policy("AUTHENTICATE", name)) is not None:
            self._auth = None
            self._say(reply if reply == "DROP" else f"{self._tag} {reply}")
        elif initial:
            self._finish_auth(initial)
        else:
            self._say("+ " + {"CRAM-MD5": "PDFAbXgudGVzdD4="}.get(name, ""))

    def _finish_auth(self, response: str) -> None:
        assert self._auth is not None
        (name,), self._auth = self._auth, None
        proof = base64.b64decode(response).decode()
        is_right = name != "PLAIN" or proof.split("\0")[2] == self.password
        self._end("PROOF", proof, "OK in" if is_right else "NO [AUTHENTICATIONFAILED] Wrong password")

    def _select(self, verb: str, rest: str) -> None:
        self.box = self.boxes.get(rest.strip('"'))
        if self.box is None:
            self._end(verb, rest, "NO [NONEXISTENT] No such folder")
            return
        self._say(f"* {len(self.box.mails)} EXISTS")
        self._say("* 0 RECENT")
        self._say("* FLAGS (\\Answered \\Deleted)")
        self._say(f"* OK [UIDVALIDITY {self.box.uid_validity}] UIDs valid")
        self._say(f"* OK [UIDNEXT {self.box.uid_next}] Predicted next UID")
        self._end(verb, rest, "OK [READ-WRITE] done" if verb == "SELECT" else "OK [READ-ONLY] done")

    def _search(self, rest: str) -> None:
        assert self.box is not None
        words = rest.removeprefix("RETURN (ALL) ").split(" ")
        if words[0] == "DELETED":
            found = [uid for _, uid, mail in self.box.numbered() if "\\Deleted" in mail.flags]
        elif words[0] == "UID":
            found = [uid for uid, _ in self._chosen(words[1])]
        elif words[0] == "ALL":
            found = sorted(self.box.mails)
        else:
            numbers = _numbers(words[0], len(self.box.mails))
            found = [uid for number, uid, _ in self.box.numbered() if number in numbers]
        if rest.startswith("RETURN"):
            some = f" ALL {','.join(map(str, found))}" if found else ""
            self._say(f'* ESEARCH (TAG "{self._tag}") UID{some}')
        else:
            self._say(" ".join(("* SEARCH", *map(str, found))))

    def _fetch(self, verb: str, rest: str) -> None:
        assert self.box is not None
        numbers, _, items = rest.partition(" ")
        for number, uid, mail in self.box.numbered():
            highest = max(self.box.mails) if verb.startswith("UID") else len(self.box.mails)
            if (uid if verb.startswith("UID") else number) not in _numbers(numbers, highest):
                continue
            words = [f"UID {uid}"]
            if "RFC822.SIZE" in items:
                words.append(f"RFC822.SIZE {mail.said_size} FLAGS ({' '.join(mail.flags)})")
            text = f"* {number} FETCH ({' '.join(words)}".encode()
            if part := _PART.search(items):
                content = mail.content.split(b"\r\n\r\n")[0] + b"\r\n\r\n" if part[1] else mail.content
                offset, count = int(part[2]), min(int(part[3]), self.most_octets or int(part[3]))
                piece = content[offset : offset + count]
                text += f" BODY[{part[1] or ''}]<{offset}> {{{len(piece)}}}\r\n".encode() + piece
            self._output += text + b")\r\n"

    def _copy(self, verb: str, uids: str, target: str) -> None:
        assert self.box is not None
        box = self.boxes.get(target.strip('"'))
        reply = self.policy(verb, f"{uids} {target}")
        if box is None or (reply or "").startswith(("NO", "BAD")):
            self._say(f"{self._tag} {reply or 'NO [TRYCREATE] No such folder'}")
            return
        for uid, mail in self._chosen(uids):
            box.add(mail.content)
            if verb == "UID MOVE":
                del self.box.mails[uid]
        self._say(reply if reply == "DROP" else f"{self._tag} {reply or 'OK [COPYUID 7 1 1] done'}")

    def _chosen(self, uids: str) -> list[tuple[int, Mail]]:
        assert self.box is not None
        wanted = _numbers(uids, max(self.box.mails, default=0))
        return [(uid, mail) for _, uid, mail in self.box.numbered() if uid in wanted]

    def _expunge(self, uids: str) -> None:
        assert self.box is not None
        for number, uid, mail in reversed(self.box.numbered()):
            if "\\Deleted" in mail.flags and uid in _numbers(uids, max(self.box.mails)):
                del self.box.mails[uid]
                self._say(f"* {number} EXPUNGE")


def _numbers(text: str, highest: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.replace("*", str(highest)).partition(":")
        low, high = sorted((int(first), int(last or first)))
        found.update(range(low, high + 1))
    return found
