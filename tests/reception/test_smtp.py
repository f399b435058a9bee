"""The SMTP server's shell: what goes into the queue, when the 250 comes, time, TLS, logins, shutdown."""

import base64
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trustme

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Notify, Recipient
from masqmail.mail.status import MAILBOX_UNKNOWN, RECIPIENT_OK, SENDER_OK, START_INPUT, STORAGE_FULL, Status
from masqmail.net.errors import ConnectionLost
from masqmail.net.fake import stream_pair
from masqmail.net.listen import bind_tcp, bind_unix
from masqmail.net.stream import READ_HIGH_BYTES, WRITE_HIGH_BYTES, Stream, attach, connect, connect_unix
from masqmail.net.tls import client_context, server_context
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail
from masqmail.proto.smtp.replies import LOGIN_FAILED
from masqmail.proto.smtp.reply import ReplyParser
from masqmail.proto.smtp.server import MAX_BAD_COMMANDS
from masqmail.proto.smtp.session import WAIT_SECONDS, Offers, Wait
from masqmail.reception.clerk import accepted
from masqmail.reception.conversation import EVENTS_IN_A_ROW, PARTS_OF_TIME
from masqmail.reception.policy import Session, local_origin, network_origin
from masqmail.reception.smtp import Service
from masqmail.routing.route import RouteClass
from masqmail.settings import HostPort
from masqmail.spool.api import NewRecipient, TargetKind
from masqmail.spool.intake import Intake, IntakeSettings, Origin, Refused, Resolution
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio

OWN = Mailbox("bob", "mail.example.net")
ENVELOPE = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\n"
LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0ann\0sesame") + b"\r\n"
WRONG_LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0ann\0guess") + b"\r\n"


@dataclass
class FakePolicy:
    """Lets everybody do everything, but for what a test says."""

    auth: bool = False
    xsubmit: bool = False
    ident: bool = False
    context: ssl.SSLContext | None = None
    sender: Status = SENDER_OK
    unknown: tuple[str, ...] = ()
    fault: str = ""  # the name of a question that fails
    asked: list[Session] = field(default_factory=list)
    reverse_paths: list[Mailbox | None] = field(default_factory=list)

    def _note(self, question: str, session: Session) -> None:
        self.asked.append(session)
        if question == self.fault:
            raise RuntimeError("a mistake of ours")

    def offers(self, session: Session) -> Offers:
        return Offers(
            "mail.example.net",
            1_000_000,
            starttls=self.context is not None,
            auth=self.auth,
            xsubmit=self.xsubmit,
        )

    def tls_context(self) -> ssl.SSLContext | None:
        return self.context

    def asks_ident(self, session: Session) -> bool:
        return self.ident

    def check_sender(self, session: Session, mail: Mail) -> Status:
        self._note("sender", session)
        return self.sender

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        self._note("reverse path", session)
        return OWN if mail.xsubmit.is_self else mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        self._note("recipient", session)
        self.reverse_paths.append(mail.reverse_path)
        return MAILBOX_UNKNOWN if str(recipient.mailbox) in self.unknown else RECIPIENT_OK

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        self._note("authenticate", session)
        return credentials.username if credentials.password.reveal() == "sesame" else None

    def origin(self, session: Session, protocol: str) -> Origin:
        self._note("origin", session)
        if session.credentials is not None:
            return local_origin(session.credentials.uid, "bob", protocol=protocol)
        return network_origin(session, protocol, is_submission=True)


@dataclass
class FakeMessage:
    """One message on its way in."""

    intake: "FakeIntake"
    envelope: Envelope
    origin: Origin
    wishes: dict[str, object]
    content: bytes = b""
    is_discarded: bool = False

    def write(self, chunk: bytes) -> None:
        if isinstance(self.intake.trouble, OSError):
            raise self.intake.trouble
        self.content += chunk

    async def finish(self) -> str:
        await self.intake.may_commit.wait()
        if isinstance(self.intake.trouble, Refused):
            raise self.intake.trouble
        self.intake.stored.append(self)
        return f"q{len(self.intake.stored)}"

    def discard(self) -> None:
        self.is_discarded = True


