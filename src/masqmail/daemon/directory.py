"""Who an address is, today: local or remote, its aliases, its mailboxes, and the routes that fit it."""

from collections.abc import Iterator
from logging import WARNING
from typing import Protocol

from masqmail.daemon.aliasfiles import AliasFiles, read_included
from masqmail.daemon.rules import Rules
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Recipient
from masqmail.mail.header import split_fields
from masqmail.mail.submission import from_mailboxes
from masqmail.routing import alias
from masqmail.routing.alias import AddressBook, Expansion, Fault, Target
from masqmail.routing.decide import MessageFacts
from masqmail.routing.route import LOCAL_ROUTE, RouteClass
from masqmail.spool.api import NewRecipient, StoredMessage, StoredRecipient, TargetKind
from masqmail.spool.states import State
from masqmail.system.accounts import Accounts
from masqmail.system.events import FORWARD_FAULTY, emit

#: The class of whatever is delivered on this host, whatever the configuration says.
LOCAL_CLASS = RouteClass((LOCAL_ROUTE,))


@frozen
class Marks:
    """What the classes of new recipients are marked with: why they do not go at once, or nothing."""

    remote: str = ""
    local: str = ""


UNMARKED = Marks()

#: Of so many users we know why their .forward was passed over.
MAX_TROUBLES = 100

_KINDS = {kind: TargetKind[kind.name] for kind in alias.TargetKind}
_REMOTE = TargetKind.REMOTE.value

#: Makes a recipient unlike every other one of its message.
Key = tuple[str, ...]


class Replies(Protocol):
    """Who knows the addresses that notices about fetching give."""

    def is_one(self, mailbox: Mailbox) -> bool: ...

    def take(self, mailbox: Mailbox) -> None:
        """Does what a reply asks for. Never raises; doing it twice does no harm."""


class Directory:
    """Answers with the rules, alias files and accounts of this moment; a reload sets `rules` anew."""

    def __init__(self, rules: Rules, alias_files: AliasFiles, accounts: Accounts) -> None:
        self.rules = rules
        self.alias_files = alias_files
        self.accounts = accounts
        self.replies: Replies | None = None  # while mail is fetched
        self._forward_troubles: dict[str, str] = {}

    def book(self) -> AddressBook:
        """The addresses of this host as they are now."""
        return AddressBook(
            local=self.rules.local,
            is_user=lambda name: self.accounts.find(name) is not None,
            tables=self.alias_files.tables(),
            globs=self.alias_files.globs(),
            postmaster=str(self.rules.postmaster),
            forwards=self.rules.forwards,
            forward_troubles=self._forward_troubles,
            read=read_included,
            only_user=self.accounts.only_name,
        )

    def is_reply(self, mailbox: Mailbox) -> bool:
        """Whether a local address is one that a notice about fetching gave; what is sent there is an order."""
        return self.replies is not None and self.replies.is_one(mailbox)

    def note_forward(self, user: str, trouble: str) -> None:
        """A user's .forward was asked, and passed over for this reason; or it was not."""
        if not trouble:
            self._forward_troubles.pop(user, None)
        elif self._forward_troubles.get(user) != trouble and len(self._forward_troubles) < MAX_TROUBLES:
            self._forward_troubles[user] = trouble
            emit(FORWARD_FAULTY, level=WARNING, reason=trouble)

    def forward_problems(self) -> list[str]:
        """Why a .forward was passed over, for `masqmail status`."""
        return list(self._forward_troubles.values())

    def remote(
        self, recipient: Recipient, message: MessageFacts, marks: Marks = UNMARKED
    ) -> tuple[Key, NewRecipient]:
        """What is stored for a recipient that is not local: itself, since aliases are for local addresses."""
        mailbox = self.rules.local.qualify(recipient.mailbox)
        address, domain = str(mailbox), mailbox.domain_key
        return (_REMOTE, mailbox.local_part, domain), NewRecipient(
            target=address,
            original=address,
            kind=TargetKind.REMOTE,
            route_class=self.rules.classifier.classify(message, mailbox, marks.remote),
            domain=domain,
            notify=recipient.notify,
            orcpt=recipient.orcpt,
        )

    def targets(
        self, recipient: Recipient, expansion: Expansion, message: MessageFacts, marks: Marks = UNMARKED
    ) -> Iterator[tuple[Key, NewRecipient]]:
        """What is stored for one recipient of an envelope; faults come as recipients that failed."""
        original = str(self.rules.local.qualify(recipient.mailbox))
        for target in expansion.targets:
            yield target.key, self._queued(target, original, recipient, message, marks)
        for fault in expansion.faults:
            yield ("fault", fault.target, fault.source), self._faulty(fault, original, recipient)

    def _queued(
        self, target: Target, original: str, recipient: Recipient, message: MessageFacts, marks: Marks
    ) -> NewRecipient:
        mailbox = target.mailbox
        return NewRecipient(
            target=str(target),
            original=original,
            kind=_KINDS[target.kind],
            route_class=(
                LOCAL_CLASS.marked(marks.local)
                if mailbox is None
                else self.rules.classifier.classify(message, mailbox, marks.remote)
            ),
            domain=mailbox.domain_key if mailbox else "",
            source=target.source,
            notify=recipient.notify,
            orcpt=recipient.orcpt,
        )

    @staticmethod
    def _faulty(fault: Fault, original: str, recipient: Recipient) -> NewRecipient:
        return NewRecipient(
            target=fault.target,
            original=original,
            kind=TargetKind.MAILBOX,
            route_class=LOCAL_CLASS,
            source=fault.source,
            notify=recipient.notify,
            orcpt=recipient.orcpt,
            state=State.FAILED,
            status=fault.status,
            reason=fault.reason,
        )

    def class_of_stored(self, message: StoredMessage, recipient: StoredRecipient) -> RouteClass:
        """The class of a recipient in the queue by today's configuration."""
        if recipient.kind is not TargetKind.REMOTE:
            return LOCAL_CLASS
        facts = self.facts_of(message)
        return self.rules.classifier.classify(facts, parse_mailbox(recipient.target), recipient.route_class.mark)

    def facts_of(self, message: StoredMessage) -> MessageFacts:
        """What routes ask about a message in the queue; its From is only read where a route asks for it."""
        originators = from_mailboxes(split_fields(message.header)) if self.rules.asks_for_from else ()
        return MessageFacts(message.reverse_path, originators, message.size_bytes)
