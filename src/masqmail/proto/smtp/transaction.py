"""One mail transaction on the server's side: its envelope, and the message while it comes in."""

from collections import deque

from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.status import MESSAGE_TOO_BIG, Status
from masqmail.proto.lines import TextCheck
from masqmail.proto.smtp.command import Bdat, Mail
from masqmail.proto.smtp.data import ChunkReader, DataReader
from masqmail.proto.smtp.replies import BAD_TEXT
from masqmail.proto.smtp.session import Body, Discard, Event


class Transaction:
    """What was accepted since MAIL, and whether the text that comes may be kept.

    Text goes to `events` as `Body`; at its first fault a `Discard` follows and the rest of it is dropped.
    `size_bytes` counts the text; of chunks it counts those announced.
    """

    def __init__(self, mail: Mail, max_size_bytes: int, events: deque[Event]) -> None:
        self.mail = mail
        self.recipients: list[Recipient] = []
        self.size_bytes = 0
        self.is_kept = False  # somebody takes the text, and it was neither completed nor given up
        self._max_size_bytes = max_size_bytes
        self._events = events
        self._check = TextCheck()
        self._data: DataReader | None = None  # these two from the first piece of text on
        self._chunks: ChunkReader | None = None

    def envelope(self) -> Envelope:
        mail = self.mail
        return Envelope(mail.reverse_path, tuple(self.recipients), mail.ret, mail.envid, mail.body, mail.smtputf8)

    @property
    def refusal(self) -> Status | None:
        """Why the text cannot be accepted as far as it is known; the same however it was sliced."""
        if not self._check.is_clean:
            return BAD_TEXT
        return MESSAGE_TOO_BIG if self.size_bytes > self._max_size_bytes else None

    @property
    def is_end_doubtful(self) -> bool:
        """See `DataReader.is_end_doubtful`."""
        return self._data is not None and self._data.is_end_doubtful

    def read_data(self, data: bytes) -> bytes | None:
        """What follows DATA; once the text has ended returns what stands behind it."""
        reader = self._data = self._data or DataReader(self._check)
        text, rest = reader.feed(data)
        self.size_bytes += len(text)
        self._keep(text)
        return rest

    def begin_chunk(self, chunk: Bdat) -> None:
        self.size_bytes += chunk.size_bytes

    def read_chunk(self, data: bytes) -> None:
        """Octets of a chunk."""
        reader = self._chunks = self._chunks or ChunkReader(self._check)
        reader.feed(data)
        self._keep(data)

    def end_chunks(self) -> None:
        """The last chunk is complete."""
        self._keep(self._chunks.finish() if self._chunks else b"")

    def give_up(self) -> None:
        """The message will not be completed."""
        if self.is_kept:
            self.is_kept = False
            self._events.append(Discard())

    def _keep(self, text: bytes) -> None:
        if self.refusal is not None:
            self.give_up()
        elif text and self.is_kept:
            self._events.append(Body(text))


class Chunk:
    """One BDAT while its octets come. With a `refusal` they are dropped, and it is the reply at their end."""

    def __init__(self, command: Bdat, refusal: Status | None) -> None:
        self.command = command
        self.left_bytes = command.size_bytes
        self.refusal = refusal