@dataclass
class FakeIntake:
    """A queue in a list."""

    trouble: Exception | None = None
    room: bool = True
    opened: list[FakeMessage] = field(default_factory=list)
    stored: list[FakeMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_commit = anyio.Event()
        self.may_commit.set()

    def open(self, envelope: Envelope, origin: Origin, **wishes: object) -> FakeMessage:
        if not self.room:
            raise Refused(STORAGE_FULL)
        self.opened.append(FakeMessage(self, envelope, origin, wishes))
        return self.opened[-1]


class Client:
    """Sends bytes and reads replies."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._parser = ReplyParser()

    async def reply(self) -> str:
        """The next reply in one line; empty at the end of the connection."""
        while (status := self._parser.next_reply()) is None:
            try:
                data = await self.stream.receive(5)
            except ConnectionLost:
                return ""
            if not data:
                return ""
            self._parser.receive(data)
        return str(status)

    async def ask(self, data: bytes) -> str:
        self.stream.write(data)
        return await self.reply()

    async def greet(self) -> None:
        await self.reply()
        assert (await self.ask(b"EHLO laptop\r\n")).startswith("250")


@dataclass
class House:
    """A service with everything around it."""

    policy: FakePolicy
    intake: FakeIntake
    clock: FakeClock
    service: Service
    tasks: anyio.abc.TaskGroup

    def connect(self) -> Client:
        client, server = stream_pair()
        self.tasks.start_soon(self._serve, server)
        return Client(client)

    async def _serve(self, stream: Stream) -> None:
        try:
            await self.service.handle(stream)
            await stream.aclose()
        except ConnectionLost:
            pass

    async def greeted(self) -> Client:
        client = self.connect()
        await client.greet()
        return client


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


@asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    policy, intake, clock = FakePolicy(), FakeIntake(), FakeClock()
    async with anyio.create_task_group() as tasks:
        yield House(policy, intake, clock, Service(policy, intake, clock), tasks)
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks run until something is so."""
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def test_a_message_goes_into_the_queue_with_its_envelope_and_origin(house: House) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    assert [await client.reply() for _ in range(3)] == [str(SENDER_OK), str(RECIPIENT_OK), str(START_INPUT)]
    assert await client.ask(b"Subject: x\r\n\r\n..dot\r\n.\r\n") == str(accepted("q1"))
    (message,) = house.intake.stored
    assert message.content == b"Subject: x\r\n\r\n.dot\r\n"
    assert message.envelope.reverse_path == Mailbox("ann", "example.org")
    assert message.origin.protocol == "ESMTP"
    assert message.origin.description == "192.0.2.1 (laptop)"
    assert message.origin.received_clause == "from laptop ([192.0.2.1])"
    assert await client.ask(b"QUIT\r\n") == "221 2.0.0 Goodbye"
    assert await client.reply() == ""


async def test_the_250_comes_only_after_the_commit(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"BDAT 4 LAST\r\nhi\r\n")
    await until(lambda: bool(house.intake.opened) and house.intake.opened[0].content == b"hi\r\n")
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert not house.intake.stored
    house.intake.may_commit.set()
    assert [await client.reply() for _ in range(3)][2] == str(accepted("q1"))
    assert house.intake.stored


async def test_the_next_message_is_read_while_the_last_one_is_stored(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write((ENVELOPE + b"BDAT 4 LAST\r\nhi\r\n") * 3 + b"QUIT\r\n")
    await until(lambda: len(house.intake.opened) == 3)
    assert (await client.stream.receive(5)).count(b"\r\n") == 2
    assert not house.intake.stored
    house.intake.may_commit.set()
    replies = [await client.reply() for _ in range(8)]
    assert replies[0::3] == [str(accepted(name)) for name in ("q1", "q2", "q3")]
    assert replies[-1] == "221 2.0.0 Goodbye"
    assert await client.reply() == ""


async def test_the_first_message_is_answered_first_though_the_second_is_stored_before_it(house: House) -> None:
    house.intake.may_commit = slow = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"BDAT 0 LAST\r\n")
    await until(lambda: bool(house.intake.opened))
    await anyio.lowlevel.checkpoint()
    house.intake.may_commit = anyio.Event()
    house.intake.may_commit.set()
    client.stream.write(ENVELOPE + b"BDAT 0 LAST\r\n")
    await until(lambda: len(house.intake.stored) == 1)
    slow.set()
    assert [await client.reply() for _ in range(6)][2::3] == [str(accepted("q2")), str(accepted("q1"))]


async def test_a_refusal_after_all_is_reported_for_the_message_it_belongs_to(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "masqmail")
    house.intake.may_commit = anyio.Event()
    house.intake.trouble = Refused(Status(554, "5.4.6", "In a loop"))
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"BDAT 0 LAST\r\nMAIL FROM:<next@example.org>\r\n")
    await until(lambda: len(house.policy.asked) == 4)
    house.intake.may_commit.set()
    assert [await client.reply() for _ in range(4)][2:] == ["554 5.4.6 In a loop", str(SENDER_OK)]
    (record,) = caplog.records
    assert record.fields["reverse_path"] == "ann@example.org"  # type: ignore[attr-defined]


