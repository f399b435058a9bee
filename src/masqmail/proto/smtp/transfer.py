"""One transaction on the wire: what of it was sent, and what its replies mean for each recipient.

A `Job` is a message the shell wants sent. It becomes one `Transfer`, or several where the server limits the
recipients of a transaction. A transfer's recipients are named by their index in the envelope.
"""

from collections.abc import Sequence
from enum import Enum

from masqmail.frozen import frozen
from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.compose import Outgoing, Prepared


class Step(Enum):
    """Where in a transaction a reply belongs, or a verdict was made."""

    CHECK = "check"  # before anything was sent, by us
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"  # the reply after the final dot or BDAT LAST


class Fate(Enum):
    """What became of a recipient in a transaction."""

    ACCEPTED = "accepted"  # the server has taken responsibility
    REFUSED = "refused"  # by a reply, or by ourselves at Step.CHECK
    NOT_SENT = "not sent"  # never completely sent, or certainly not taken up
    IN_DOUBT = "in doubt"  # completely sent, and never answered


@frozen
class Verdict:
    """The end of one recipient in one transaction. `status` is what was answered, if anything was."""

    fate: Fate
    step: Step
    status: Status | None = None


class Job:
    """A message to send, and the verdicts found so far."""

    def __init__(self, number: int, mail: Outgoing, prepared: Prepared) -> None:
        self.number = number
        self.mail = mail
        self.prepared = prepared
        self.verdicts: list[Verdict | None] = [
            None if status is None else Verdict(Fate.REFUSED, Step.CHECK, status) for status in prepared.refusals
        ]

    def open_recipients(self) -> list[int]:
        """The recipients that have no verdict yet."""
        return [index for index, verdict in enumerate(self.verdicts) if verdict is None]

    def final_verdicts(self) -> tuple[Verdict, ...]:
        """One verdict per recipient; only when all are there."""
        verdicts = tuple(verdict for verdict in self.verdicts if verdict is not None)
        assert len(verdicts) == len(self.verdicts)
        return verdicts


#: Replies to RCPT that mean "no more in this transaction", RFC 5321 §4.5.3.1.10; others have no say in it.
_TOO_MANY = frozenset({(452, "4.5.3"), (452, ""), (552, "5.5.3"), (552, "")})


class Transfer:
    """A transaction for some recipients of a job. Sent command by command, answered reply by reply.

    The two positions: `rcpts_sent`, `is_written` say what was sent; `awaited` counts replies still to come.
    """

    def __init__(self, job: Job, indices: Sequence[int]) -> None:
        self.job = job
        self.indices = tuple(indices)
        self.rcpts_sent = 0
        self.is_written = False  # nothing more will be sent of it
        self.content_sent = False  # its last byte has left
        self.awaited = 0
        self.mail_reply: Status | None = None
        self.accepted: list[int] = []
        self.put_off: list[int] = []  # for a further transaction
        self.is_closed = False  # the server has no transaction open any more, for sure
        self._content_replies = 0

    @property
    def is_finished(self) -> bool:
        return self.is_written and not self.awaited

    @property
    def is_refused(self) -> bool:
        """Whether MAIL was refused: the rest of the transaction is errors we expect."""
        return self.mail_reply is not None and not self.mail_reply.is_success

    def answer_mail(self, status: Status) -> None:
        self.mail_reply = status
        if not status.is_success:
            self.is_closed = True
            self._conclude(self.indices, Verdict(Fate.REFUSED, Step.MAIL, status))

    def answer_rcpt(self, index: int, status: Status) -> None:
        if self.is_refused:
            if status.is_success:
                raise PeerError(Status(451, "4.5.0", "RCPT was accepted after MAIL was refused"))
        elif status.is_success:
            self.accepted.append(index)
        elif self.accepted and (status.code, status.enhanced) in _TOO_MANY:
            self.put_off.append(index)
        else:
            self._conclude([index], Verdict(Fate.REFUSED, Step.RCPT, status))

    def answer_data(self, status: Status) -> None:
        """A reply to DATA other than 354. Without an accepted recipient it says nothing new."""
        self._conclude(self.accepted, Verdict(Fate.REFUSED, Step.DATA, status))

    def answer_content(self, status: Status) -> None:
        """The final reply, for all accepted recipients."""
        self.is_closed = self.is_closed or status.is_success
        self._conclude(self.accepted, _content_verdict(status))

    def answer_content_once(self, status: Status) -> bool:
        """A final reply of LMTP: for one accepted recipient (RFC 2033 §4.2). True when it was the last."""
        if not self.accepted:  # one 503 for all
            return True
        self.is_closed = True
        self._conclude([self.accepted[self._content_replies]], _content_verdict(status))
        self._content_replies += 1
        return self._content_replies == len(self.accepted)

    def give_up(self, step: Step, status: Status | None) -> None:
        """The connection ended first: each recipient without a verdict gets one.

        A `status` of 421 means that the server did nothing more; without it, what was sent is in doubt.
        """
        in_doubt = self.content_sent and status is None
        verdict = Verdict(Fate.IN_DOUBT if in_doubt else Fate.NOT_SENT, step, status)
        doubtful = [index for index in self.indices if index not in self.put_off]
        self._conclude(doubtful, verdict)
        self._conclude(self.put_off, Verdict(Fate.NOT_SENT, step, status))

    def _conclude(self, indices: Sequence[int], verdict: Verdict) -> None:
        verdicts = self.job.verdicts
        for index in indices:
            if verdicts[index] is None:
                verdicts[index] = verdict


def _content_verdict(status: Status) -> Verdict:
    return Verdict(Fate.ACCEPTED if status.is_success else Fate.REFUSED, Step.CONTENT, status)
