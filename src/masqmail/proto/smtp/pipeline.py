"""The stream of transactions on one connection: what may be sent now, and whose each reply is.

There are two positions. The *sent* position walks through transfers command by command; each command adds to
the list of expected replies. The *answered* position is the head of that list. How far the first may run
ahead of the second is the pace:

- STREAM (PIPELINING and CHUNKING): MAIL, RCPTs and BDAT LAST of one message after another, never waiting. A
  RSET goes before a MAIL that could otherwise fall into a transaction left open by an earlier refusal.
  Content larger than the window waits until its recipients are answered.
- GROUP (PIPELINING alone): MAIL, RCPTs and DATA in one group, which stops there until the 354. Content and
  the next group travel together (RFC 2920 §3.1).
- LOCK_STEP: one command, one reply.
"""

from collections import deque
from enum import Enum
from typing import NamedTuple

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.smtp.body import BodyWriter, Chunk, DotStuffing
from masqmail.proto.smtp.compose import Outgoing, ToALabels, group_recipients, prepare
from masqmail.proto.smtp.extension import Extensions
from masqmail.proto.smtp.transfer import Job, Step, Transfer


class Pace(Enum):
    """How far sending may run ahead of the replies."""

    STREAM = "stream"
    GROUP = "group"
    LOCK_STEP = "lock-step"


class Expected(NamedTuple):
    """A reply that must come: to which command, of which transfer, for which recipient.

    `trip` is how many replies will have been waited for then, one after the other.
    """

    trip: int
    step: Step
    transfer: Transfer | None = None
    recipient: int = -1