async def test_what_is_stored_after_the_client_has_gone_ends_the_session(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
    await until(lambda: bool(house.intake.opened))
    client.stream.abort()
    await anyio.lowlevel.checkpoint()
    assert house.service._conversations
    house.intake.may_commit.set()
    await until(lambda: not house.service._conversations)
    assert house.intake.stored


async def test_who_has_closed_its_half_still_gets_its_replies(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    client, server = await attach(near), await attach(far)
    house.tasks.start_soon(house._serve, server)
    client.write(b"EHLO laptop\r\n" + ENVELOPE + b"DATA\r\n.\r\n")
    near_socket = client._transport.get_extra_info("socket")
    near_socket.shutdown(socket.SHUT_WR)
    await until(lambda: bool(house.intake.opened))
    house.intake.may_commit.set()
    speaker = Client(client)
    assert await last_reply(speaker, 6) == str(accepted("q1"))
    assert await speaker.reply() == ""
    client.abort()


async def test_a_session_that_is_cancelled_forgets_what_is_being_stored(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client, server = stream_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.service.handle, server)
        speaker = Client(client)
        await speaker.greet()
        speaker.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
        await until(lambda: bool(house.intake.opened))
        tasks.cancel_scope.cancel()
    house.intake.may_commit.set()
    await anyio.lowlevel.checkpoint()
    assert not house.intake.stored
    assert not house.service._conversations


async def test_a_client_that_takes_no_replies_is_not_read_any_further(house: House) -> None:
    client = await house.greeted()
    count = WRITE_HIGH_BYTES // 50
    client.stream._transport.pause_reading()
    client.stream.write(b"MAIL FROM:<a@b.example>\r\nVRFY a\r\nRSET\r\n" * count)
    client.stream.write(b"NOOP\r\n" * (READ_HIGH_BYTES // 6 + 1) * 3)
    for _ in range(10 * count // EVENTS_IN_A_ROW):
        await anyio.lowlevel.checkpoint()
    assert client.stream._transport.get_write_buffer_size() > 0
    client.stream._transport.resume_reading()
    client.stream.write(b"QUIT\r\n")
    while (reply := await client.reply())[:3] in ("250", "252"):
        pass
    assert reply == "221 2.0.0 Goodbye"


async def test_a_client_that_takes_no_replies_for_too_long_is_sent_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await house.greeted()
    client.stream._transport.pause_reading()
    monkeypatch.setitem(WAIT_SECONDS, Wait.COMMAND, 0.0)
    client.stream.write(b"HELP\r\n" * (2 * WRITE_HIGH_BYTES // 100))
    await until(lambda: client.stream._at_end or not house.service._conversations)
    client.stream.abort()


async def test_replies_to_a_group_come_in_one_piece(house: House) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"NOOP\r\nDATA\r\n")
    assert (await client.stream.receive(5)).count(b"\r\n") == 4


async def test_a_flood_of_commands_leaves_the_others_their_turn(house: House) -> None:
    client = await house.greeted()
    seen: set[int] = set()

    async def somebody_else() -> None:
        while True:
            seen.add(len(house.policy.asked))
            await anyio.lowlevel.checkpoint()

    house.tasks.start_soon(somebody_else)
    client.stream.write(b"MAIL FROM:<a@b.example>\r\nRSET\r\n" * 3 * EVENTS_IN_A_ROW)
    await until(lambda: len(house.policy.asked) == 3 * EVENTS_IN_A_ROW)
    assert seen >= {EVENTS_IN_A_ROW, 2 * EVENTS_IN_A_ROW}


async def test_refusals_of_the_policy_reach_the_client(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "masqmail")
    house.policy.unknown = ("bob@example.net",)
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    assert [(await client.reply())[:3] for _ in range(3)] == ["250", "550", "554"]
    house.policy.sender = Status(530, "5.7.0", "Log in first")
    assert await client.ask(b"RSET\r\n") == "250 2.0.0 OK"
    assert await client.ask(b"MAIL FROM:<>\r\n") == "530 5.7.0 Log in first"
    assert {record.getMessage() for record in caplog.records} == {"recipient refused", "message refused"}


async def test_a_message_that_the_intake_refuses_is_answered_with_its_status(house: House) -> None:
    house.intake.trouble = Refused(Status(554, "5.4.6", "In a loop"))
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\nNOOP\r\n")
    assert [(await client.reply()) for _ in range(5)][3:] == ["554 5.4.6 In a loop", "250 2.0.0 OK"]
    assert house.intake.opened[0].is_discarded


async def test_without_room_data_is_refused_before_the_text(house: House) -> None:
    house.intake.room = False
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    assert [await client.reply() for _ in range(3)][2] == str(STORAGE_FULL)


async def test_the_declared_size_is_passed_on(house: House) -> None:
    client = await house.greeted()
    client.stream.write(b"MAIL FROM:<> SIZE=1234\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n")
    for _ in range(3):
        await client.reply()
    assert house.intake.opened[0].wishes["declared_size_bytes"] == 1234


async def test_what_sendmail_asks_for_reaches_the_queue(house: House) -> None:
    house.policy.xsubmit = True
    client = await house.greeted()
    client.stream.write(
        b"MAIL FROM:<> XSELF XHEADERRCPTS=NEVER XFULLNAME=B+C3+B6b XQUEUEONLY\r\n"
        b"RCPT TO:<ann>\r\nBDAT 9 LAST\r\nTo: joe\r\nQUIT\r\n"
    )
    assert await last_reply(client, 3) == str(accepted("q1"))
    (message,) = house.intake.stored
    assert message.envelope == Envelope(OWN, (Recipient(Mailbox("ann")),))
    assert house.policy.reverse_paths == [OWN]
    assert message.wishes == {
        "header_recipients": True,
        "header_notify": Notify.NEVER,
        "full_name": "Böb",
        "queue_only": True,
        "declared_size_bytes": 0,
    }


async def test_the_wishes_of_one_message_are_not_those_of_the_next(house: House) -> None:
    house.policy.xsubmit = True
    client = await house.greeted()
    client.stream.write(b"MAIL FROM:<> XSELF XQUEUEONLY\r\nRCPT TO:<ann>\r\nBDAT 0 LAST\r\n")
    client.stream.write(b"MAIL FROM:<>\r\nRCPT TO:<ann>\r\nBDAT 0 LAST\r\n")
    assert await last_reply(client, 6) == str(accepted("q2"))
    assert house.intake.stored[1].envelope.reverse_path is None
    assert not any(house.intake.stored[1].wishes.values())


@pytest.mark.parametrize("question", ["sender", "recipient", "origin"])
async def test_a_fault_of_ours_defers_and_the_session_goes_on(
    house: House, question: str, caplog: pytest.LogCaptureFixture
) -> None:
    house.policy.fault = question
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    replies = [await client.reply() for _ in range(3)]
    assert any(reply.startswith("451 4.3.0") for reply in replies)
    assert not any(reply.startswith("354") for reply in replies)
    assert await client.ask(b"NOOP\r\n") == "250 2.0.0 OK"
    assert "a mistake of ours" in caplog.text


async def test_a_fault_while_storing_defers_the_message(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.intake.trouble = OSError(5, "Input/output error")
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\ntext\r\n.\r\n")
    assert (await last_reply(client, 4)).startswith("451 4.3.0")
    assert house.intake.opened[0].is_discarded
    assert not house.intake.stored
    assert "Input/output error" in caplog.text


async def last_reply(client: Client, count: int) -> str:
    """The last of so many replies."""
    return [await client.reply() for _ in range(count)][-1]


@pytest.mark.parametrize("text", [b"a\nb\r\n", b"x" * 1_000_001])
async def test_a_message_with_a_fault_is_discarded_at_once(house: House, text: bytes) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    await last_reply(client, 3)
    client.stream.write(text)
    await until(lambda: house.intake.opened[0].is_discarded)
    assert (await client.ask(b"\r\n.\r\n"))[:3] in ("552", "554")


async def test_a_client_that_goes_away_leaves_nothing_behind(house: House) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\nhalf a mess")
    await last_reply(client, 3)
    client.stream.abort()
    await until(lambda: house.intake.opened[0].is_discarded)
    assert not house.intake.stored


async def test_a_silent_client_is_sent_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WAIT_SECONDS, Wait.COMMAND, 0.0)
    client = house.connect()
    assert (await client.reply()).startswith("220")
    assert (await client.reply()).startswith("421 4.4.2")
    assert await client.reply() == ""


def let_time_pass(house: House, parts: int = PARTS_OF_TIME) -> None:
    (conversation,) = house.service._conversations
    for _ in range(parts):
        conversation._measure_time()


async def test_half_a_command_does_not_get_more_time(house: House) -> None:
    client = await house.greeted()
    let_time_pass(house)  # the first part of it sees the reply
    client.stream.write(b"NO")
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    let_time_pass(house, 1)
    assert (await client.reply()).startswith("421 4.4.2")


async def test_a_reply_gives_the_client_its_time_anew(house: House) -> None:
    client = await house.greeted()
    for _ in range(3):
        let_time_pass(house)
        assert await client.ask(b"NOOP\r\n") == "250 2.0.0 OK"


async def test_text_gets_more_time_with_each_piece(house: House) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    await last_reply(client, 3)
    message = house.intake.opened[0]
    for count in range(1, 4):
        let_time_pass(house)
        client.stream.write(b"text")
        await until(lambda expected=4 * count: len(message.content) == expected)
    let_time_pass(house)
    assert not message.is_discarded
    let_time_pass(house, 1)
    assert (await client.reply()).startswith("421 4.4.2")
    assert message.is_discarded


async def test_no_time_runs_while_the_client_waits_for_us(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    await last_reply(client, 3)
    client.stream.write(b"text\r\n.\r\n")
    (conversation,) = house.service._conversations
    await until(conversation._commits.__len__)
    let_time_pass(house, 3 * PARTS_OF_TIME)
    house.intake.may_commit.set()
    assert await client.reply() == str(accepted("q1"))
    assert await client.ask(b"NOOP\r\n") == "250 2.0.0 OK"


async def test_a_session_that_reads_no_more_rests_while_a_message_is_stored(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"BDAT 4 LAST\r\nhi\r\n" + b"MAIL nonsense\r\n" * MAX_BAD_COMMANDS)
    (conversation,) = house.service._conversations
    await until(lambda: conversation._server.wait is Wait.NOTHING)
    let_time_pass(house, 1)
    assert conversation._timer is not None and conversation._timer.when() > anyio.current_time() + 1
    house.intake.may_commit.set()
    assert (await last_reply(client, 3)) == str(accepted("q1"))


# logging in


async def test_a_login_is_checked_and_known_to_the_policy(house: House) -> None:
    house.policy.auth = True
    client = await house.greeted()
    assert (await client.ask(LOGIN)).startswith("235 2.7.0")
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
    await last_reply(client, 4)
    assert house.policy.asked[-1].user == "ann"
    assert house.intake.stored[0].origin.user == "ann"
    assert house.intake.stored[0].origin.protocol == "ESMTPA"


async def test_each_failed_login_is_answered_later_than_the_one_before(house: House) -> None:
    house.policy.auth = True
    client = await house.greeted()
    for seconds in (1, 2, 4, 8):
        client.stream.write(WRONG_LOGIN)
        await until(lambda: house.clock.sleepers == 1)
        house.clock.advance(timedelta(seconds=seconds - 0.1))
        await anyio.lowlevel.checkpoint()
        assert house.clock.sleepers == 1
        house.clock.advance(timedelta(seconds=0.2))
        assert await client.reply() == str(LOGIN_FAILED)
    client.stream.write(WRONG_LOGIN)
    await until(lambda: house.clock.sleepers == 1)
    house.clock.advance(timedelta(seconds=8.1))
    assert await client.reply() == str(LOGIN_FAILED)
    assert (await client.reply()).startswith("421")


async def test_no_secret_is_logged_or_traced(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "masqmail")
    house.policy.auth = True
    client = await house.greeted()
    client.stream.write(WRONG_LOGIN)
    await until(lambda: house.clock.sleepers == 1)
    house.clock.advance(timedelta(seconds=2))
    await client.reply()
    await client.ask(b"AUTH LOGIN\r\n")
    await client.ask(base64.b64encode(b"ann") + b"\r\n")
    assert (await client.ask(base64.b64encode(b"sesame") + b"\r\n")).startswith("235")
    logged = "\n".join(f"{record.getMessage()} {vars(record).get('fields')}" for record in caplog.records)
    assert "AUTH" in logged
    assert "login failed" in logged
    for secret in (b"guess", b"sesame", b"\0ann\0guess"):
        assert secret.decode() not in logged
        assert base64.b64encode(secret).decode() not in logged


async def test_when_passwords_cannot_be_checked_the_client_may_come_back(house: House) -> None:
    house.policy.auth, house.policy.fault = True, "authenticate"
    client = await house.greeted()
    assert (await client.ask(LOGIN)).startswith("454 4.7.0")
    house.policy.fault = ""
    assert (await client.ask(LOGIN)).startswith("235")


# TLS


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the server and its client."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("mail.example.net").private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    return server_context(folder / "both.pem"), client_context(ca_file=folder / "ca.pem")


async def test_after_starttls_everything_is_said_again(
    house: House, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    house.policy.context, client_tls = contexts
    client = await house.greeted()
    assert (await client.ask(b"STARTTLS\r\n")).startswith("220 2.0.0")
    await client.stream.start_tls(client_tls, server_side=False, server_name="mail.example.net", timeout_seconds=5)
    assert (await client.ask(b"MAIL FROM:<>\r\n")).startswith("503 5.5.1 Say EHLO")
    assert (await client.ask(b"EHLO desk\r\n")).startswith("250")
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
    assert await last_reply(client, 4) == str(accepted("q1"))
    assert house.intake.stored[0].origin.protocol == "ESMTPS"
    assert house.policy.asked[-1].tls is not None
    assert house.policy.asked[-1].helo_name == "desk"


async def test_tls_may_begin_before_the_greeting(
    house: House, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    house.policy.context, client_tls = contexts
    client, server = stream_pair()
    house.tasks.start_soon(house.service.handle_tls, server)
    await client.start_tls(client_tls, server_side=False, server_name="mail.example.net", timeout_seconds=5)
    speaker = Client(client)
    assert (await speaker.reply()).startswith("220")
    assert "STARTTLS" not in await speaker.ask(b"EHLO desk\r\n")


async def test_when_the_certificate_is_gone_no_plain_text_follows_starttls(
    house: House, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    house.policy.context = contexts[0]
    client, server = stream_pair()
    ended = anyio.Event()

    async def serve() -> None:
        with pytest.raises(Exception, match="no certificate"):
            await house.service.handle(server)
        await server.aclose()
        ended.set()

    house.tasks.start_soon(serve)
    speaker = Client(client)
    await speaker.greet()
    house.policy.context = None
    assert (await speaker.ask(b"STARTTLS\r\n")).startswith("220")
    await ended.wait()
    assert await speaker.reply() == ""


# shutting down


async def test_who_waits_idly_is_sent_away_at_once_when_the_program_stops(house: House) -> None:
    client = await house.greeted()
    await house.service.stop(grace_seconds=60)
    assert (await client.reply()).startswith("421 4.3.2")
    assert await client.reply() == ""


async def test_a_running_transaction_is_finished_before_the_program_stops(house: House) -> None:
    client, stopped = await house.greeted(), anyio.Event()
    client.stream.write(ENVELOPE + b"DATA\r\n")
    await last_reply(client, 3)

    async def stop() -> None:
        await house.service.stop(grace_seconds=60)
        stopped.set()

    house.tasks.start_soon(stop)
    await until(lambda: house.service.is_stopping)
    assert await client.ask(b"text\r\n.\r\n") == str(accepted("q1"))
    assert (await client.reply()).startswith("421 4.3.2")
    await stopped.wait()
    assert house.intake.stored


async def test_a_transaction_that_takes_too_long_is_cut_off_when_the_program_stops(house: House) -> None:
    client = await house.greeted()
    client.stream.write(ENVELOPE)
    await last_reply(client, 2)
    await house.service.stop(grace_seconds=0)
    assert (await client.reply()).startswith("421 4.3.2")


async def test_what_is_being_committed_is_still_answered_when_the_program_stops(house: House) -> None:
    house.intake.may_commit = anyio.Event()
    client = await house.greeted()
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
    await until(lambda: bool(house.intake.opened))
    house.tasks.start_soon(house.service.stop, 0)
    await until(lambda: house.service.is_stopping)
    house.intake.may_commit.set()
    assert await last_reply(client, 4) == str(accepted("q1"))
    assert (await client.reply()).startswith("421 4.3.2")


async def test_nobody_connected_means_no_waiting(house: House) -> None:
    await house.service.stop(grace_seconds=60)


# with the queue itself, and over real sockets


async def test_a_message_is_stored_with_its_trace_field_before_the_250() -> None:
    clock, spool = FakeClock(), MemorySpool()
    resolution = Resolution(
        [NewRecipient("bob@example.net", "bob@example.net", TargetKind.REMOTE, RouteClass(("out",)))]
    )
    intake = Intake(spool, lambda envelope, facts: resolution, clock, IntakeSettings("mail.example.net", 1000))
    service = Service(FakePolicy(), intake, clock)
    async with anyio.create_task_group() as tasks:
        client, server = stream_pair()
        tasks.start_soon(service.handle, server)
        speaker = Client(client)
        await speaker.greet()
        speaker.stream.write(ENVELOPE + b"DATA\r\nSubject: x\r\n\r\ntext\r\n.\r\n")
        reply = await last_reply(speaker, 4)
        (listed,) = await spool.listing()
        queued = await spool.find(listed.message.queue_id)
        assert queued is not None
        assert reply == str(accepted(queued.message.queue_id))
        assert queued.message.header.startswith(b"Received: from laptop ([192.0.2.1])\r\n\tby mail.example.net")
        assert b" with ESMTP\r\n" in queued.message.header
        assert b"".join(queued.message.body_chunks()) == b"text\r\n"
        await speaker.ask(b"QUIT\r\n")


def report(what: str, error: Exception) -> None:
    raise AssertionError(what) from error


async def test_over_tcp_the_surplus_client_is_refused(house: House, caplog: pytest.LogCaptureFixture) -> None:
    sockets = bind_tcp(HostPort("127.0.0.1", 0))
    listener = house.service.listener(sockets, max_connections=1, report=report)
    house.tasks.start_soon(listener.serve)
    address = HostPort("127.0.0.1", sockets[0].getsockname()[1])
    first = Client(await connect(address, timeout_seconds=5))
    await first.greet()
    second = Client(await connect(address, timeout_seconds=5))
    assert (await second.reply()).startswith("421 4.3.2 Too many connections")
    (refused,) = [record for record in caplog.records if record.getMessage() == "session refused"]
    assert vars(refused)["fields"] == {
        "client": str(second.stream.local),
        "reason": "1 are connected there, as many as may be",
    }
    assert (await first.ask(b"NOOP\r\n")).startswith("250")
    assert (await first.ask(b"QUIT\r\n")).startswith("221")
    first.stream.abort()
    second.stream.abort()
    listener.close()


async def test_over_the_unix_socket_the_kernel_says_who_it_is(house: House, tmp_path: Path) -> None:
    path = tmp_path / "submit.sock"
    listener = house.service.listener([bind_unix(path, 0o666)], max_connections=5, report=report)
    house.tasks.start_soon(listener.serve)
    client = Client(await connect_unix(path, timeout_seconds=5))
    await client.greet()
    client.stream.write(ENVELOPE + b"DATA\r\n.\r\n")
    assert await last_reply(client, 4) == str(accepted("q1"))
    (message,) = house.intake.stored
    assert message.origin.uid is not None
    assert message.origin.is_submission
    assert message.origin.description == f"bob (uid {message.origin.uid})"
    client.stream.abort()
    listener.close()


def test_a_session_says_who_it_is() -> None:
    assert Session(1, HostPort("192.0.2.1", 40000)).client == "192.0.2.1:40000"
    assert Session(1).client == "unknown"
    assert (
        network_origin(
            Session(1, HostPort("2001:db8::1", 9), helo_name="x", user="ann"), "ESMTPA", is_submission=True
        ).description
        == "ann at 2001:db8::1 (x)"
    )
    assert local_origin(7, "").description == "uid 7"
