"""From the recipients of an envelope to the targets that are stored: aliases expanded, routes found.

This happens once per message, while it is accepted. What cannot be used becomes a recipient that failed, with its
report in the same transaction.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from logging import WARNING

from masqmail.daemon.directory import LOCAL_CLASS, UNMARKED, Directory, Key, Marks
from masqmail.daemon.fetch.reports import held
from masqmail.daemon.reports import Reporter
from masqmail.daemon.subject import WITHOUT_BODY, Subject
from masqmail.mail.address import Mailbox
from masqmail.mail.dsn import Action
from masqmail.mail.envelope import DEFAULT_NOTIFY, Envelope, Notify, Recipient
from masqmail.mail.status import RECIPIENT_OK, Status
from masqmail.routing.alias import AddressBook, Expansion, expand
from masqmail.routing.decide import MessageFacts
from masqmail.routing.local import POSTMASTER
from masqmail.routing.route import QUEUE_ONLY, RouteClass
from masqmail.spool.api import Kind, NewMessage, NewRecipient, TargetKind
from masqmail.spool.intake import HeaderFacts, Resolution
from masqmail.spool.states import State
from masqmail.system.events import ALIAS_FAULTY, emit

_POSTMASTER = Mailbox(POSTMASTER)
_HELD_BACK = Marks(QUEUE_ONLY, QUEUE_ONLY)

BAD_ADDRESS = Status(553, "5.1.3", "This is no address")


class Resolver:
    """The `Resolve` of the intake. `on_classes` hears which classes got new recipients."""

    def __init__(
        self, directory: Directory, reporter: Reporter, on_classes: Callable[[Collection[RouteClass]], None]
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._on_classes = on_classes

    def resolve(self, envelope: Envelope, facts: HeaderFacts) -> Resolution:
        """Every recipient's targets, each once, with the reports that this causes already."""
        rules, directory = self._directory.rules, self._directory
        originators = facts.from_mailboxes if rules.asks_for_from else ()
        message = MessageFacts(envelope.reverse_path, originators, facts.size_bytes)
        marks = _HELD_BACK if facts.queue_only else Marks(rules.mark) if rules.mark else UNMARKED
        book: AddressBook | None = None  # looked at for local recipients only
        found: dict[Key, NewRecipient] = {}
        expanded: list[Recipient] = []
        for recipient in envelope.recipients:
            if rules.local.is_local(recipient.mailbox):
                if directory.is_reply(recipient.mailbox) and facts.origin.is_submission:
                    found["reply", recipient.mailbox.local_part] = self._obey(recipient)
                    continue
                book = book or directory.book()
                targets = self._targets(recipient, expand(recipient.mailbox, book), message, marks, expanded)
            else:
                targets = (directory.remote(recipient, message, marks),)
            for key, resolved in targets:
                found[key] = _merged(found[key], resolved) if key in found else resolved
        for text in facts.bad_recipients:
            found.setdefault(("bad", text), _bad(text))
        if facts.kind is Kind.FETCHED:
            self._keep_all(found, message, marks)
        if rules.archive_to is not None and facts.kind in (Kind.MAIL, Kind.FETCHED):
            self._add_archive(rules.archive_to, found, facts, message, marks)
        recipients = list(found.values())
        failed: list[NewRecipient] = []
        classes: set[RouteClass] = set()
        for item in recipients:
            if item.state is State.QUEUED:
                classes.add(item.route_class)
            elif item.state is not State.DELIVERED:
                failed.append(item)
        reports: list[NewMessage] = []
        if failed or expanded:
            reports = self._reports(envelope, facts, failed, expanded)
            for report in reports:
                classes.update(item.route_class for item in report.recipients if item.state is State.QUEUED)
        self._on_classes(classes)
        return Resolution(recipients, reports)

    def _targets(
        self,
        recipient: Recipient,
        expansion: Expansion,
        message: MessageFacts,
        marks: Marks,
        expanded: list[Recipient],
    ) -> Iterable[tuple[Key, NewRecipient]]:
        """What is stored for a local recipient; one whose report is due now is added to `expanded`."""
        child = recipient
        if expansion.is_expanded and expansion.targets and Notify.SUCCESS in asked_of(recipient.notify):
            expanded.append(recipient)  # it gets its report now, RFC 3461 §5.2.7.3
            child = replace(recipient, notify=asked_of(recipient.notify) & ~Notify.SUCCESS)
        return self._directory.targets(child, expansion, message, marks)

    def _obey(self, recipient: Recipient) -> NewRecipient:
        """Does what a reply to a notice asks for; nobody gets it."""
        assert self._directory.replies is not None
        self._directory.replies.take(recipient.mailbox)
        address = str(recipient.mailbox)
        reason = "a reply to a notice: what it is about is fetched"
        return NewRecipient(address, address, TargetKind.MAILBOX, LOCAL_CLASS, state=State.DELIVERED, reason=reason)

    def _keep_all(self, found: dict[Key, NewRecipient], message: MessageFacts, marks: Marks) -> None:
        """Gives a fetched message that does not reach somebody to the postmaster, or else holds it.

        Its sender is not told, and the server will have no copy any more.
        """
        lost = [key for key, item in found.items() if item.state is State.FAILED]
        if not lost:
            return
        original = found[lost[0]].original
        expansion = expand(_POSTMASTER, self._directory.book())
        targets = self._directory.targets(Recipient(_POSTMASTER), expansion, message, marks)
        instead = {key: item._replace(original=original) for key, item in targets if item.state is State.QUEUED}
        for key, item in instead.items():
            found.setdefault(key, item)
        if not instead:
            found.update({key: held(found[key]) for key in lost})

    def _add_archive(
        self,
        archive: Mailbox,
        found: dict[Key, NewRecipient],
        facts: HeaderFacts,
        message: MessageFacts,
        marks: Marks,
    ) -> None:
        expansion = expand(archive, self._directory.book())
        for key, resolved in self._directory.targets(Recipient(archive, Notify.NEVER), expansion, message, marks):
            if resolved.state is State.QUEUED:
                found.setdefault(key, resolved._replace(reported=False))
            else:
                emit(ALIAS_FAULTY, level=WARNING, reason=f"archive_to: {resolved.reason}", queue_id=facts.queue_id)

    def _reports(
        self, envelope: Envelope, facts: HeaderFacts, recipients: list[NewRecipient], expanded: list[Recipient]
    ) -> list[NewMessage]:
        """About recipients that failed, and those that an alias has expanded."""
        failed = [about for item in recipients if (about := self._reporter.about_new(item)) is not None]
        if facts.kind is Kind.FETCHED:
            words = self._reporter.texts.words
            is_held = any(item.state is State.HELD for item in recipients)
            letter = words.fetched_held if is_held else words.fetched_redirected
            subject = Subject.of_new(envelope, facts, WITHOUT_BODY)
            return [self._reporter.about_fetched(letter, subject, failed)]
        done = [self._reporter.about_path(item, RECIPIENT_OK.with_text("Expanded by an alias")) for item in expanded]
        made = (
            self._reporter.make(Subject.of_new(envelope, facts, action), action, about)
            for action, about in ((Action.FAILED, failed), (Action.EXPANDED, done))
            if about
        )
        return [report for report in made if report is not None]


def asked_of(notify: Notify | None) -> Notify:
    """What the originator asked to be told, RFC 3461 §4.1."""
    return DEFAULT_NOTIFY if notify is None else notify


def _merged(first: NewRecipient, second: NewRecipient) -> NewRecipient:
    """One copy for two recipients of the envelope; whatever either asked to be told is told."""
    if first.notify == second.notify:
        return first
    return first._replace(notify=asked_of(first.notify) | asked_of(second.notify))


def _bad(text: str) -> NewRecipient:
    """Something in To, Cc or Bcc that is no address."""
    return NewRecipient(
        target=text,
        original=text,
        kind=TargetKind.MAILBOX,
        route_class=LOCAL_CLASS,
        state=State.FAILED,
        status=BAD_ADDRESS,
        reason=f"{text!r} in the header is no address",
    )
