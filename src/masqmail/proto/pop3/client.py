"""The client's side of a POP3 session: greeting, CAPA, STLS, log-in, commands, QUIT.

RFC 1939, RFC 2449, RFC 2595, RFC 5034. The machine is pulled: bytes go in with `receive`, meaning comes out of
`next_event`, bytes for the server out of `data_to_send`.

>>> from masqmail.proto.sasl import Credentials, Secret
>>> ann = Credentials("ann", Secret("sesame"))
>>> client = Client(ClientOptions(ann, tls_is_on=True))
>>> client.receive(b"+OK Welcome\\r\\n")
>>> client.next_event(), client.data_to_send()
(None, b'CAPA\\r\\n')
>>> client.receive(b"+OK\\r\\nUSER\\r\\n.\\r\\n")
>>> client.next_event(), client.data_to_send()
(None, b'USER ann\\r\\n')
>>> client.receive(b"+OK\\r\\n")
>>> client.next_event(), client.data_to_send()
(None, b'PASS sesame\\r\\n')
>>> client.receive(b"+OK 3 messages\\r\\n")
>>> client.next_event()
Ready()

Up to the log-in each command waits for its reply, because the next one depends on it. Then whatever `transaction`
knows can be asked for, as long as it `may_ask`. Texts about the server are written to stand behind its name:
"pop.example refused the login of ann: Who?".
"""

from collections import deque
from datetime import timedelta
from typing import assert_never

from masqmail.mail.outcome import Culprit
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.lines import nonsense
from masqmail.proto.pop3.apop import Weak, challenge_of
from masqmail.proto.pop3.capability import Capabilities, parse_capabilities
from masqmail.proto.pop3.login import APOP, CLEAR_WAYS, PROTECTED_WAYS, Login, is_for_now
from masqmail.proto.pop3.reply import Kind, Reply, ReplyParser
from masqmail.proto.pop3.session import (
    DELETING_TIME,
    REPLY_TIMES,
    ClientOptions,
    Ended,
    Event,
    Phase,
    Quitted,
    Ready,
    Stls,
    TlsWanted,
)
from masqmail.proto.pop3.transaction import Command, Transaction, Verb


