"""One fetched message on its way from a server into the queue, together with the mark that it was taken."""

from datetime import datetime

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.crlf import LineEnds
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.trace import describe_fetched, fetched_clause
from masqmail.retrieval.account import Found
from masqmail.routing.multidrop import Drop, MultidropRules, recipients_of, return_path_of
from masqmail.spool.api import FetchFate, FetchMark, Kind
from masqmail.spool.intake import Incoming, Intake, Origin, Refused


@frozen
class AccountTerms:
    """What all messages of an account have in common.

    `server` is its host, a name or an address without port; `protocol` is "POP3" or "IMAP". `rules` say who gets
    what, `return_path` is the envelope sender that the configuration gives them, if it does.
    """

    account: str
    server: str
    protocol: str
    rules: MultidropRules
    return_path: Mailbox | None = None

    @property
    def origin(self) -> Origin:
        """Where the messages come from, for Received and for people."""
        return Origin(
            describe_fetched(self.server, self.account),
            self.protocol,
            client_host=self.server,
            received_clause=fetched_clause(self.server, self.account),
        )


class FetchParcel:
    """A `retrieval.account.Parcel`. Where the message goes, and why, is in `drop` after `finish`."""

    def __init__(self, intake: Intake, terms: AccountTerms, found: Found, at: datetime) -> None:
        """Never raises: a reason not to take the message, such as no room for its size, is kept for `finish`."""
        self.drop: Drop | None = None
        self._terms = terms
        self._ends = LineEnds()
        self._incoming: Incoming | Refused
        mark = FetchMark(terms.account, found.uid, FetchFate.TAKEN, at, found.size_bytes)
        try:
            self._incoming = intake.open(
                self._envelope_of,
                terms.origin,
                kind=Kind.FETCHED,
                declared_size_bytes=found.size_bytes,
                fetched=mark,
            )
        except Refused as refusal:
            self._incoming = refusal

    def write(self, data: bytes) -> None:
        """Takes the next octets, in any slices. Never raises for what they hold."""
        if not isinstance(self._incoming, Refused):
            self._incoming.write(self._ends.feed(data))

    async def finish(self) -> str:
        """Returns the queue ID when message and mark are on stable storage. Raises `Refused` or `SpoolError`."""
        if isinstance(self._incoming, Refused):
            raise self._incoming
        self._incoming.write(self._ends.finish())
        return await self._incoming.finish()

    def discard(self) -> None:
        """Forgets what was received; harmless after `finish`."""
        if not isinstance(self._incoming, Refused):
            self._incoming.discard()

    def _envelope_of(self, header: bytes) -> tuple[Envelope, str]:
        """The envelope, as far as the header section tells, and why it is not for whom one might think."""
        terms = self._terms
        self.drop = recipients_of(header, terms.rules)
        reverse_path = return_path_of(header, terms.return_path)
        mailboxes = self.drop.recipients
        is_plain = not terms.rules.envelope_header or terms.rules.deliver_to not in mailboxes
        return Envelope(reverse_path, tuple(map(Recipient, mailboxes))), "" if is_plain else self.drop.reason
