"""An IMAP session: what is said to the server, in a worker thread. RFC 9051; most servers speak RFC 3501.

This module is imported only where the extra `imap` is installed.
"""

import imaplib
import re
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from imapclient import imap_utf7

import masqmail
from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.imaplibrary import Client, bodies_in
from masqmail.retrieval.imaplogin import COMMAND, Answers, can_be_sent, culprit_of, quoted, usable_ways
from masqmail.retrieval.imapplan import Ask, Folder, Listed, Refusal, parse_uid_set, uid_sets
from masqmail.retrieval.imapwire import Protect, Wire

#: How long an answer may take, and the log-in: servers let who mistyped wait. All are stretched for slow links.
ANSWER_SECONDS = 60.0
LOGIN_SECONDS = 120.0
#: The same for what makes a server read or write much: SELECT of a big folder, SEARCH, EXPUNGE.
WORK_SECONDS = 300.0
GOODBYE_SECONDS = 5.0
#: Whether a connection that was not used for a while is still alive.
PROBE_SECONDS = 15.0

#: What else a server may say with an answer, in octets.
SMALL_TALK_BYTES = 1 << 20
LISTING_BYTES = 64 << 20

MAX_HEADER_BYTES = 64 * 1024
#: Messages in one SEARCH of a server that names each of them in its answer.
SEARCH_MESSAGES = 50_000
MAX_MESSAGES = 10_000_000

_UID = re.compile(rb"\bUID (\d+)", re.IGNORECASE)
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)", re.IGNORECASE)
_ALL = re.compile(rb"\bALL ([\d:,]+)")


