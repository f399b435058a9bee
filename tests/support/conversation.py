"""Our client machine against a scripted server, in memory and without waiting."""

from collections.abc import Callable, Iterable, Sequence

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import ClientOptions, Ended, Event, Ready, StartTls, Verdicts
from masqmail.proto.smtp.compose import Outgoing
from masqmail.proto.smtp.transfer import Verdict
from support.scripted_server import ScriptedServer

OPTIONS = ClientOptions("laptop.test", starttls=StartTls.NEVER)

#: Cuts bytes into slices.
Cut = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def bytewise(data: bytes) -> Iterable[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


def message(sender: str, recipients: Sequence[str], content: bytes) -> Outgoing:
    envelope = Envelope(_mailbox(sender), tuple(Recipient(_mailbox(recipient)) for recipient in recipients))
    return Outgoing(envelope, size_bytes=len(content))


def _mailbox(text: str) -> Mailbox:
    local_part, _, domain = text.partition("@")
    return Mailbox(local_part, domain)


class Conversation:
    """Passes bytes between both until neither has anything to say."""

    def __init__(self, server: ScriptedServer, options: ClientOptions = OPTIONS, cut: Cut = whole) -> None:
        self.client = Client(options)
        self.server = server
        self.cut = cut
        self.events: list[Event] = []
        self.sent = b""  # everything the client sent
        self.bursts: list[bytes] = []  # the same, cut where it waited for the server
        self.contents: dict[int, bytes] = {}
        self._hear(server.connect())

    def start(self, mail: Outgoing, content: bytes) -> int:
        number = self.client.start(mail)
        self.contents[number] = content
        return number

    def run(self) -> None:
        """Until everything is said, or the connection ended."""
        while burst := self._client_output():
            self.bursts.append(burst)
            self.sent += burst
            for piece in self.cut(burst):
                self._hear(self.server.receive(piece))
            if self.server.is_closed:
                self.client.abandon()
                self._collect()
                return

    def _client_output(self) -> bytes:
        output = b""
        while True:
            data = self.client.data_to_send()
            output += data
            if (number := self.client.body_of) is not None:
                for piece in self.cut(self.contents[number]):
                    output += self.client.body_data(piece)
                output += self.client.body_end()
            elif not data:
                self._collect()
                return output

    def _hear(self, data: bytes) -> None:
        for piece in self.cut(data):
            self.client.receive(piece)
            self._collect()

    def _collect(self) -> None:
        while (event := self.client.next_event()) is not None:
            self.events.append(event)

    @property
    def is_ready(self) -> bool:
        return Ready() in self.events

    @property
    def ended(self) -> Ended | None:
        return next((event for event in self.events if isinstance(event, Ended)), None)

    @property
    def verdicts(self) -> dict[int, tuple[Verdict, ...]]:
        found = [event for event in self.events if isinstance(event, Verdicts)]
        assert len({event.number for event in found}) == len(found), "a message got its verdicts twice"
        return {event.number: event.verdicts for event in found}


def converse(
    server: ScriptedServer,
    mails: Iterable[tuple[Outgoing, bytes]],
    options: ClientOptions = OPTIONS,
    cut: Cut = whole,
) -> Conversation:
    """A whole session: everything started at once, up to the last verdict."""
    conversation = Conversation(server, options, cut)
    conversation.run()
    for mail, content in mails:
        conversation.start(mail, content)
    conversation.run()
    return conversation


def letters(number: int, *, recipients: int = 1, size: int = 40) -> list[tuple[Outgoing, bytes]]:
    """Messages that can be told apart by sender (`s3@a.test`), recipients (`r3-0@b.test`) and content."""
    made = []
    for index in range(number):
        content = f"Subject: {index}\r\n\r\n".encode()
        content += b"x" * max(0, size - len(content) - 2) + b"\r\n"
        names = [f"r{index}-{i}@b.test" for i in range(recipients)]
        made.append((message(f"s{index}@a.test", names, content), content))
    return made
