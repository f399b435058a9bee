"""Makes reports to originators and notices to the postmaster, as messages ready to be stored.

A report never causes another: one that cannot be delivered goes to the postmaster, as a notice, and ends there. When
there are too many (`reportcap`), the rest is held in the queue, and the postmaster is told.
"""

from collections.abc import Sequence
from datetime import datetime
from logging import ERROR, INFO, WARNING

from masqmail.daemon.directory import Directory, Marks
from masqmail.daemon.fetch.reports import filled
from masqmail.daemon.reportcap import MAX_TO_ALL, MAX_TO_ONE, HeldReports, ReportCap
from masqmail.daemon.subject import Subject
from masqmail.daemon.texts import Texts
from masqmail.mail.address import AddressError, Mailbox, parse_mailbox
from masqmail.mail.dsn import Action, Composed, Report, ReportedRecipient, compose, notice
from masqmail.mail.envelope import DEFAULT_NOTIFY, Body, Notify, Recipient
from masqmail.mail.status import LOCAL_ERROR, Status
from masqmail.mail.wording import Letter
from masqmail.routing.alias import expand
from masqmail.routing.decide import MessageFacts
from masqmail.routing.local import POSTMASTER
from masqmail.spool.api import Kind, NewMessage, NewRecipient, StoredRecipient, TargetKind
from masqmail.spool.queueid import QueueIds
from masqmail.spool.states import State
from masqmail.system.clock import Clock
from masqmail.system.events import NOTICE_LOST, NOTICE_MADE, REPORT_HELD, REPORT_MADE, emit

ITSELF = "MasqMail itself"

_POSTMASTER = Mailbox(POSTMASTER)

#: Why a report is held that the cap does not let go.
HELD_BACK = "too many reports lately: release it if it is right"


