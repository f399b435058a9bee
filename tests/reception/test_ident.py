"""Clients whose host is asked for their user, with a real little ident server on loopback."""

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import ByteStream

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.status import RECIPIENT_OK, SENDER_OK, Status
from masqmail.net.errors import NetError
from masqmail.net.listen import bind_tcp
from masqmail.net.stream import Stream, connect
from masqmail.proto.sasl import Credentials
from masqmail.proto.smtp.command import Mail
from masqmail.proto.smtp.session import Offers
from masqmail.reception import ident
from masqmail.reception.policy import Session, network_origin
from masqmail.reception.smtp import Service
from masqmail.settings import HostPort
from masqmail.spool.intake import Origin
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio

MESSAGE = b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 4 LAST\r\nhi\r\n"


class OpenPolicy:
    """Everybody may do everything; `asks` is whether their hosts are asked."""

    asks = True

    def offers(self, session: Session) -> Offers:
        return Offers("mail.example.net", 1_000_000)

    def tls_context(self) -> ssl.SSLContext | None:
        return None

    def asks_ident(self, session: Session) -> bool:
        return self.asks

    def check_sender(self, session: Session, mail: Mail) -> Status:
        return SENDER_OK

    def reverse_path(self, session: Session, mail: Mail) -> Mailbox | None:
        return mail.reverse_path

    def check_recipient(self, session: Session, mail: Mail, recipient: Recipient) -> Status:
        return RECIPIENT_OK

    async def authenticate(self, session: Session, credentials: Credentials) -> str | None:
        return None

    def origin(self, session: Session, protocol: str) -> Origin:
        return network_origin(session, protocol, is_submission=False)


class Origins:
    """Stands where the intake is; remembers where messages came from."""

    def __init__(self) -> None:
        self.seen: list[Origin] = []

    def open(self, envelope: Envelope, origin: Origin, **wishes: object) -> "Origins":
        self.seen.append(origin)
        return self

    def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> str:
        return "q1"

    def discard(self) -> None: ...


@dataclass
class IdentServer:
    """Answers what `reply` makes of a question, once `may_answer`."""

    reply: Callable[[bytes], bytes] = lambda question: question.strip() + b" : USERID : UNIX : ann\r\n"
    may_answer: anyio.Event = field(default_factory=anyio.Event)
    questions: list[bytes] = field(default_factory=list)
    connections: int = 0
    is_left: bool = False

    async def handle(self, stream: ByteStream) -> None:
        self.connections += 1
        async with stream:
            try:
                self.questions.append(await stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError):  # there was no time for a question
                self.is_left = True
                return
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._answer, stream)
                try:
                    await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    self.is_left = True
                tasks.cancel_scope.cancel()

    async def _answer(self, stream: ByteStream) -> None:
        await self.may_answer.wait()
        await stream.send(self.reply(self.questions[-1]))


@dataclass
class House:
    policy: OpenPolicy
    intake: Origins
    ident: IdentServer
    port: int
    clients: list[Stream] = field(default_factory=list)

    async def connect(self) -> Stream:
        client = await connect(HostPort("127.0.0.1", self.port), timeout_seconds=5)
        self.clients.append(client)
        assert (await client.receive(5)).startswith(b"220 ")  # whatever the ident server does
        client.write(b"EHLO laptop\r\n")
        assert (await client.receive(5)).startswith(b"250-")
        return client

    async def send(self, client: Stream, replies: int = 3) -> None:
        client.write(MESSAGE)
        received = b""
        while received.count(b"\r\n") < replies:
            received += await client.receive(5)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    policy, intake, server = OpenPolicy(), Origins(), IdentServer()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    monkeypatch.setattr(ident, "PORT", listener.extra(anyio.abc.SocketAttribute.local_port))
    sockets = bind_tcp(HostPort("127.0.0.1", 0))
    service = Service(policy, intake, FakeClock())  # type: ignore[arg-type]
    faults: list[object] = []
    smtp = service.listener(sockets, max_connections=10, report=lambda *fault: faults.append(fault))
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.handle)
        tasks.start_soon(smtp.serve)
        house = House(policy, intake, server, sockets[0].getsockname()[1])
        yield house
        for client in house.clients:
            client.abort()
        tasks.cancel_scope.cancel()
    assert faults == []


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


