"""What a session comes to: an outcome for each recipient of its messages, and an end for its next hop.

Kept by one `delivery.smtp` session, which says what happens; what that means is decided here and in `blame`.
"""

from collections.abc import Sequence

from masqmail.delivery.blame import is_answer, outcome_of
from masqmail.delivery.connect import Memory
from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit, Deferred, NotTried, Outcome
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.net.errors import ConnectionLost, NetError, StreamTimeout
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import Ended, Event, Phase, Quitted, Verdicts
from masqmail.proto.smtp.transfer import Fate

_CUT_OFF = Status(451, "4.4.2", "The connection broke again in the middle of the message")  # RFC 3463 §3.5


@frozen
class SessionEnd:
    """How a connection ended; without a culprit all went well.

    With `progress` at least one message got an answer, or must let the others go first: connect again at once.
    Without it the connection achieved nothing, and its next hop should be paused for this culprit and reason.
    """

    culprit: Culprit | None = None
    reason: str = ""
    status: Status | None = None
    progress: bool = False

    @property
    def is_ok(self) -> bool:
        return self.culprit is None


class Reckoning:
    """The account of one session. `end` is set once, by whatever ends it; `fault` by an error of ours.

    `account_trouble` is an end that is still to come: the next hop takes no more from our account.
    """

    def __init__(self, next_hop: str, client: Client, memory: Memory) -> None:
        self.end: SessionEnd | None = None
        self.fault: Exception | None = None
        self.account_trouble: SessionEnd | None = None
        self.progress = False
        self._name = next_hop
        self._client = client
        self._memory = memory
        self._queue_ids: dict[int, str] = {}  # of the messages under way
        self._in_hand: int | None = None  # the message whose content has left in part
        self._put_off: dict[int, Deferred] = {}  # messages that are themselves why they were not sent

    @property
    def is_over(self) -> bool:
        return self.end is not None or self.fault is not None

    @property
    def went_well(self) -> bool:
        return self.fault is None and self.end is not None and self.end.is_ok

    # what happens

    def note_event(self, event: Event) -> None:
        """Something that may be the end of the session."""
        if isinstance(event, Ended):
            self.end = SessionEnd(event.culprit, f"{self._name} {event.reason}", event.status)
        elif isinstance(event, Quitted):
            self.end = self.account_trouble or SessionEnd()

    def note_stopped(self, error: Exception) -> None:
        """An exception stopped the session, perhaps after it had ended otherwise."""
        if not isinstance(error, NetError | PeerError):
            self.fault = self.fault or error
        elif self.end is None:
            self.end = self._end_by(error)

    def note_taken(self, number: int, queue_id: str) -> None:
        """A message was given to the machine."""
        self._queue_ids[number] = queue_id

    def note_content_begun(self, number: int) -> None:
        self._in_hand = number

    def note_content_sent(self) -> None:
        self._in_hand = None

    def note_content_spoiled(self, number: int, error: Exception) -> None:
        """The stored content is not what it should be. The server must not take the half we sent for all of it."""
        reason = f"the stored message could not be read: {error}"
        self._put_off[number] = Deferred(LOCAL_ERROR.with_text(reason), Culprit.LOCAL, reason)
        self.end = SessionEnd(Culprit.LOCAL, reason)
        self.progress = True  # nothing is wrong with the next hop

    # what it means

    def outcomes(self, found: Verdicts, trouble: NotTried | Deferred) -> Sequence[Outcome]:
        """One for each recipient of a message; `trouble` is what there is now, if it was not sent."""
        queue_id = self._queue_ids.pop(found.number)
        trouble = self._put_off.get(found.number, trouble)
        takes_dsn = self._client.offered.dsn
        outcomes = [
            outcome_of(verdict, host=self._name, takes_dsn=takes_dsn, trouble=trouble) for verdict in found.verdicts
        ]
        for verdict, outcome in zip(found.verdicts, outcomes, strict=True):
            if verdict.fate is Fate.REFUSED and isinstance(outcome, NotTried):
                end = SessionEnd(outcome.culprit, outcome.reason, verdict.status)
                self.account_trouble = self.account_trouble or end
            elif is_answer(verdict):
                self.progress = True
                self._memory.note_answered(self._name, queue_id)
        if any(verdict.fate is Fate.IN_DOUBT for verdict in found.verdicts):
            # It waits, as what is in doubt does; when that happens to it again the others go first.
            self.progress |= self._memory.note_cut_off(self._name, queue_id)
        return outcomes

    def trouble(self) -> NotTried | Deferred:
        """What it means for a message that it was not sent."""
        if self.fault is not None:
            reason = f"an error of ours stopped the connection to {self._name}: {self.fault!r}"
            return Deferred(LOCAL_ERROR.with_text("An error of ours"), Culprit.US, reason)
        if self.end is not None and self.end.culprit is not None:
            return NotTried(self.end.culprit, self.end.reason, self._name)
        if self._client.phase is Phase.CLOSED:
            return NotTried(Culprit.LINK, f"sending to {self._name} was stopped", self._name)
        return NotTried(Culprit.SESSION, f"{self._name} takes no more messages in this session", self._name)

    def _end_by(self, error: NetError | PeerError) -> SessionEnd:
        is_ready = self._client.phase is Phase.READY
        if isinstance(error, PeerError):
            if is_ready:
                self._memory.note_trouble(self._name, is_certain=True)
            return SessionEnd(Culprit.SESSION, f"{self._name} answered nonsense: {error.status.text}")
        if self._client.phase is Phase.QUIT or (is_ready and self._client.is_idle):
            return self.account_trouble or SessionEnd()  # it closed what we no longer needed
        if is_ready and isinstance(error, StreamTimeout | ConnectionLost):
            self._break_off(error.reason)
        return SessionEnd(error.culprit, f"{self._name}: {error.reason}")

    def _break_off(self, why: str) -> None:
        """The connection broke with work in hand. A message in whose middle that happens again lets others go first.

        The server, a filter or a firewall on the way may object to its recipients or to what is in it, and would to
        the end of its lifetime.
        """
        if self._client.is_pipelining:
            self._memory.note_trouble(self._name, is_certain=False)
        number = self._client.questioned_message if self._in_hand is None else self._in_hand
        if number is not None and self._memory.note_cut_off(self._name, self._queue_ids[number]):
            reason = f"the connection to {self._name} broke again in the middle of this message: {why}"
            self._put_off[number] = Deferred(_CUT_OFF, Culprit.MESSAGE, reason, self._name)
            self.progress = True