class Session:
    """One session, logged in. Every method may block, and raises `Refusal`, or what `Wire` and `imaplib` raise."""

    def __init__(self, wire: Wire, account: Account) -> None:
        """Waits for the greeting. The rest of the beginning is `start`."""
        self._wire = wire
        self._account = account
        self._flying: deque[tuple[Ask, bytes]] = deque()
        self._received: dict[tuple[int, int], bytes | None] = {}  # by UID and offset
        self._idle_tag: bytes | None = None
        self._arm(ANSWER_SECONDS)
        self._client = Client(wire, account.server.host)
        self._imap = self._client._imap

    def start(self, protect: Protect) -> None:
        """STARTTLS as the account wants it, then the log-in. Raises `FetchFailure` where that cannot be."""
        is_protected = self._account.tls is TlsMode.IMPLICIT or self._start_tls(protect)
        if self._imap.state == "NONAUTH":  # a PREAUTH greeting needs no log-in: that of a program behind ssh, say
            self._log_in(is_protected)
        self._arm(ANSWER_SECONDS)
        self._client.capabilities()
        self._introduce()

    @property
    def can_idle(self) -> bool:
        return bool(self._client.has_capability("IDLE"))

    @property
    def is_idling(self) -> bool:
        return self._idle_tag is not None

    def is_end_of_idle(self, line: bytes) -> bool:
        """Whether this line says that the server has ended IDLE itself."""
        if self._idle_tag is None or not line.startswith(self._idle_tag + b" "):
            return False
        del self._imap.tagged_commands[self._idle_tag]
        self._idle_tag = None
        return True

    def has(self, *capabilities: str) -> bool:
        """Whether the server has one of these."""
        return any(self._client.has_capability(name) for name in capabilities)

    @property
    def has_compact_search(self) -> bool:
        """Whether a search for everything costs next to nothing, RFC 4731."""
        return self.has("ESEARCH", "IMAP4REV2")

    # folders and what is in them

    def select(self, name: str, *, read_only: bool) -> Folder:
        """Opens a folder. Raises `Refusal` where there is none of this name."""
        self._arm(WORK_SECONDS)
        try:
            found = self._client.select_folder(name, readonly=read_only)
        except imaplib.IMAP4.readonly:
            return self.select(name, read_only=True)
        if b"UIDVALIDITY" not in found:
            raise Refusal("the server has no lasting names (UIDVALIDITY) for the messages in it")
        is_writable = not (read_only or b"READ-ONLY" in found)
        return Folder(name, found[b"UIDVALIDITY"], found.get(b"EXISTS", 0), found.get(b"UIDNEXT"), is_writable)

    def list_uids(self, exists: int, first: int = 1) -> list[int]:
        """The UIDs in the folder, from `first` on, in order."""
        if not exists:
            return []
        found: set[int] = set()
        if first > 1:
            found.update(self.search(f"UID {first}:*"))
        elif self.has_compact_search:
            found.update(self.search("ALL"))
        else:
            for start in range(1, exists + 1, SEARCH_MESSAGES):
                end = start + SEARCH_MESSAGES - 1
                found.update(self.search(f"{start}:{end if end < exists else '*'}"))
        return sorted(uid for uid in found if uid >= first)  # 9:* has the last message even when that is 7

    def list_all(self) -> list[Listed]:
        """Everything in the folder, which is not empty."""
        return list(self._list("FETCH 1:*").values())

    def list_sizes(self, uids: Collection[int]) -> list[Listed]:
        """These messages; those that are gone are not in it."""
        found: dict[int, Listed] = {}
        for uid_set in uid_sets(uids):
            found.update(self._list(f"UID FETCH {uid_set}"))
        return [found[uid] for uid in uids if uid in found]

    def headers(self, uids: Sequence[int]) -> dict[int, bytes]:
        """Header sections of some messages, up to `MAX_HEADER_BYTES` of each."""
        self._arm(WORK_SECONDS, len(uids) * MAX_HEADER_BYTES + SMALL_TALK_BYTES)
        (uid_set,) = uid_sets(uids)
        tag = self._send(f"UID FETCH {uid_set} (UID BODY.PEEK[HEADER]<0.{MAX_HEADER_BYTES}>)")
        bodies = bodies_in(self._fetched(tag))
        return {uid: body for uid in uids if (body := bodies.get((uid, 0))) is not None}

    def last_headers(self, exists: int, count: int) -> list[bytes]:
        """Header sections of the newest messages."""
        if not exists:
            return []
        self._arm(WORK_SECONDS, count * MAX_HEADER_BYTES + SMALL_TALK_BYTES)
        tag = self._send(f"FETCH {max(1, exists - count + 1)}:{exists} (UID BODY.PEEK[HEADER]<0.{MAX_HEADER_BYTES}>)")
        return [body for body in bodies_in(self._fetched(tag)).values() if body]

    def exchange(self, asks: Sequence[Ask]) -> tuple[dict[int, bytes | None], str]:
        """Sends these, then waits for the answer to the first on its way: what came by UID, and NO or BAD if said."""
        for ask in asks:
            uid_set = uid_sets(ask.uids)[0]
            self._flying.append(
                (ask, self._send(f"UID FETCH {uid_set} (UID BODY.PEEK[]<{ask.offset}.{ask.length}>)"))
            )
        octets = sum(len(flying.uids) * flying.length for flying, _ in self._flying)
        self._arm(ANSWER_SECONDS, octets + SMALL_TALK_BYTES)
        ask, tag = self._flying.popleft()
        refusal = ""
        try:
            self._complete("FETCH", tag)
        except Refusal as error:
            refusal = str(error)
        self._received.update(bodies_in(self._imap.untagged_responses.pop("FETCH", [])))
        names = [(uid, ask.offset) for uid in ask.uids]
        answer = {name[0]: self._received.pop(name) for name in names if name in self._received}
        if not self._flying:
            self._received.clear()
        return answer, refusal

    def search(self, what: str) -> list[int]:
        """The UIDs of such messages, in the server's order."""
        self._arm(WORK_SECONDS, LISTING_BYTES)
        responses = self._imap.untagged_responses
        responses.pop("SEARCH", None)
        responses.pop("ESEARCH", None)
        options = "RETURN (ALL) " if self.has_compact_search else ""
        self._complete("SEARCH", self._send(f"UID SEARCH {options}{what}"))
        found: list[int] = []
        for line in responses.pop("ESEARCH", []):
            if match := _ALL.search(line):
                found += parse_uid_set(match[1].decode("ascii"), MAX_MESSAGES)
        for line in responses.pop("SEARCH", []):
            found += [int(word) for word in line.split() if word.isdigit()]
        return found

    def carry_out(self, name: str, command: str) -> None:
        """A command whose answer nobody wants."""
        self._arm(WORK_SECONDS, LISTING_BYTES)
        self._complete(name, self._send(command))
        self._imap.untagged_responses.clear()

    def folder_argument(self, name: str) -> str:
        """The name of a folder as commands have it, RFC 9051 appendix A.1."""
        return quoted(imap_utf7.encode(name).decode("ascii"))

    # waiting for mail, RFC 2177

    def start_idle(self, exists: int) -> bool:
        """Has the server tell us what happens. Whether there are still so many messages, as far as it has said."""
        self._arm(ANSWER_SECONDS)
        self._imap.untagged_responses.clear()
        tag = self._imap._command("IDLE")
        while self._imap._get_response() is not None:
            if self._imap.tagged_commands[tag] is not None:
                self._complete("IDLE", tag)
                raise Refusal("it ends IDLE at once")
        self._idle_tag = tag
        return self._has_still(exists)

    def end_idle(self) -> None:
        """Back to commands; shows at the same time that the connection is alive."""
        tag, self._idle_tag = self._idle_tag, None
        if tag is None:
            return
        self._arm(PROBE_SECONDS)
        self._imap.send(b"DONE\r\n")
        self._complete("IDLE", tag)

    def ask_for_news(self, exists: int) -> bool:
        """Ends IDLE; the same. There are servers that tell of new mail only when they are asked."""
        self._imap.untagged_responses.clear()
        self.end_idle()
        self._arm(PROBE_SECONDS)
        self._complete("NOOP", self._send("NOOP"))
        return self._has_still(exists)

    def _has_still(self, exists: int) -> bool:
        said = self._imap.untagged_responses
        return "EXPUNGE" not in said and int(said.get("EXISTS", [exists])[-1]) == exists

    def probe(self) -> None:
        """Shows that the connection is alive."""
        if self.is_idling:
            self.end_idle()
            return
        self._arm(PROBE_SECONDS)
        self._complete("NOOP", self._send("NOOP"))

    def log_out(self) -> None:
        """Says goodbye."""
        if self.is_idling:
            self.end_idle()
        self._arm(GOODBYE_SECONDS)
        self._complete("LOGOUT", self._send("LOGOUT"))

    # ourselves

    def _arm(self, seconds: float, allowance: int = SMALL_TALK_BYTES) -> None:
        self._wire.arm(seconds * self._account.time_scale, allowance)

    def _start_tls(self, protect: Protect) -> bool:
        """Whether TLS is on after that."""
        if self._account.tls is TlsMode.NONE:
            return False
        is_offered = "STARTTLS" in self._imap.capabilities and self._imap.state == "NONAUTH"
        if not is_offered and self._account.tls is TlsMode.OPPORTUNISTIC:
            return False
        if self._imap.state != "NONAUTH":  # RFC 9051 §11.3: STARTTLS has no place after PREAUTH
            raise self._failure("greets us as somebody who is logged in already, before TLS", Culprit.TLS)
        if not is_offered:
            raise self._failure("does not offer STARTTLS", Culprit.TLS)
        self._complete("STARTTLS", self._imap._command("STARTTLS"))
        self._wire.start_tls(protect)
        self._imap.untagged_responses.clear()  # nothing said before may count, RFC 9051 §6.2.1
        self._imap._get_capabilities()
        return True

    def _log_in(self, is_protected: bool) -> None:
        account = self._account
        if not can_be_sent(account.credentials):
            raise self._failure("cannot be given this name or password: it has a line end in it", Culprit.LOCAL)
        offered = frozenset(self._imap.capabilities)
        is_clear_fine = account.clear_password and not is_protected
        ways = usable_ways(
            account.credentials, account.mechanisms, offered, is_protected=is_protected, is_clear_fine=is_clear_fine
        )
        refusal = ""
        for way in ways:
            try:
                self._try_way(way, says_first="SASL-IR" in offered)
                return
            except Refusal as error:
                refusal = str(error)
        if refusal:
            raise self._failure(f"takes none of the ways to log in: {refusal}")
        what = "that may be used" if is_protected or is_clear_fine else "that is safe without TLS"
        raise self._failure(f"offers no way to log in {what}")

    def _try_way(self, way: str, *, says_first: bool) -> None:
        """Logs in. Raises `Refusal` when another way is worth a try: a password that was shown is shown once."""
        credentials, answers = self._account.credentials, None
        self._arm(LOGIN_SECONDS)
        self._wire.is_secret = True
        try:
            if way == COMMAND:
                name, password = quoted(credentials.username), quoted(credentials.password.reveal())
                tag = self._imap._command("LOGIN", name, password)
            else:
                answers = Answers(way, credentials, says_first=says_first)
                self._imap.literal = answers.answer
                tag = self._imap._command("AUTHENTICATE", way, answers.initial)
        finally:
            self._wire.is_secret = False
        try:
            self._complete("log-in", tag)
        except Refusal as error:
            if answers is not None and not answers.has_proved:
                raise
            what = f"refused the login of {credentials.username}: {error}"
            raise self._failure(what, culprit_of(str(error))) from error
        if answers is not None and not answers.may_end:
            raise self._failure("says that we are in, but has not shown that it knows the password")
        self._imap.state = "AUTH"

    def _introduce(self) -> None:
        """Tells our name (RFC 2971), or some providers show no folder, and asks for compression (RFC 4978)."""
        self._arm(ANSWER_SECONDS)
        name, compress = None, None
        if self._client.has_capability("ID"):
            name = self._send(f'ID ("name" "MasqMail" "version" {quoted(masqmail.__version__)})')
        if self._client.has_capability("COMPRESS=DEFLATE"):  # mail is text, and shrinks to a third
            compress = self._send("COMPRESS DEFLATE")
        if name is not None:
            with suppress(Refusal):
                self._complete("ID", name)
        if compress is not None:
            with suppress(Refusal):
                self._complete("COMPRESS", compress)
                self._wire.start_compression()
        self._imap.untagged_responses.clear()

    def _list(self, which: str) -> dict[int, Listed]:
        self._arm(WORK_SECONDS, LISTING_BYTES)
        found: dict[int, Listed] = {}
        for line in self._fetched(self._send(f"{which} (UID RFC822.SIZE FLAGS)")):
            text = line if isinstance(line, bytes) else line[0]
            if (uid := _UID.search(text)) and (size := _SIZE.search(text)):
                found[int(uid[1])] = Listed(int(size[1]), int(uid[1]), b"\\deleted" in text.lower())
        return found

    def _send(self, command: str) -> bytes:
        """A command that holds no text of others."""
        tag: bytes = self._imap._new_tag()
        self._imap.send(tag + b" " + command.encode("ascii") + b"\r\n")
        return tag

    def _complete(self, name: str, tag: bytes) -> None:
        """Waits for the end of a command. Raises `Refusal`."""
        self._imap._command_complete(name, tag)

    def _fetched(self, tag: bytes) -> list[Any]:
        """What a FETCH had to say."""
        self._complete("FETCH", tag)
        found: list[Any] = self._imap.untagged_responses.pop("FETCH", [])
        return found

    def _failure(self, what: str, culprit: Culprit = Culprit.SESSION) -> FetchFailure:
        return FetchFailure(f"{self._account.server} {what}", culprit)