async def test_the_answer_is_in_the_trace_and_in_the_queue(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 60.0)
    house.ident.may_answer.set()
    client = await house.connect()
    await house.send(client)
    (origin,) = house.intake.seen
    assert origin.received_clause == "from laptop ([127.0.0.1]) (ident=ann)"
    assert origin.description == "127.0.0.1 ident=ann (laptop)"
    assert origin.user == ""
    assert client.local is not None
    assert house.ident.questions == [b"%d, %d\r\n" % (client.local.port, house.port)]


async def test_a_first_mail_waits_a_moment_for_the_answer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 60.0)
    client = await house.connect()
    client.write(MESSAGE)
    await until(lambda: house.ident.questions)
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    assert not house.intake.seen
    house.ident.may_answer.set()
    await until(lambda: house.intake.seen)
    assert house.intake.seen[0].description == "127.0.0.1 ident=ann (laptop)"


async def test_a_silent_host_holds_no_message_up_for_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 0.02)
    client = await house.connect()
    await house.send(client)
    assert house.intake.seen[0].received_clause == "from laptop ([127.0.0.1])"
    client.abort()
    await until(lambda: house.ident.is_left)


async def test_an_answer_that_comes_late_is_in_the_next_message(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 0.0)
    client = await house.connect()
    await house.send(client)
    house.ident.may_answer.set()
    await until(lambda: house.ident.is_left)
    await house.send(client)
    await house.send(client)
    assert [origin.description for origin in house.intake.seen] == [
        "127.0.0.1 (laptop)",
        "127.0.0.1 ident=ann (laptop)",
        "127.0.0.1 ident=ann (laptop)",
    ]
    assert house.ident.connections == 1


async def test_a_silent_host_is_left_when_it_has_had_its_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ident, "DEADLINE_SECONDS", 0.02)
    client = await house.connect()
    await until(lambda: house.ident.is_left)
    await house.send(client)
    assert house.intake.seen[0].description == "127.0.0.1 (laptop)"


@pytest.mark.parametrize("reply", [b"", b"\xff\x00\x01\n", b"x" * 5000, b"1, 2 : USERID : UNIX : root\r\n"])
async def test_garbage_is_no_answer(house: House, reply: bytes) -> None:
    house.ident.reply = lambda question: reply or question.strip() + b" : ERROR : HIDDEN-USER\r\n"
    house.ident.may_answer.set()
    client = await house.connect()
    await house.send(client)
    assert house.intake.seen[0].description == "127.0.0.1 (laptop)"


async def test_a_host_without_the_service_costs_no_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 60.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(ident, "PORT", unused.getsockname()[1])
        client = await house.connect()
        await house.send(client)
    assert house.intake.seen[0].description == "127.0.0.1 (laptop)"


async def test_a_client_that_goes_while_its_host_is_asked_ends_the_question(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ident, "PATIENCE_SECONDS", 0.05)
    client = await house.connect()
    client.write(MESSAGE)
    await until(lambda: house.ident.questions)
    client.abort()
    await until(lambda: house.ident.is_left)


async def test_nobody_is_asked_where_it_is_not_wanted(house: House) -> None:
    house.policy.asks = False
    client = await house.connect()
    await house.send(client)
    assert house.ident.connections == 0


async def test_a_question_after_the_session_is_impossible(house: House) -> None:
    client = await house.connect()
    await until(lambda: house.ident.questions)
    client.write(b"QUIT\r\n")
    try:
        while await client.receive(5):
            pass
    except NetError:
        pass
    await until(lambda: house.ident.is_left)
