"""The client's side of an SMTP or LMTP session: greeting, EHLO, STARTTLS, AUTH, transactions, ATRN, ETRN, QUIT.

RFC 5321, 3207, 4954, 2645, 1985; LMTP is RFC 2033. The machine is pulled: bytes go in with `receive`, meaning
comes out of `next_event`, bytes for the server out of `data_to_send`.

>>> client = Client(ClientOptions("laptop.example", starttls=StartTls.NEVER))
>>> client.receive(b"220 mx.example\\r\\n")
>>> client.next_event(), client.data_to_send()
(None, b'EHLO laptop.example\\r\\n')
>>> client.receive(b"250-mx.example\\r\\n250-PIPELINING\\r\\n250 CHUNKING\\r\\n")
>>> client.next_event()
Ready()
>>> ann = Mailbox("ann", "home.example")
>>> client.start(Outgoing(Envelope(ann, (Recipient(Mailbox("bob", "example.org")),)), size_bytes=17))
1
>>> client.data_to_send()
b'MAIL FROM:<ann@home.example>\\r\\nRCPT TO:<bob@example.org>\\r\\nBDAT 17 LAST\\r\\n'
>>> client.body_of  # the content of message 1 must follow
1
>>> client.body_data(b"Subject: Hi\\r\\n\\r\\n\\r\\n") + client.body_end()
b'Subject: Hi\\r\\n\\r\\n\\r\\n'

Further messages may be started at once. Their verdicts come as the replies do:

>>> client.receive(b"250 ok\\r\\n550 5.1.1 Who?\\r\\n503 no recipients\\r\\n")
>>> client.next_event().verdicts[0].status
Status(code=550, enhanced='5.1.1', text='Who?')

Whatever ends the connection, the shell calls `abandon`, and every message gets its verdicts. Texts about the
server are written to stand behind its name: "mx.example refused the session: 554 Go away".
"""

from collections import deque
from collections.abc import Sequence
from typing import assert_never

from masqmail.mail.outcome import Culprit
from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.lines import nonsense
from masqmail.proto.smtp.clientsession import (
    REPLY_TIMES,
    Answered,
    ClientOptions,
    Ended,
    Event,
    Phase,
    Quitted,
    Ready,
    StartTls,
    TlsWanted,
    Verdicts,
)
from masqmail.proto.smtp.compose import Outgoing
from masqmail.proto.smtp.extension import Extensions, parse_ehlo
from masqmail.proto.smtp.login import Login
from masqmail.proto.smtp.pipeline import Pace, Pipeline
from masqmail.proto.smtp.reply import ReplyParser
from masqmail.proto.smtp.transfer import Step
from masqmail.proto.smtp.turn import atrn_command, etrn_command

GREETING_CODE = 220
SHUTTING_DOWN_CODE = 421  # RFC 5321 §3.8: the one reply that may come at any time


