"""The server's side of SMTP, RFC 5321, without a socket: bytes in; events, verdicts and replies out.

>>> server = Server(Offers("mail.example.net", max_size_bytes=1000))
>>> server.take_output()
b'220 mail.example.net ESMTP MasqMail\\r\\n'
>>> server.receive(b"EHLO laptop\\r\\nMAIL FROM:<ann@example.org>\\r\\n")
>>> server.next_event()
Mail(reverse_path=Mailbox(local_part='ann', domain='example.org'), size_bytes=None, ...)
>>> server.answer(SENDER_OK)

The shell pulls one event at a time and answers those that ask (see `session`); a pipelined command waits for the
verdict on the one before it (RFC 2920 §3.2). Only the verdict on a complete message may come later, with
`conclude`: the next message is read meanwhile, and the replies stay in order. Replies pile up until `take_output`,
so that one batch of commands costs one write. Whatever a client sends is answered: no exception but `UsageError`
leaves the machine.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, assert_never

from masqmail.mail.status import (
    CLOSING,
    MESSAGE_TOO_BIG,
    NOT_IMPLEMENTED,
    OK,
    START_INPUT,
    TOO_MANY_RECIPIENTS,
    Status,
)
from masqmail.mail.trace import protocol_keyword
from masqmail.proto import sasl
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.lines import ENDLESS_LINE, LINE_TOO_LONG
from masqmail.proto.smtp import replies
from masqmail.proto.smtp.command import (
    BAD_CHUNK_SIZE,
    LONG_LINES,
    MAX_AUTH_LINE_BYTES,
    MAX_LINE_BYTES,
    NEEDS_SMTPUTF8,
    NOT_SMTP,
    Atrn,
    Auth,
    Bdat,
    Command,
    Etrn,
    Hello,
    Mail,
    Rcpt,
    Simple,
    Verb,
    parse_command,
    traceable,
)
from masqmail.proto.smtp.machine import Machine, Trace
from masqmail.proto.smtp.session import (
    NEXT,
    Authenticate,
    Begin,
    Close,
    Offers,
    StartTls,
    State,
    Wait,
    refusal,
)
from masqmail.proto.smtp.transaction import Chunk, Transaction

MAX_BAD_COMMANDS = 20  # ours: lines that make no sense, between two complete messages
MAX_FAILED_LOGINS = 5  # ours, in one session
MAX_DISCARDED_BYTES = 1 << 30  # ours: how much of a message that is too big we read until its end

#: What may be read while the verdict on an earlier message is to come: what makes up the next message.
_READ_AHEAD = frozenset({b"MAIL ", b"RCPT ", b"DATA\r", b"BDAT ", b"RSET\r"})

# Named once, as in `machine`.
_READY, _COMMAND, _DATA = State.READY, Wait.COMMAND, Wait.DATA

_LAST_WORDS = frozenset({ENDLESS_LINE, NOT_SMTP, BAD_CHUNK_SIZE})  # nothing behind these can be trusted


class Server(Machine):
    """One session. `take_output` holds the greeting at first."""

    def __init__(self, offers: Offers, *, is_tls: bool = False, trace: Trace | None = None) -> None:
        super().__init__(trace)
        self.state = State.START
        self.helo_name = ""
        self.is_extended = False
        self.is_tls = is_tls
        self.is_authenticated = False
        #: What came behind an ATRN that was accepted. It belongs to the machine that goes on with the connection.
        self.rest = b""
        self._offers = offers
        self._next = State.START  # where the command being carried out leads, if it is accepted
        self._transaction: Transaction | None = None
        self._chunk: Chunk | None = None
        self._mechanism: sasl.ServerMechanism | None = None
        self._bad_commands = 0
        self._failed_logins = 0
        self._reply(Status(220, "", f"{offers.host_name} ESMTP MasqMail"))

    # what the shell calls

    def answer(self, status: Status) -> None:
        """The verdict on the event that asked. Accepted is what has a 2yz status; it is also the reply."""
        asked, self._asked = self._asked, None
        match asked:
            case Mail():
                if status.is_success:
                    self._transaction = Transaction(asked, self._offers.max_size_bytes, self._events)
                    self.state = self._next
                self._reply(status)
            case Rcpt():
                if status.is_success:
                    assert self._transaction is not None
                    self._transaction.recipients.append(asked.recipient)
                    self.state = self._next
                self._reply(status)
            case Begin():
                self._begin_text(status)
            case Authenticate():
                self._end_login(status)
            case Atrn():
                self._end_turn(status)
            case Etrn():
                self._reply(status)
            case _:
                raise UsageError("nothing was asked")

    def tls_started(self, offers: Offers) -> None:
        """TLS has begun and everything known of the client is forgotten, RFC 3207 §4.2."""
        if self.wait is not Wait.TLS:
            raise UsageError("nobody asked for TLS")
        self._offers = offers
        self.is_tls = True
        self.state = self._next
        self.helo_name, self.is_extended, self.is_authenticated = "", False, False
        self.wait = Wait.COMMAND

    def close(self, status: Status) -> None:
        """Ends the session from our side with a 421, RFC 5321 §3.8; harmless when it has ended."""
        if self.state is not State.CLOSED:
            self._reply(status)
            self._end_session()

    @property
    def protocol(self) -> str:
        """The keyword for the trace field's `with`: RFC 3848, and RFC 6531 §4.3 for SMTPUTF8."""
        return protocol_keyword(
            extended=self.is_extended,
            smtputf8=self._transaction is not None and self._transaction.mail.smtputf8,
            tls=self.is_tls,
            login=self.is_authenticated,
        )

    @property
    def is_idle(self) -> bool:
        """Whether no transaction would be lost if the session ended now."""
        return self._transaction is None

    # commands

    def _read_nothing(self) -> bool:
        return False

    def _read_command(self) -> bool:
        line: bytes | None = b""
        try:
            if self._owed and self._must_wait():
                return False
            line = self._lines.take_line(MAX_LINE_BYTES, LONG_LINES)
            if line is None:
                return False
            if self._trace:
                self._trace("C:", traceable(line))
            self._obey(parse_command(line, with_xsubmit=self._offers.xsubmit))
        except PeerError as error:
            self._refuse_line(line or b"", error.status)
        return True

    def _must_wait(self) -> bool:
        """Whether the command that comes is held back until the verdicts on earlier messages are known."""
        start = self._lines.peek(5).upper()
        self._is_held = bool(start) and (start not in _READ_AHEAD or self._owes_too_much())
        return self._is_held

    def _refuse_line(self, line: bytes, status: Status) -> None:
        """Answers what is no valid command, and loses patience at last."""
        self._reply(status)
        if line[:4].upper() != b"RCPT":  # a list of many recipients may hold many bad ones
            self._bad_commands += 1
        if status in _LAST_WORDS:
            self._hang_up()
        elif self._bad_commands >= MAX_BAD_COMMANDS:
            self._reply(replies.TOO_MANY_ERRORS)
            self._hang_up()

    def _obey(self, command: Command) -> None:
        state, verb = self.state, command.verb
        following = NEXT.get((state, verb))
        self._next = following or state
        match command:
            case Bdat():  # legal or not, its octets follow
                self._obey_bdat(command, None if following else refusal(state, verb))
            case _ if following is None:
                self._reply(refusal(state, verb))
            case Mail():
                self._obey_mail(command)
            case Rcpt():
                self._obey_rcpt(command)
            case Simple():
                self._obey_simple(verb)
            case Hello():
                self._obey_hello(command)
            case Auth():
                self._obey_auth(command)
            case Atrn():
                self._obey_atrn(command)
            case Etrn() if self._offers.etrn:
                self._ask(command)
            case Etrn():
                self._reply(NOT_IMPLEMENTED)
            case _:
                assert_never(command)

    def _obey_hello(self, hello: Hello) -> None:
        self._drop_transaction()
        self.state = self._next
        self.helo_name, self.is_extended = hello.name, hello.is_extended
        greeting = f"{self._offers.host_name} greets {hello.name}"
        keywords: list[str] = []
        if hello.is_extended:
            keywords = self._offers.keywords(is_tls=self.is_tls, is_authenticated=self.is_authenticated)
        self._reply(Status(250, "", "\n".join([greeting, *keywords])))

    def _obey_mail(self, mail: Mail) -> None:
        if mail.size_bytes is not None and mail.size_bytes > self._offers.max_size_bytes:  # RFC 1870 §6.1
            self._reply(MESSAGE_TOO_BIG)
        else:
            self._ask(mail)

    def _obey_rcpt(self, rcpt: Rcpt) -> None:
        transaction = self._transaction
        assert transaction is not None
        if len(transaction.recipients) >= self._offers.max_recipients:  # RFC 5321 §4.5.3.1.10
            self._reply(TOO_MANY_RECIPIENTS)
        elif rcpt.recipient.mailbox.needs_smtputf8 and not (transaction.mail.smtputf8 or self._offers.xsubmit):
            self._reply(NEEDS_SMTPUTF8)
        else:
            self._ask(rcpt)

    def _obey_simple(self, verb: Verb) -> None:
        match verb:
            case Verb.DATA:
                self._ask(Begin(self._open_transaction.envelope()))
            case Verb.RSET:
                self._drop_transaction()
                self.state = self._next
                self._reply(OK)
            case Verb.NOOP:
                self._reply(OK)
            case Verb.VRFY:
                self._reply(replies.VRFY_ANSWER)
            case Verb.HELP:
                self._reply(replies.HELP_ANSWER)
            case Verb.QUIT:
                self._reply(CLOSING)
                self._hang_up()
            case Verb.STARTTLS:
                self._obey_starttls()
            case _:
                raise UsageError(f"{verb} has arguments")

    # a message by DATA

    def _begin_text(self, status: Status) -> None:
        """The answer to `Begin`."""
        if self._chunk is not None:
            self._begin_chunks(self._chunk, status)
        elif status.is_success:
            self._open_transaction.is_kept = True
            self.wait = _DATA
            self._reply(START_INPUT)
        else:
            self._reply(status)

    def _read_data(self) -> bool:
        data = self._lines.take_all()
        transaction = self._transaction
        assert transaction is not None
        rest = transaction.read_data(data)
        if transaction.size_bytes > MAX_DISCARDED_BYTES + self._offers.max_size_bytes:
            self._reply(MESSAGE_TOO_BIG)
            self._hang_up()
        elif rest is not None:
            if rest:
                self._lines.feed(rest)
            self._end_data(transaction)
        return True

    def _end_data(self, transaction: Transaction) -> None:
        self.wait = _COMMAND
        self._go_on()
        if (status := transaction.refusal) is None:
            self._complete(transaction)
            return
        self._reply(status)
        if transaction.is_end_doubtful:
            self._hang_up()

    # a message by BDAT, RFC 3030

    def _obey_bdat(self, command: Bdat, refused: Status | None) -> None:
        """The octets of a refused chunk come all the same, and are read and dropped."""
        self._chunk = chunk = Chunk(command, refused)
        self.wait = Wait.CHUNK
        if command.size_bytes > MAX_DISCARDED_BYTES + self._offers.max_size_bytes:
            self._reply(MESSAGE_TOO_BIG)
            self._hang_up()
        elif refused is not None:
            return
        elif self.state is State.BROKEN:
            chunk.refusal = replies.MESSAGE_REFUSED
        elif self.state is State.RCPT:
            self._ask(Begin(self._open_transaction.envelope()))
        else:
            self._open_transaction.begin_chunk(command)

    def _begin_chunks(self, chunk: Chunk, status: Status) -> None:
        """The answer to `Begin` for the first chunk, whose octets come in any case."""
        if status.is_success:
            self._open_transaction.is_kept = True
            self._open_transaction.begin_chunk(chunk.command)
        else:
            self._refuse_chunk(chunk, status)

    def _read_chunk(self) -> bool:
        chunk = self._chunk
        assert chunk is not None
        data = self._lines.take(chunk.left_bytes)
        if chunk.left_bytes and not data:
            return False
        chunk.left_bytes -= len(data)
        if chunk.refusal is None:
            self._open_transaction.read_chunk(data)
        if not chunk.left_bytes:
            self.wait, self._chunk = Wait.COMMAND, None
            self._end_chunk(chunk)
        return True

    def _end_chunk(self, chunk: Chunk) -> None:
        """All octets of a chunk are there: the reply to it."""
        command, transaction = chunk.command, self._transaction
        if chunk.refusal is None and transaction is not None:
            if command.is_last:
                transaction.end_chunks()
            if (status := transaction.refusal) is not None:
                self._refuse_chunk(chunk, status)
        self._go_on()
        if chunk.refusal is None and command.is_last and transaction is not None:
            self._complete(transaction)
            return
        self._reply(chunk.refusal or OK.with_text(f"{command.size_bytes} octets received"))

    def _refuse_chunk(self, chunk: Chunk, status: Status) -> None:
        """A chunk will be refused, and the message with it (RFC 3030 §2)."""
        chunk.refusal = status
        if not chunk.command.is_last:
            self._next = State.BROKEN

    # AUTH, RFC 4954

    def _obey_auth(self, command: Auth) -> None:
        if self.is_authenticated:
            self._reply(replies.ALREADY_AUTHENTICATED)
        elif not self._offers.auth:
            needs_tls = self._offers.starttls and not self.is_tls
            self._reply(replies.AUTH_NEEDS_TLS if needs_tls else NOT_IMPLEMENTED)
        elif command.mechanism not in sasl.SERVER_MECHANISMS:
            self._reply(replies.NO_SUCH_MECHANISM)
        else:
            self._mechanism = sasl.server_mechanism(command.mechanism)
            self._respond(None if command.initial is None else sasl.decode_initial(command.initial))

    def _read_response(self) -> bool:
        self.wait = Wait.COMMAND
        try:
            line = self._lines.take_line(MAX_AUTH_LINE_BYTES)
            if line is None:
                self.wait = Wait.RESPONSE
                return False
            if line == b"*":
                raise PeerError(replies.AUTH_CANCELLED)
            self._respond(sasl.decode(line))
        except PeerError as error:
            status = replies.AUTH_LINE_TOO_LONG if error.status is LINE_TOO_LONG else error.status
            self._refuse_line(b"AUTH", status)
        return True

    def _respond(self, response: bytes | None) -> None:
        """Gives a response to the mechanism, which challenges the client or is satisfied."""
        assert self._mechanism is not None
        said = self._mechanism.respond(response)
        if isinstance(said, sasl.Credentials):
            self._ask(Authenticate(said))
            return
        self.wait = Wait.RESPONSE
        self._challenge(said)

    def _end_login(self, status: Status) -> None:
        self._reply(status)
        if status.is_success:
            self.is_authenticated = True
        elif status.is_permanent:
            self._failed_logins += 1
        if self._failed_logins >= MAX_FAILED_LOGINS:
            self._reply(replies.TOO_MANY_ERRORS)
            self._hang_up()

    # STARTTLS, RFC 3207

    def _obey_starttls(self) -> None:
        if self.is_tls:
            self._reply(replies.ALREADY_TLS)
        elif not self._offers.starttls:
            self._reply(NOT_IMPLEMENTED)
        elif not self._lines.is_empty:  # somebody may have put it there to have it run under TLS, and more may come
            self._reply(replies.TLS_INJECTION)
            self._hang_up()
        else:
            self._reply(replies.READY_FOR_TLS)
            self.wait = Wait.TLS
            self._events.append(StartTls())

    # ATRN, RFC 2645

    def _obey_atrn(self, command: Atrn) -> None:
        if not self._offers.atrn:
            self._reply(NOT_IMPLEMENTED)
        elif not self.is_authenticated:
            self._reply(replies.LOGIN_FIRST)
        else:
            self._ask(command)

    def _end_turn(self, status: Status) -> None:
        """The answer to ATRN. Once it is accepted we read no more: the client will be the server."""
        self._reply(status)
        if status.is_success:
            self.rest = self._lines.take_all()
            self._end_session()

    # everybody's helpers

    @property
    def _open_transaction(self) -> Transaction:
        assert self._transaction is not None
        return self._transaction

    def _drop_transaction(self) -> None:
        """Gives up a transaction, and the message if one was begun."""
        if self._transaction is not None:
            self._transaction.give_up()
            self._transaction = None

    def _go_on(self) -> None:
        """To where the command leads; between transactions there is none."""
        self.state = self._next
        if self.state is _READY:
            self._transaction = None

    def _complete(self, transaction: Transaction) -> None:
        """All of a message is there, and nothing is wrong with it as far as we can see."""
        self._bad_commands = 0
        self._hand_out(transaction.size_bytes)

    def _hang_up(self) -> None:
        """After the reply that was just given nothing more is read."""
        self._end_session()
        self._events.append(Close())

    def _end_session(self) -> None:
        self._drop_transaction()
        self.state = State.CLOSED
        self._read_no_more()

    _readers: ClassVar[Mapping[Wait, Callable[[Any], bool]]] = {
        Wait.COMMAND: _read_command,
        Wait.DATA: _read_data,
        Wait.CHUNK: _read_chunk,
        Wait.RESPONSE: _read_response,
        Wait.TLS: _read_nothing,
        Wait.NOTHING: _read_nothing,
    }