class Reporter:
    """Composes reports and notices and finds out where they go; a reload sets `texts` anew."""

    def __init__(self, directory: Directory, clock: Clock, queue_ids: QueueIds) -> None:
        self.texts = Texts()
        self.cap = ReportCap(clock)
        self._directory = directory
        self._clock = clock
        self._queue_ids = queue_ids

    def about_new(self, recipient: NewRecipient) -> ReportedRecipient | None:
        """What a report says of a recipient that failed at acceptance; None where nobody wants to know."""
        if Notify.FAILURE not in (DEFAULT_NOTIFY if recipient.notify is None else recipient.notify):
            return None
        status = recipient.status or LOCAL_ERROR
        return ReportedRecipient(
            self.address_of(recipient), status, recipient.reason, asked_for=recipient.original, orcpt=recipient.orcpt
        )

    def about_path(self, recipient: Recipient, status: Status) -> ReportedRecipient:
        address = str(self._directory.rules.local.qualify(recipient.mailbox))
        return ReportedRecipient(address, status, status.text, orcpt=recipient.orcpt)

    def address_of(self, recipient: NewRecipient | StoredRecipient) -> str:
        """What a report calls a recipient: an address (RFC 3464 §2.3.2), also for a program or a file.

        Those go by the address that stands for them; what they are is nobody's business but ours.
        """
        if recipient.kind in (TargetKind.PIPE, TargetKind.FILE) or recipient.target.startswith(("/", "|")):
            return recipient.original
        try:
            return str(self._directory.rules.local.qualify(parse_mailbox(recipient.target)))
        except AddressError:  # a bad target of an alias, or what somebody wrote into To
            return recipient.original

    def make(
        self, subject: Subject, action: Action, recipients: Sequence[ReportedRecipient | None]
    ) -> NewMessage | None:
        """The report on these recipients of a message, or None where there must be none.

        One on fetched mail is never for its sender; see also `about_fetched`.
        """
        about = tuple(recipient for recipient in recipients if recipient is not None)
        if not about:
            return None
        if subject.reverse_path is not None and subject.kind is not Kind.FETCHED:
            made = self._report(subject, action, about, subject.reverse_path, Kind.REPORT)
            if _reaches_somebody(made):
                return made
        if action is not Action.FAILED:
            return None
        if subject.kind is Kind.NOTICE:
            reason = "; ".join(f"{recipient.address}: {recipient.reason or recipient.status}" for recipient in about)
            emit(NOTICE_LOST, level=ERROR, queue_id=subject.queue_id, reason=reason)
            return None
        return self._report(subject, action, about, Mailbox(POSTMASTER), Kind.NOTICE)

    def about_fetched(self, letter: Letter, subject: Subject, about: Sequence[ReportedRecipient]) -> NewMessage:
        """One of the letters on fetched mail, to the postmaster. Of too many the rest is held."""
        made = self.notice(filled(letter, subject, about, self.texts.words))
        if not _reaches_somebody(made):
            return made
        to = str(self._directory.rules.local.qualify(_POSTMASTER))
        return made if self._may_leave(made.queue_id, to, Action.FAILED, subject) else _held(made)

    def about_held(self, held: HeldReports) -> Letter:
        """What the postmaster is told of reports that were too many."""
        lines = [f"  {address}: {count}" for address, count in held.named.items()]
        if (others := held.count - sum(held.named.values())) > 0:
            lines.append(f"  ...: {others}")
        values = {"each": MAX_TO_ONE, "all": MAX_TO_ALL, "count": held.count, "list": "\n".join(lines)}
        return self.texts.words.reports_held.filled(**values)

    def notice(self, letter: Letter, to: Mailbox = _POSTMASTER, reply_to: Mailbox | None = None) -> NewMessage:
        """A letter to the postmaster, or somebody else of this host, about the system itself."""
        now = self._clock.now()
        queue_id = self._queue_ids.new(now)
        host_name = self._directory.rules.host_name
        emit(NOTICE_MADE, queue_id=queue_id, subject=letter.subject)
        composed = notice(
            letter.subject,
            letter.text,
            to=self._directory.rules.local.qualify(to),
            host_name=host_name,
            notice_id=queue_id,
            made_at=now.astimezone(),
            language=self.texts.language,
            reply_to=reply_to,
        )
        return self._message(composed, queue_id, now, to, Kind.NOTICE, smtputf8=False)

    def _report(
        self, subject: Subject, action: Action, about: tuple[ReportedRecipient, ...], to: Mailbox, kind: Kind
    ) -> NewMessage:
        now = self._clock.now()
        queue_id = self._queue_ids.new(now)
        rules = self._directory.rules
        report = Report(
            action=action,
            recipients=about,
            to=rules.local.qualify(to),
            host_name=rules.host_name,
            report_id=queue_id,
            made_at=now.astimezone(),
            queue_id=subject.queue_id,
            arrived_at=subject.arrived_at.astimezone(),
            header=subject.header,
            body=subject.body,
            envid=subject.envid,
            smtputf8=subject.smtputf8,
            language=self.texts.language,
            template=self.texts.template_for(action),
            sender=subject.reverse_path,
            received_host=subject.received_host,
            ident=subject.ident,
        )
        made = self._message(compose(report), queue_id, now, to, kind, smtputf8=subject.smtputf8)
        if not _reaches_somebody(made):
            return made
        return made if self._may_leave(queue_id, str(report.to), action, subject) else _held(made)

    def _may_leave(self, queue_id: str, to: str, action: Action, subject: Subject) -> bool:
        """Whether a report is not one too many."""
        is_taken = self.cap.takes(to.lower())
        emit(
            REPORT_MADE if is_taken else REPORT_HELD,
            level=INFO if is_taken else WARNING,
            queue_id=queue_id,
            action=action.value,
            about=subject.queue_id,
            recipient=to,
        )
        return is_taken

    def _message(
        self, composed: Composed, queue_id: str, now: datetime, to: Mailbox, kind: Kind, *, smtputf8: bool
    ) -> NewMessage:
        size_bytes = len(composed.header) + 2 + len(composed.body)
        facts = MessageFacts(None, (), size_bytes)
        recipient = Recipient(to, Notify.FAILURE)
        expansion = expand(to, self._directory.book())
        marks = Marks(self._directory.rules.mark)
        recipients = [found for _, found in self._directory.targets(recipient, expansion, facts, marks)]
        made = NewMessage(
            queue_id=queue_id,
            reverse_path=None,
            recipients=recipients,
            header=composed.header,
            body=composed.body,
            received_at=now,
            received_from=ITSELF,
            protocol="local",
            declared_body=Body.SEVEN_BIT if composed.body.isascii() else Body.EIGHT_BIT,
            smtputf8=smtputf8,
            kind=kind,
        )
        if kind is Kind.NOTICE and not _reaches_somebody(made):
            emit(NOTICE_LOST, level=ERROR, queue_id=queue_id, reason="the postmaster has no mailbox")
        return made


def _held(message: NewMessage) -> NewMessage:
    """The message, kept until somebody releases it."""
    recipients = [
        recipient._replace(state=State.HELD, reason=HELD_BACK) if recipient.state is State.QUEUED else recipient
        for recipient in message.recipients
    ]
    return message._replace(recipients=recipients)


def _reaches_somebody(message: NewMessage) -> bool:
    return not all(recipient.state.is_ended for recipient in message.recipients)