class Client:
    """One session. `PeerError` leaves `next_event` when the server breaks the protocol; then `abandon`.

    Until then every call raises it again: what the server said behind the breach answers nobody knows what.
    """

    def __init__(self, options: ClientOptions) -> None:
        self.phase = Phase.GREETING
        self.offered = Extensions()
        self._options = options
        self._tls_is_on = options.tls_is_on
        self._parser = ReplyParser()
        self._outbox = bytearray()
        self._events: deque[Event] = deque()
        self._pipeline: Pipeline | None = None
        self._breach: PeerError | None = None
        self._messages = 0
        self._login: Login | None = None
        self._session_trips = 0
        self.window_messages = options.window_transactions
        self._may_be_greeted = options.send_first
        if options.send_first:
            self._say_hello()

    # bytes in, events out

    def receive(self, data: bytes) -> None:
        self._parser.receive(data)

    def next_event(self) -> Event | None:
        """The next thing that happened, or None until more bytes come."""
        events = self._events
        while not events:
            if self.phase in (Phase.TLS, Phase.CLOSED):
                return None
            if self._breach is not None:
                raise self._breach
            try:
                if not self._read_reply():
                    return None
            except PeerError as error:
                self._breach = error
                raise
        return events.popleft()

    def _read_reply(self) -> bool:
        """Takes the next reply; False when there is none."""
        try:
            reply = self._parser.next_reply()
        except PeerError:
            if self.phase is not Phase.AUTH:
                raise
            raise nonsense("its answer to the login is no reply") from None  # its words may be the password
        if reply is None:
            return False
        if self.phase is Phase.READY and reply.code != SHUTTING_DOWN_CODE:
            pipeline = self._ready_pipeline()
            pipeline.receive_reply(reply)
            self._collect_verdicts(pipeline)
        else:
            self._receive_reply(reply)
        return True

    def abandon(self) -> None:
        """The connection broke or was given up: what was completely sent and not answered is in doubt."""
        self.phase = Phase.CLOSED
        if self._pipeline is not None:
            self._pipeline.abandon(None)
            self._collect_verdicts(self._pipeline)

    # bytes out

    def data_to_send(self) -> bytes:
        """What may leave now. When `body_of` names a message after it, content is next."""
        data = bytes(self._outbox)
        self._outbox.clear()
        if self._pipeline is not None and self.phase is Phase.READY:
            data += self._pipeline.data_to_send()
            self._collect_verdicts(self._pipeline)
        return data

    @property
    def has_to_send(self) -> bool:
        """Whether there is something to say before the first transaction, or beside them."""
        return bool(self._outbox)

    @property
    def body_of(self) -> int | None:
        """The number of the message whose content must be sent now, through `body_data` and `body_end`."""
        return self._pipeline.body_of if self._pipeline is not None else None

    def body_data(self, chunk: bytes) -> bytes:
        """A piece of content as it goes out. Raises `UsageError` when it is more than the message's size."""
        return self._ready_pipeline().body_data(chunk)

    def body_end(self) -> bytes:
        """What follows the content. Raises `UsageError` when it was shorter than the message's size."""
        data = self._ready_pipeline().body_end()
        self._collect_verdicts(self._ready_pipeline())
        return data

    @property
    def is_secret(self) -> bool:
        """Whether what `data_to_send` gives must not be shown to anybody."""
        return self.phase is Phase.AUTH

    # work

    def start(self, message: Outgoing) -> int:
        """Queues a message and returns its number. Its verdicts follow, whatever happens."""
        pipeline = self._ready_pipeline()
        self._messages += 1
        pipeline.start(self._messages, message)
        self._collect_verdicts(pipeline)
        return self._messages

    @property
    def room(self) -> tuple[int, int]:
        """How many more messages and bytes fit into the window now."""
        pipeline = self._pipeline
        if pipeline is None or self.phase is not Phase.READY:
            return 0, 0
        messages = self.window_messages - pipeline.jobs
        room_bytes = pipeline.window_bytes - pipeline.bytes
        if pipeline.transactions_left is not None:
            messages = min(messages, pipeline.transactions_left)
        return (messages, room_bytes) if messages > 0 and room_bytes > 0 else (0, 0)

    @property
    def pace(self) -> Pace:
        """How far we run ahead of the replies; as far as the server's offer is known."""
        if not (self._options.pipelining and self.offered.pipelining):
            return Pace.LOCK_STEP
        return Pace.STREAM if self.offered.chunking else Pace.GROUP

    @property
    def is_pipelining(self) -> bool:
        """Whether we run ahead of the replies."""
        return self.pace is not Pace.LOCK_STEP

    @property
    def trips(self) -> int:
        """How many replies we had to wait for, one after the other; TCP and TLS make their own."""
        return self._session_trips + (self._pipeline.trips if self._pipeline is not None else 0)

    @property
    def is_idle(self) -> bool:
        """Whether every message has its verdicts and every reply was read."""
        return self._pipeline is not None and not self._pipeline.jobs and self._pipeline.awaited_step is None

    @property
    def is_used_up(self) -> bool:
        """Whether the server takes no more messages in this session."""
        return self._pipeline is not None and self._pipeline.is_used_up

    @property
    def window_bytes(self) -> int:
        return self._ready_pipeline().window_bytes

    @window_bytes.setter
    def window_bytes(self, value: int) -> None:
        self._ready_pipeline().window_bytes = value

    def quit(self) -> None:
        """Says QUIT, and nothing else that was to be said. Only when the session is idle, or every reply is here."""
        is_between = self.phase in (Phase.STARTTLS, Phase.AUTH) and bool(self._outbox)
        if not is_between and (self.phase is not Phase.READY or not self.is_idle):
            raise UsageError("QUIT is for idle sessions")
        self._outbox.clear()
        self._say(Phase.QUIT, b"QUIT\r\n")

    def turn(self, domains: Sequence[str]) -> None:
        """Says ATRN for these domains, or for all that are ours; `Answered` follows. Only when the session is idle.

        Raises `ValueError` when the domains do not fit into a command, or are not in ASCII.
        """
        self._ask(Phase.ATRN, atrn_command(domains))

    def request(self, domain: str) -> None:
        """Says ETRN for a domain; `Answered` follows. Only when the session is idle."""
        self._ask(Phase.ETRN, etrn_command(domain))

    def _ask(self, phase: Phase, command: bytes) -> None:
        if self.phase is not Phase.READY or not self.is_idle:
            raise UsageError(f"{phase.value} is for idle sessions")
        self._say(phase, command)

    @property
    def rest(self) -> bytes:
        """What was received behind the last reply: after ATRN the first bytes for our server."""
        return self._parser.pending

    @property
    def awaited(self) -> Phase | Step | None:
        """What the next reply answers, or None when none is due; `REPLY_TIMES` says how long it may take.

        The time counts from the last reply. While content is being sent none is due, and `BLOCK_TIME` applies.
        """
        if self.phase is not Phase.READY or self._pipeline is None:
            return self.phase if self.phase in REPLY_TIMES else None
        step = self._pipeline.awaited_step
        return None if step is Step.CONTENT and not self._pipeline.is_content_complete else step

    @property
    def questioned_message(self) -> int | None:
        """The number of the message that is not wholly sent and whose RCPT or DATA is answered next."""
        if self._pipeline is None or self._pipeline.awaited_step not in (Step.RCPT, Step.DATA):
            return None
        transfer = self._pipeline.awaited_transfer
        return None if transfer is None or transfer.content_sent else transfer.job.number

    # the session

    def tls_started(self) -> None:
        """The handshake is done: what the server said before it counts no more (RFC 3207 §4.2)."""
        if self.phase is not Phase.TLS:
            raise UsageError("TLS was not wanted")
        if self._parser.pending:
            raise _injected()
        self._tls_is_on = True
        self.offered = Extensions()
        self._say_hello()

    def _receive_reply(self, status: Status) -> None:
        if status.code == SHUTTING_DOWN_CODE and self.phase is not Phase.QUIT:
            self._receive_421(status)
            return
        self._session_trips += 1
        match self.phase:
            case Phase.GREETING:
                self._receive_greeting(status)
            case Phase.EHLO | Phase.HELO:
                self._receive_hello(status)
            case Phase.STARTTLS:
                self._receive_starttls(status)
            case Phase.AUTH:
                assert self._login is not None
                self._receive_auth(self._login, status)
            case Phase.ATRN | Phase.ETRN:
                has_turned = self.phase is Phase.ATRN and status.is_success
                self.phase = Phase.CLOSED if has_turned else Phase.READY
                self._events.append(Answered(status))
            case Phase.QUIT:
                self.phase = Phase.CLOSED
                self._events.append(Quitted())
            case Phase.READY | Phase.TLS | Phase.CLOSED:
                raise UsageError("replies are not read so in this phase")
            case _:
                assert_never(self.phase)

    def _receive_421(self, status: Status) -> None:
        if self._login is not None:
            status = self._login.conceal(status)
        if self._pipeline is not None:
            self._pipeline.close(status)
            self._collect_verdicts(self._pipeline)
        self._end(Culprit.SESSION, f"closed the session: {status}", status)

    def _receive_greeting(self, status: Status) -> None:
        if status.is_success:
            self._say_hello()
        else:
            self._end(Culprit.SESSION, f"refused the session: {status}", status)

    def _say_hello(self) -> None:
        verb = "LHLO" if self._options.lmtp else "EHLO"
        self._say(Phase.EHLO, f"{verb} {self._options.helo_name}\r\n".encode())

    def _receive_hello(self, status: Status) -> None:
        may_be_greeting, self._may_be_greeted = self._may_be_greeted, False
        if may_be_greeting and status.code == GREETING_CODE:
            return  # it was sent after all; the answer to EHLO is behind it
        if status.is_success:
            if self.phase is Phase.EHLO:
                self.offered = parse_ehlo(status.text)
            self._after_hello()
        elif self.phase is Phase.EHLO and status.is_permanent and not self._options.lmtp:  # RFC 5321 §3.2
            self._say(Phase.HELO, f"HELO {self._options.helo_name}\r\n".encode())
        else:
            self._end(Culprit.SESSION, f"refused our name {self._options.helo_name}: {status}", status)

    def _after_hello(self) -> None:
        wants_tls = not self._tls_is_on and self._options.starttls is not StartTls.NEVER
        if wants_tls and self.offered.starttls:
            self._say(Phase.STARTTLS, b"STARTTLS\r\n")
        elif wants_tls and self._options.starttls is StartTls.REQUIRED:
            self._end(Culprit.TLS, "does not offer STARTTLS")
        else:
            self._after_tls()

    def _receive_starttls(self, status: Status) -> None:
        if status.is_success:
            if self._parser.pending:
                raise _injected()
            self.phase = Phase.TLS
            self._events.append(TlsWanted())
        elif self._options.starttls is StartTls.REQUIRED:
            self._end(Culprit.TLS, f"refused to start TLS: {status}", status)
        else:
            self._after_tls()

    def _after_tls(self) -> None:
        """TLS is on, or goes without saying: log in, if we have a name here."""
        if self._options.credentials is None:
            self._become_ready()
        elif self._tls_is_on or self._options.clear_password:
            self._login = Login(self._options.credentials, self._options.mechanisms, self.offered.auth)
            self._authenticate(self._login)
        else:
            self._end(Culprit.LOGIN, "would get the password in clear, because there is no TLS")

    def _authenticate(self, login: Login) -> None:
        if (command := login.next_command()) is not None:
            self._say(Phase.AUTH, command)
        else:
            offered = " ".join(self.offered.auth) or "none at all"
            self._end(Culprit.LOGIN, f"offers no login that we can use (offered: {offered})")

    def _receive_auth(self, login: Login, status: Status) -> None:
        said = login.conceal(status)
        if status.is_success and not login.may_end:
            self._end(Culprit.LOGIN, f"let us in before it had proven who it is: {said}", said)
        elif status.is_success:
            self._become_ready()
        elif status.is_intermediate:
            try:
                self._outbox += login.answer(status)
            except PeerError as error:
                self._end(Culprit.LOGIN, f"spoiled the login: {error.status.text}", said)
        elif login.may_go_on(status):
            self._authenticate(login)
        else:
            self._end(Culprit.LOGIN, f"refused the login of {login.username}: {said}", said)

    def _become_ready(self) -> None:
        self.phase = Phase.READY
        self._pipeline = Pipeline(
            self.offered,
            self.pace,
            window_bytes=self._options.window_bytes,
            lmtp=self._options.lmtp,
            to_a_labels=self._options.to_a_labels,
        )
        self._events.append(Ready())

    def _say(self, phase: Phase, command: bytes) -> None:
        self.phase = phase
        self._outbox += command

    def _end(self, culprit: Culprit, reason: str, status: Status | None = None) -> None:
        self.phase = Phase.CLOSED
        self._events.append(Ended(culprit, reason, status))

    def _ready_pipeline(self) -> Pipeline:
        if self._pipeline is None:
            raise UsageError("the session is not ready yet")
        return self._pipeline

    def _collect_verdicts(self, pipeline: Pipeline) -> None:
        for job in pipeline.take_finished():
            self._events.append(Verdicts(job.number, job.final_verdicts()))


def _injected() -> PeerError:
    return PeerError(Status(451, "4.5.0", "plain text behind the reply to STARTTLS"))  # RFC 3207 §6
