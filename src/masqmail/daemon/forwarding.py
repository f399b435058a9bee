"""What takes the place of a user with a .forward: the recipients it names, and the reports this causes at once.

Bad targets become recipients that failed, as those of aliases do, with their report in the same transaction. Those of
fetched mail are held instead.
"""

from collections.abc import Sequence

from masqmail.daemon.directory import Directory, Marks
from masqmail.daemon.fetch.reports import held
from masqmail.daemon.reports import Reporter
from masqmail.daemon.subject import Subject
from masqmail.frozen import frozen
from masqmail.mail.address import parse_mailbox
from masqmail.mail.dsn import Action
from masqmail.mail.envelope import DEFAULT_NOTIFY, Notify, Recipient
from masqmail.mail.status import RECIPIENT_OK
from masqmail.routing.alias import Expansion, forward_source
from masqmail.spool.api import Kind, NewMessage, NewRecipient, StoredMessage, StoredRecipient
from masqmail.spool.states import State


@frozen
class Forwarded:
    """To be stored in the place of a recipient. `text` says where the message goes, for history and log."""

    children: Sequence[NewRecipient]
    reports: Sequence[NewMessage]
    text: str


def forwarded(
    message: StoredMessage, recipient: StoredRecipient, expansion: Expansion, directory: Directory, reporter: Reporter
) -> Forwarded:
    """What the expansion of a user's .forward comes to."""
    notify = DEFAULT_NOTIFY if recipient.notify is None else recipient.notify
    is_reported_now = recipient.reported and Notify.SUCCESS in notify and bool(expansion.targets)
    asked = Recipient(
        parse_mailbox(recipient.original),
        notify & ~Notify.SUCCESS if is_reported_now else recipient.notify,  # RFC 3461 §5.2.7.3
        recipient.orcpt,
    )
    facts, marks = directory.facts_of(message), Marks(directory.rules.mark)
    children = [
        child._replace(original=recipient.original, reported=recipient.reported)
        for _, child in directory.targets(asked, expansion, facts, marks)
    ]
    failed = [reporter.about_new(child) for child in children if child.state is State.FAILED and child.reported]
    source = forward_source(recipient.target)
    done = [reporter.about_path(asked, RECIPIENT_OK.with_text("Sent on"))] if is_reported_now else []
    made: list[NewMessage | None]
    if message.kind is Kind.FETCHED:
        children = [held(child) if child.state is State.FAILED and child.reported else child for child in children]
        letter, about = reporter.texts.words.fetched_held, [item for item in failed if item is not None]
        subject = Subject.of_stored(message, Action.EXPANDED)
        made = [reporter.about_fetched(letter, subject, about)] if about else []
    else:
        made = [
            reporter.make(Subject.of_stored(message, action), action, items)
            for action, items in ((Action.FAILED, failed), (Action.EXPANDED, done))
            if items
        ]
    goals = ", ".join(map(str, expansion.targets)) or "nobody"
    return Forwarded(children, [report for report in made if report is not None], f"{source} names {goals}")
