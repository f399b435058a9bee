"""What people are told about fetching: of messages that stay on a server, and of accounts that give nothing."""

import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta

from masqmail.config.fetch import FetchSection
from masqmail.daemon.desk import Desk
from masqmail.daemon.fetch.replies import FetchReplies
from masqmail.daemon.fetch.standing import Standing
from masqmail.daemon.reports import Reporter
from masqmail.mail.address import Mailbox
from masqmail.mail.dsntext import one_line
from masqmail.mail.header import split_fields, values
from masqmail.mail.outcome import Culprit
from masqmail.mail.shown import author_of, subject_of
from masqmail.mail.size import in_words
from masqmail.mail.wording import Letter, Wording
from masqmail.retrieval.account import ordered_name
from masqmail.routing.local import POSTMASTER
from masqmail.spool.api import FetchMark, NewMessage, SpoolFull
from masqmail.system.clock import Clock

_MAX_DATE_BYTES = 100


class FetchNotices:
    """Writes to the owner of an account, and to the postmaster; `sections` gives the accounts of today."""

    def __init__(
        self,
        desk: Desk,
        reporter: Reporter,
        clock: Clock,
        sections: Callable[[], Mapping[str, FetchSection]],
        replies: FetchReplies,
    ) -> None:
        self._replies = replies
        self._desk = desk
        self._reporter = reporter
        self._clock = clock
        self._sections = sections

    async def tell_of_left(self, mark: FetchMark, header: bytes) -> None:
        """Tells the owner who wrote a message that stays for its size, and how to get it."""
        section = self._sections().get(mark.account)
        letter = self._words.fetch_left.filled(
            **_place(mark, section),
            host_name=self._desk.directory.rules.host_name,
            limit=in_words(section.max_size) if section and section.max_size else "-",
            author=author_of(header) or "-",
            date=_date_of(header) or "-",
            subject=subject_of(header) or "-",
            size=in_words(mark.size_bytes),
        )
        reply_to = self._replies.address_for(mark, self._desk.directory.rules.local)
        await self._post(self._reporter.notice(letter, self._owner_of(section), reply_to), mark)

    async def tell_of_refused(self, mark: FetchMark, reason: str) -> None:
        """Tells the postmaster why a message cannot be taken."""
        section = self._sections().get(mark.account)
        letter = self._words.fetch_refused.filled(**_place(mark, section), reason=reason)
        await self._post(self._reporter.notice(letter), mark)

    async def tell_of_gone(self, section: FetchSection, uid: str) -> None:
        """Tells the owner that a message he asked for is no longer on the server."""
        letter = self._words.fetch_gone.filled(account=section.name, server=section.server, uid=uid)
        await self._desk.post(self._reporter.notice(letter, self._owner_of(section)))

    async def tell_of_failure(self, section: FetchSection, standing: Standing) -> bool:
        """Tells the postmaster that an account gives nothing: at once when the login was refused, else later.

        That is when the first warning about mail in the queue would be due. True when it was told.
        """
        warn_after = self._desk.directory.rules.lifetime.warn_after
        failing = timedelta(seconds=self._clock.monotonic() - standing.failing_since)
        is_due = bool(warn_after) and failing >= warn_after[0]
        if not is_due and standing.culprit is not Culprit.LOGIN:
            return False
        return await self._desk.post_notice(self._about(section, standing))

    def _about(self, section: FetchSection, standing: Standing) -> Letter:
        since = standing.last_at or standing.failing_at or self._clock.now()
        return self._words.fetch_stopped.filled(
            account=section.name,
            server=section.server,
            since=f"{since:%Y-%m-%d %H:%M}",
            reason=standing.reason,
        )

    async def _post(self, message: NewMessage, mark: FetchMark) -> None:
        """Stores a notice with its mark. Raises `SpoolFull`: without the notice there must be no mark."""
        if not await self._desk.post(message._replace(fetched=mark)):
            raise SpoolFull("there is no room for a notice")

    def _owner_of(self, section: FetchSection | None) -> Mailbox:
        """Who gets the mail of an account, if that is somebody of this host."""
        owner, directory = section.deliver_to if section else None, self._desk.directory
        if owner is None or not directory.rules.local.is_local(owner) or not directory.book().knows(owner):
            return Mailbox(POSTMASTER)
        return owner

    @property
    def _words(self) -> Wording:
        return self._desk.words


def _place(mark: FetchMark, section: FetchSection | None) -> dict[str, object]:
    """Where a message is, and the command that gets it. Of several folders it has to say which."""
    uid = ordered_name(mark.uid) if section and len(section.folders) > 1 else mark.uid.uid
    return {
        "account": mark.account,
        "server": section.server if section else "-",
        "command": f"masqmail fetch {mark.account} --message {shlex.quote(uid)}",
    }


def _date_of(header: bytes) -> str:
    raw = next(values(split_fields(header), "date"), b"")[:_MAX_DATE_BYTES]
    return one_line(raw.decode(errors="replace"))
