"""From the recipients of an envelope to the targets that are stored: aliases expanded, routes found.

This happens once per message, while it is accepted. What cannot be used becomes a recipient that failed, with its
report in the same transaction.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from masqmail.daemon.directory import LOCAL_CLASS, Directory, Key
from masqmail.daemon.reports import Reporter, Subject
from masqmail.mail.dsn import Action
from masqmail.mail.envelope import Envelope, Notify, Recipient
from masqmail.mail.status import RECIPIENT_OK, Status
from masqmail.routing.alias import AddressBook, expand
from masqmail.routing.decide import MessageFacts
from masqmail.routing.route import QUEUE_ONLY, RouteClass
from masqmail.spool.api import Kind, NewMessage, NewRecipient, TargetKind
from masqmail.spool.intake import HeaderFacts, Resolution
from masqmail.spool.states import State

BAD_ADDRESS = Status(553, "5.1.3", "This is no address")


class Resolver:
    """The `Resolve` of the intake. `on_classes` hears which classes got new recipients."""

    def __init__(
        self, directory: Directory, reporter: Reporter, on_classes: Callable[[Iterable[RouteClass]], None]
    ) -> None:
        self._directory = directory
        self._reporter = reporter
        self._on_classes = on_classes

    def resolve(self, envelope: Envelope, facts: HeaderFacts) -> Resolution:
        """Every recipient's targets, each once, with the reports that this causes already."""
        rules, book = self._directory.rules, self._directory.book()
        originators = facts.from_mailboxes if rules.asks_for_from else ()
        message = MessageFacts(envelope.reverse_path, originators, facts.size_bytes)
        mark = QUEUE_ONLY if facts.queue_only or not rules.sends_at_once else ""
        found: dict[Key, NewRecipient] = {}
        expanded: list[Recipient] = []
        for recipient in envelope.recipients:
            expansion = expand(recipient.mailbox, book)
            child = recipient
            if expansion.is_expanded and recipient.notify and Notify.SUCCESS in recipient.notify:
                expanded.append(recipient)  # it gets its report now, RFC 3461 §5.2.7.3
                child = replace(recipient, notify=recipient.notify & ~Notify.SUCCESS)
            for key, resolved in self._directory.targets(child, expansion, message, mark):
                found.setdefault(key, resolved)
        for text in facts.bad_recipients:
            found.setdefault(("bad", text), _bad(text))
        self._add_archive(found, facts, book, message, mark)
        recipients = list(found.values())
        self._on_classes({item.route_class for item in recipients if item.state is State.QUEUED})
        return Resolution(recipients, self._reports(envelope, facts, recipients, expanded))

    def _add_archive(
        self, found: dict[Key, NewRecipient], facts: HeaderFacts, book: AddressBook, message: MessageFacts, mark: str
    ) -> None:
        archive = self._directory.rules.archive_to
        if archive is None or facts.kind is not Kind.MAIL:
            return
        copy = Recipient(archive, Notify.NEVER)
        for key, resolved in self._directory.targets(copy, expand(archive, book), message, mark):
            if resolved.state is State.QUEUED:
                found.setdefault(key, replace(resolved, reported=False))

    def _reports(
        self, envelope: Envelope, facts: HeaderFacts, recipients: list[NewRecipient], expanded: list[Recipient]
    ) -> list[NewMessage]:
        failed = [self._reporter.about_new(item) for item in recipients if item.state is State.FAILED]
        done = [self._reporter.about_path(item, RECIPIENT_OK.with_text("Expanded by an alias")) for item in expanded]
        if not failed and not done:
            return []
        subject = Subject.of_new(envelope, facts)
        made = (
            self._reporter.make(subject, action, about)
            for action, about in ((Action.FAILED, failed), (Action.EXPANDED, done))
            if about
        )
        return [report for report in made if report is not None]


def _bad(text: str) -> NewRecipient:
    return NewRecipient(
        target=text,
        original=text,
        kind=TargetKind.MAILBOX,
        route_class=LOCAL_CLASS,
        state=State.FAILED,
        status=BAD_ADDRESS,
        reason=f"{text!r} in the header is no address",
    )