class Pipeline:
    """Transactions in, commands out; replies in, verdicts out."""

    def __init__(
        self, offered: Extensions, pace: Pace, *, window_bytes: int, lmtp: bool, to_a_labels: ToALabels
    ) -> None:
        self.window_bytes = window_bytes
        self._transfers_begun = 0
        self.trips = 0  # replies that had to be waited for, one after the other
        self.jobs = 0  # started, and not finished
        self.bytes = 0  # of these
        self._offered = offered
        self._pace = pace
        self._lmtp = lmtp
        self._to_a_labels = to_a_labels
        self._queue: deque[Transfer] = deque()
        self._in_flight: deque[Transfer] = deque()  # begun, and not finished
        self._expected: deque[Expected] = deque()
        self._finished: list[Job] = []
        self._writing: Transfer | None = None
        self._newest: Transfer | None = None  # the last one whose MAIL was sent
        self._body: BodyWriter | None = None
        self._awaits_data = False  # DATA was sent, its reply decides what is next
        self._lone_dot = False  # 354 came although nobody was accepted
        self._needs_reset = False  # a MAIL sent now could fall into an open transaction

    # work in, verdicts out

    def start(self, number: int, mail: Outgoing) -> None:
        job = Job(number, mail, prepare(mail, self._offered, self._to_a_labels))
        self.jobs += 1
        self.bytes += mail.size_bytes
        groups = group_recipients(mail.envelope.recipients, job.open_recipients(), self._offered)
        self._queue.extend(Transfer(job, group) for group in groups)
        if not groups:
            self._finish_job(job)

    def take_finished(self) -> list[Job]:
        """The messages whose recipients all have their verdict since the last call."""
        finished = self._finished
        if finished:
            self._finished = []
        return finished

    def abandon(self, status: Status | None) -> None:
        """The connection is over: gives what is left its verdicts. `status` is the 421 that ended it."""
        step = self.awaited_step or Step.MAIL
        for transfer in (*self._in_flight, *self._queue):
            transfer.give_up(step, status)
        jobs = dict.fromkeys(transfer.job for transfer in (*self._in_flight, *self._queue))
        self._in_flight.clear()
        self._queue.clear()
        self._expected.clear()
        self._writing = self._body = None
        for job in jobs:
            self._finish_job(job)

    def _give_back_queue(self) -> None:
        """Concludes what was not begun as not sent."""
        for transfer in self._queue:
            transfer.give_up(Step.MAIL, None)
        jobs = dict.fromkeys(transfer.job for transfer in self._queue)
        self._queue.clear()
        for job in jobs:
            if not job.open_recipients():
                self._finish_job(job)

    @property
    def is_used_up(self) -> bool:
        """Whether the server takes no further transaction in this session, RFC 9422 §4.1."""
        mail_max = self._offered.limits.mail_max
        return mail_max is not None and self._transfers_begun >= mail_max

    @property
    def transactions_left(self) -> int | None:
        """How many more the server takes in this session, RFC 9422 §4.1; None where it sets no limit."""
        mail_max = self._offered.limits.mail_max
        return None if mail_max is None else max(0, mail_max - self._transfers_begun - len(self._queue))

    @property
    def awaited_step(self) -> Step | None:
        """What the next reply answers, or None when none must come."""
        return self._expected[0].step if self._expected else None

    @property
    def awaited_transfer(self) -> Transfer | None:
        """The transaction that the next reply belongs to."""
        return self._expected[0].transfer if self._expected else None

    @property
    def is_content_complete(self) -> bool:
        """Whether the last byte of the transfer answered next has been sent."""
        return not self._in_flight or self._in_flight[0].content_sent

    # the sent position

    def data_to_send(self) -> bytes:
        """The commands that may leave now, up to the next content."""
        commands = []
        while self._body is None and (command := self._next_command()):
            commands.append(command)
        return b"".join(commands)

    @property
    def body_of(self) -> int | None:
        """The number of the message whose content must be sent next."""
        return self._writing.job.number if self._writing is not None and self._body is not None else None

    def body_data(self, chunk: bytes) -> bytes:
        if self._body is None or self._writing is None:
            raise UsageError("no content is wanted now")
        data = self._body.write(chunk)
        self._writing.content_sent = self._body.is_complete  # a BDAT ends with its last octet
        return data

    def body_end(self) -> bytes:
        transfer = self._writing
        if self._body is None or transfer is None:
            raise UsageError("no content is wanted now")
        data = self._body.end()
        self._body = None
        self._end_content(transfer)
        return data

    def _next_command(self) -> bytes:
        """One command, or nothing when a reply must come first or there is no more to send."""
        transfer = self._writing
        if self._lone_dot and transfer is not None:
            return self._send_lone_dot(transfer)
        if self._awaits_data or (self._pace is Pace.LOCK_STEP and self._expected):
            return b""
        if transfer is None:
            return self._begin_transfer()
        if transfer.rcpts_sent < len(transfer.indices) and not transfer.is_refused:
            index = transfer.indices[transfer.rcpts_sent]
            transfer.rcpts_sent += 1
            return self._expect(transfer.job.prepared.rcpt_commands[index], Step.RCPT, transfer, index)
        if self._pace is not Pace.STREAM:
            return self._ask_for_data(transfer)
        return self._send_chunk(transfer)

    def _begin_transfer(self) -> bytes:
        if not self._queue:
            return b""
        if self.is_used_up:
            self._give_back_queue()
            return b""
        if self._needs_reset:
            self._needs_reset = False
            return self._expect(b"RSET\r\n", Step.RSET)
        transfer = self._queue.popleft()
        self._in_flight.append(transfer)
        self._writing = self._newest = transfer
        self._transfers_begun += 1
        self._needs_reset = True
        return self._expect(transfer.job.prepared.mail_command, Step.MAIL, transfer)

    def _send_chunk(self, transfer: Transfer) -> bytes:
        size = transfer.job.mail.size_bytes
        if size > self.window_bytes:  # too much to send in vain
            if transfer.awaited:
                return b""
            if not transfer.accepted:
                self._end_writing(transfer)
                return self._next_command()
        self._body = Chunk(size)
        return self._expect(f"BDAT {size} LAST\r\n".encode(), Step.CONTENT, transfer)

    def _ask_for_data(self, transfer: Transfer) -> bytes:
        if not transfer.awaited and not transfer.accepted:  # already known: there is nobody to send it to
            self._end_writing(transfer)
            return self._next_command()
        self._awaits_data = True
        return self._expect(b"DATA\r\n", Step.DATA, transfer)

    def _send_lone_dot(self, transfer: Transfer) -> bytes:
        self._lone_dot = False
        self._end_content(transfer)
        return b".\r\n"

    def _end_content(self, transfer: Transfer) -> None:
        transfer.content_sent = True
        if self._pace is not Pace.STREAM:
            self._needs_reset = False  # the final dot ends a transaction, RFC 5321 §4.1.1.4
        self._end_writing(transfer)

    def _expect(self, command: bytes, step: Step, transfer: Transfer | None = None, recipient: int = -1) -> bytes:
        self._expected.append(Expected(self.trips + 1, step, transfer, recipient))
        if transfer is not None:
            transfer.awaited += 1
        return command

    def _end_writing(self, transfer: Transfer) -> None:
        transfer.is_written = True
        self._writing = None
        self._finish_transfers()

    # the answered position

    def receive_reply(self, status: Status) -> None:
        """Takes the reply to the first expected command.

        Raises `PeerError` when it fits nothing: we and the server no longer speak of the same thing.
        """
        if not self._expected:
            raise _out_of_step(f"a reply to nothing: {status}")
        trip, step, transfer, recipient = expected = self._expected[0]
        self._check(status, expected)
        if trip > self.trips:
            self.trips = trip
        if transfer is None:
            self._expected.popleft()
            return
        if step is Step.CONTENT and self._lmtp and not transfer.answer_content_once(status):
            return  # the next recipient's reply is expected under the same entry
        self._expected.popleft()
        transfer.awaited -= 1
        if step is Step.DATA and status.is_intermediate:
            self._go_ahead(transfer)
        else:
            self._answer(step, transfer, recipient, status)
            self._finish_transfers()

    def close(self, status: Status) -> None:
        """A 421 came: the server has stopped at the command it answers. Nothing after it was taken up.

        What it answered is refused for now (a session that could not even begin with a MAIL refuses nobody),
        and all the rest was not sent, whatever of it has left.
        """
        if self._expected:
            _, step, transfer, recipient = self._expected[0]
            if transfer is not None and step is not Step.MAIL and not transfer.is_refused:
                if step is Step.CONTENT and self._lmtp:
                    transfer.answer_content_once(status)
                else:
                    self._answer(step, transfer, recipient, status)
        self.abandon(status)

    def _answer(self, step: Step, transfer: Transfer, recipient: int, status: Status) -> None:
        match step:
            case Step.MAIL:
                transfer.answer_mail(status)
            case Step.RCPT:
                transfer.answer_rcpt(recipient, status)
            case Step.DATA:
                transfer.answer_data(status)
                self._awaits_data = False
                self._end_writing(transfer)
            case Step.CONTENT if not self._lmtp:
                transfer.answer_content(status)

    def _go_ahead(self, transfer: Transfer) -> None:
        """The 354 came: the content is next, or the final dot alone when nobody is there to get it."""
        self._awaits_data = False
        self._expect(b"", Step.CONTENT, transfer)
        if transfer.accepted:
            self._body = DotStuffing(transfer.job.mail.size_bytes)
        else:
            self._lone_dot = True  # RFC 2920 §3.1

    def _check(self, status: Status, expected: Expected) -> None:
        """Raises `PeerError` for a reply that cannot belong to the command it would answer.

        A 503 that an earlier refusal explains is no surprise; any other one while we run ahead, or a 500,
        means that the server reads something else than we wrote: a BDAT it left unread, for instance.
        """
        _, step, transfer, _ = expected
        wrong_digit = status.is_success if step is Step.DATA else status.is_intermediate
        if wrong_digit or (step is Step.RSET and not status.is_success):  # RFC 5321 §4.3.2
            raise _out_of_step(f"{step.value} was answered with {status}")
        if transfer is None:
            return
        if step is Step.CONTENT and status.is_success and not transfer.content_sent:
            raise _out_of_step(f"the message was answered with {status} before it was complete")
        if status.is_intermediate and self._lmtp and not transfer.accepted:
            raise _out_of_step("354 although no recipient was accepted")  # RFC 2033 §4.2
        if self._pace is Pace.LOCK_STEP:
            return
        explained = transfer.is_refused or (step in (Step.DATA, Step.CONTENT) and not transfer.accepted)
        if status.code == 500 or (status.code == 503 and not explained):
            raise _out_of_step(f"{step.value} was answered with {status}")

    # the end of transfers and jobs

    def _finish_transfers(self) -> None:
        while self._in_flight and self._in_flight[0].is_finished:
            transfer = self._in_flight.popleft()
            if transfer is self._newest and transfer.is_closed:
                self._needs_reset = False
            if transfer.put_off:
                self._queue.appendleft(Transfer(transfer.job, transfer.put_off))
            elif not transfer.job.open_recipients():
                self._finish_job(transfer.job)

    def _finish_job(self, job: Job) -> None:
        self.jobs -= 1
        self.bytes -= job.mail.size_bytes
        self._finished.append(job)


def _out_of_step(text: str) -> PeerError:
    return PeerError(Status(451, "4.5.0", text))