class Client:
    """One session. `PeerError` leaves `next_event` when the server breaks the protocol; then it is of no use."""

    def __init__(self, options: ClientOptions) -> None:
        self.phase = Phase.GREETING
        self.offered = Capabilities()
        self._options = options
        self._tls_is_on = options.tls_is_on
        self._parser = ReplyParser()
        self._is_listing = False  # the reply was good, and its listing follows
        self._outbox = b""
        self._events: deque[Event] = deque()
        self._challenge: bytes | Weak | None = None
        self._login: Login | None = None
        self._transaction = Transaction(self._parser, pipelining=False)
        self._deletes = False

    # bytes in, events out

    def receive(self, data: bytes) -> None:
        self._parser.receive(data)

    def next_event(self) -> Event | None:
        """The next thing that happened, or None until more bytes come."""
        while not self._events:
            if self.phase in (Phase.TLS, Phase.CLOSED):
                return None
            if not self._transaction.is_idle:
                return self._transaction.next_answer()
            if self._is_listing:
                if (listing := self._parser.next_listing()) is None:
                    return None
                self._is_listing = False
                self._after_capa(parse_capabilities(listing))
            elif (reply := self._next_reply()) is None:
                return None
            else:
                self._receive_reply(reply)
        return self._events.popleft()

    def _next_reply(self) -> Reply | None:
        try:
            return self._parser.next_reply()
        except PeerError:
            if self.phase is not Phase.LOGIN:
                raise
            raise nonsense("its answer to the login is no reply") from None  # its words may be the password

    # bytes out

    def data_to_send(self) -> bytes:
        """What may leave now."""
        data, self._outbox = self._outbox, b""
        return data

    @property
    def has_to_send(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self._outbox)

    @property
    def is_secret(self) -> bool:
        """Whether what `data_to_send` gives must not be shown to anybody."""
        return self.phase is Phase.LOGIN

    @property
    def reply_time(self) -> timedelta | None:
        """How long the server may take now: for its reply, or for the next piece of a text; None when none is due."""
        if self.phase is Phase.READY:
            return self._transaction.answer_time
        return DELETING_TIME if self.phase is Phase.QUIT and self._deletes else REPLY_TIMES.get(self.phase)

    @property
    def doing(self) -> str:
        """What the server is busy with, for people."""
        return self._transaction.doing or self.phase.value

    @property
    def may_ask(self) -> bool:
        """Whether one more command may leave now: see `Transaction`."""
        return self.phase is Phase.READY and self._transaction.may_ask

    @property
    def is_idle(self) -> bool:
        """Whether we are logged in, and every command was answered."""
        return self.phase is Phase.READY and self._transaction.is_idle

    @property
    def pipelines(self) -> bool:
        """Whether commands need not wait for the replies to those before them. It may be set to false."""
        return self._transaction.pipelining

    @pipelines.setter
    def pipelines(self, value: bool) -> None:
        self._transaction.pipelining = value and self._options.pipelining and self.offered.pipelining

    def ask(self, command: Command, expected_bytes: int = 0) -> None:
        """Asks for something, of which about so many bytes will come. Only when it `may_ask`."""
        if self.phase is not Phase.READY:
            raise UsageError("nothing can be asked for now")
        self._transaction.ask(command, expected_bytes)
        self._deletes |= command.verb is Verb.DELE
        self._outbox += bytes(command)

    def quit(self) -> None:
        """Says QUIT. Only when we are logged in and nothing is under way."""
        if not self.is_idle:
            raise UsageError("QUIT is for idle sessions")
        self._say(Phase.QUIT, b"QUIT\r\n")

    # the session

    def tls_started(self) -> None:
        """The handshake is done: what the server said before it counts no more (RFC 2595 §4)."""
        if self.phase is not Phase.TLS:
            raise UsageError("TLS was not wanted")
        if self._parser.pending:
            raise _injected()
        self._tls_is_on = True
        self._say(Phase.CAPA, b"CAPA\r\n")

    def _receive_reply(self, reply: Reply) -> None:
        if reply.kind is Kind.CHALLENGE and self.phase is not Phase.LOGIN:
            raise nonsense(f"a challenge where none is due ({self.phase.value})")
        match self.phase:
            case Phase.GREETING:
                self._receive_greeting(reply)
            case Phase.CAPA:
                self._is_listing = reply.kind is Kind.OK
                if not self._is_listing:
                    self._after_capa(Capabilities())
            case Phase.STLS:
                self._receive_stls(reply)
            case Phase.LOGIN:
                assert self._login is not None
                self._receive_login(self._login, reply)
            case Phase.READY:
                if reply.kind is Kind.OK:
                    raise nonsense(f"a reply to nothing: {reply}")
                self._end(Culprit.SESSION, f"closed the session: {reply}")
            case Phase.QUIT:
                self.phase = Phase.CLOSED
                self._events.append(Quitted(reply.kind is Kind.OK))
            case Phase.TLS | Phase.CLOSED:
                raise UsageError("replies are not read in this phase")
            case _:
                assert_never(self.phase)

    def _receive_greeting(self, reply: Reply) -> None:
        if reply.kind is Kind.OK:
            self._challenge = challenge_of(reply.raw)
            self._say(Phase.CAPA, b"CAPA\r\n")
        else:
            self._end(Culprit.SESSION, f"refused the session: {reply}")

    def _after_capa(self, offered: Capabilities) -> None:
        self.offered = offered
        wants_tls = not self._tls_is_on and self._options.stls is not Stls.NEVER
        if wants_tls and offered.stls:
            self._say(Phase.STLS, b"STLS\r\n")
        elif wants_tls and self._options.stls is Stls.REQUIRED:
            self._end(Culprit.TLS, "does not offer STLS")
        else:
            self._after_tls()

    def _receive_stls(self, reply: Reply) -> None:
        if reply.kind is Kind.OK:
            if self._parser.pending:
                raise _injected()
            self.phase = Phase.TLS
            self._events.append(TlsWanted())
        elif self._options.stls is Stls.REQUIRED:
            self._end(Culprit.TLS, f"refused to start TLS: {reply}")
        else:
            self._after_tls()

    def _after_tls(self) -> None:
        options = self._options
        if not (self._tls_is_on or options.clear_password):
            self._end(Culprit.LOGIN, "would get the password in clear, because there is no TLS")
            return
        ways = options.ways or (PROTECTED_WAYS if self._tls_is_on else CLEAR_WAYS)
        self._login = Login(options.credentials, ways, self.offered, self._challenge)
        if self._login.is_sendable:
            self._try_next_way(self._login, ways)
        else:
            self._end(Culprit.LOGIN, "cannot be told a name or password with an end of line in it")

    def _try_next_way(self, login: Login, ways: tuple[str, ...]) -> None:
        if (command := login.next_command()) is not None:
            self._say(Phase.LOGIN, command)
            return
        known = [*self.offered.sasl]
        known += ["APOP"] if isinstance(self._challenge, bytes) else []
        known += ["USER"] if self.offered.user else []
        reason = f"offers no login that we can use (offered: {' '.join(known) or 'none at all'})"
        if APOP in ways and isinstance(self._challenge, Weak):
            reason += f"; {self._challenge.value}"
        self._end(Culprit.LOGIN, reason)

    def _receive_login(self, login: Login, reply: Reply) -> None:
        match reply.kind:
            case Kind.CHALLENGE:
                try:
                    self._say(Phase.LOGIN, login.answer(reply))
                except PeerError as error:
                    self._spoil(error)
            case Kind.OK:
                self._receive_welcome(login)
            case Kind.ERR if login.may_go_on(reply):
                self._try_next_way(login, ())
            case Kind.ERR if is_for_now(reply):
                self._end(Culprit.SESSION, f"cannot log {login.username} in now: {login.conceal(reply)}")
            case Kind.ERR:
                self._end(Culprit.LOGIN, f"refused the login of {login.username}: {login.conceal(reply)}")
            case _:
                assert_never(reply.kind)

    def _receive_welcome(self, login: Login) -> None:
        """A +OK: to a name that was the first half, or to the whole log-in."""
        try:
            command = login.go_on()
        except PeerError as error:
            self._spoil(error)
            return
        if command is not None:
            self._say(Phase.LOGIN, command)
            return
        self.phase = Phase.READY
        self.pipelines = True
        self._events.append(Ready())

    def _spoil(self, error: PeerError) -> None:
        self._end(Culprit.LOGIN, f"spoiled the login: {error.status.text}")

    def _say(self, phase: Phase, command: bytes) -> None:
        self.phase = phase
        self._outbox += command

    def _end(self, culprit: Culprit, reason: str) -> None:
        self.phase = Phase.CLOSED
        self._events.append(Ended(culprit, reason))


def _injected() -> PeerError:
    return nonsense("plain text behind the reply to STLS")
