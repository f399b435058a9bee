"""The drop folder for messages that were submitted while no daemon ran; `pickupfile` describes the files.

Everybody may write to the folder, so nothing in it is trusted: only regular files with one link are taken, and the
submitter is the owner. Whoever left a file was told that it is safe, so none is ever thrown away: it is removed
when its message is on stable storage, else it moves to the folder `bad` and its owner gets a notice.
"""

import errno
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from anyio.lowlevel import checkpoint

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.dsn import notice
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.status import Status
from masqmail.mail.wording import Language, wording
from masqmail.reception.pickupfile import (
    MAX_ENVELOPE_BYTES,
    TRAILER_BYTES,
    BadFile,
    Ticket,
    content_length,
    crlf_lines,
    parse_ticket,
)
from masqmail.spool.api import Kind, Spool, SpoolBroken
from masqmail.spool.intake import Clock, Intake, Origin, Refused
from masqmail.spool.queueid import derived_id
from masqmail.system import events

BAD_FOLDER = "bad"

#: A file without its trailer is left alone for so long: somebody may still be writing it.
INCOMPLETE_AFTER = timedelta(hours=1)

#: When to look again at what could not be taken.
RETRY_SECONDS = 60.0

_BLOCK_BYTES = 65536

_EPOCH = datetime.fromtimestamp(0, UTC)

#: What opening something says that can never be read: a symbolic link, a socket, a file its owner keeps from us.
_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM})

#: Returns when the folder may have changed, or after so many seconds (None: only then).
WaitForChange = Callable[[float | None], Awaitable[None]]


class Submitters(Protocol):
    """What the daemon knows about the users of this host."""

    def origin(self, uid: int) -> Origin:
        """The origin of a message that this user submits."""

    def mailbox(self, uid: int) -> Mailbox:
        """The user's own address, the reverse-path when none is given."""

    def check_sender(self, uid: int, reverse_path: Mailbox | None) -> Status:
        """Whether the user may send under this reverse-path."""


@frozen
class _File:
    """An open file of the folder."""

    name: str
    descriptor: int
    facts: os.stat_result

    @property
    def changed_at(self) -> datetime:
        return datetime.fromtimestamp(self.facts.st_mtime_ns / 1e9, UTC)

    @property
    def queue_id(self) -> str:
        """The same one each time we look at the file, so that a crash between commit and removal shows."""
        facts = self.facts
        seed = f"{self.name} {facts.st_uid} {facts.st_ino} {facts.st_mtime_ns}"
        return derived_id(self.changed_at, seed.encode(errors="surrogateescape"))

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        while start < end and (block := os.pread(self.descriptor, min(_BLOCK_BYTES, end - start), start)):
            start += len(block)
            yield block


class Pickup:
    """Takes files out of one folder, one after the other; other tasks run between any two blocks.

    `language` says in which one the owners of bad files are told.
    """

    def __init__(
        self,
        folder: Path,
        intake: Intake,
        spool: Spool,
        submitters: Submitters,
        clock: Clock,
        language: Callable[[], Language] = lambda: Language.ENGLISH,
    ) -> None:
        self._folder = folder
        self._intake = intake
        self._spool = spool
        self._submitters = submitters
        self._clock = clock
        self._language = language
        self._stuck: set[str] = set()  # what can neither be taken nor moved; said once

    async def run(self, wait_for_change: WaitForChange) -> None:
        """Takes what is there and what comes, until cancelled."""
        while True:
            left = await self.take_all()
            await wait_for_change(RETRY_SECONDS if left else None)

    async def take_all(self) -> int:
        """Looks at every file once. Returns how many are left for a later look."""
        left, there = 0, set()
        try:
            entries = os.scandir(self._folder)
        except FileNotFoundError:
            return 0
        except OSError as error:
            self._give_up(self._folder.name, f"the folder cannot be read: {error.strerror}")
            return 1
        with entries:
            for entry in entries:
                there.add(entry.name)
                if entry.name == BAD_FOLDER or entry.name in self._stuck:
                    continue
                left += not await self._settle(entry.name)
                await checkpoint()
        self._stuck &= there  # another file may have the name of one that somebody has removed
        return left

    async def _settle(self, name: str) -> bool:
        """Takes one file or puts it aside; False when it is to be looked at again."""
        try:
            file = self._open(name)
        except FileNotFoundError:
            return True
        except BadFile as error:
            self._put_aside(name, str(error))
            return True
        except OSError as error:
            if error.errno not in _NO_FILE:  # too many open files, a sick disk: no fault of the file
                return False
            self._put_aside(name, f"it cannot be opened: {error.strerror}")
            return True
        try:
            return await self._take(file)
        except BadFile as error:
            await self._refuse(file, str(error))
            return True
        except Refused as error:
            if error.status.is_temporary:
                return False
            await self._refuse(file, str(error.status))
            return True
        except SpoolBroken:
            raise
        except Exception as error:
            events.emit(events.INTERNAL_ERROR, exception=error, pickup=name)
            return False
        finally:
            os.close(file.descriptor)

    def _open(self, name: str) -> _File:
        """Opens a file without following links or waiting for anybody. Raises `BadFile` or `OSError`."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags)
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
            return _File(name, descriptor, facts)
        os.close(descriptor)
        raise BadFile("it has another link" if stat.S_ISREG(facts.st_mode) else "it is no regular file")

    async def _take(self, file: _File) -> bool:
        """Stores the message of a complete file and removes the file."""
        size = file.facts.st_size
        end = content_length(os.pread(file.descriptor, TRAILER_BYTES, max(0, size - TRAILER_BYTES)), size)
        if end is None:
            if self._clock.now() - file.changed_at < INCOMPLETE_AFTER:
                return False
            raise BadFile("it is incomplete, its end was never written")
        if not await self._is_known(file.queue_id):
            ticket, start = self._read_ticket(file, end)
            await self._store(file, ticket, start, end)
            events.emit(events.PICKUP_TAKEN, queue_id=file.queue_id, uid=file.facts.st_uid)
        (self._folder / file.name).unlink(missing_ok=True)
        return True

    async def _is_known(self, queue_id: str) -> bool:
        """Whether we stored the message of this file before, even if it has left the queue since."""
        found = await self._spool.find(queue_id, with_body=False)
        return found is not None or bool(await self._spool.history(queue_id, limit=1))

    def _read_ticket(self, file: _File, end: int) -> tuple[Ticket, int]:
        """The envelope and where the message begins. Raises `BadFile`."""
        head = b""
        for block in file.blocks(0, min(end, MAX_ENVELOPE_BYTES)):
            searched = max(0, len(head) - 1)
            head += block
            if (empty := head.find(b"\n\n", searched)) >= 0:
                return parse_ticket(head[:empty]), empty + 2
        raise BadFile("its envelope has no end")

    async def _store(self, file: _File, ticket: Ticket, start: int, end: int) -> None:
        """Sends the message through the intake. Raises `Refused`."""
        uid = file.facts.st_uid
        reverse_path = ticket.sender if ticket.has_sender else self._submitters.mailbox(uid)
        if ticket.has_sender and not (verdict := self._submitters.check_sender(uid, reverse_path)).is_success:
            raise Refused(verdict)
        incoming = self._intake.open(
            ticket.envelope(reverse_path),
            self._submitters.origin(uid),
            header_recipients=ticket.header_recipients,
            header_notify=ticket.notify,
            full_name=ticket.full_name,
            queue_only=ticket.queue_only,
            queue_id=file.queue_id,
            declared_size_bytes=end - start,
            submitted_at=max(_EPOCH, min(file.changed_at, self._clock.now())),  # whatever `touch` has done to it
        )
        try:
            for block in crlf_lines(file.blocks(start, end)):
                incoming.write(block)
                await checkpoint()
            await incoming.finish()
        finally:
            incoming.discard()

    async def _refuse(self, file: _File, reason: str) -> None:
        """Puts a file aside and tells its owner, to whom we had said that it is safe."""
        if not self._put_aside(file.name, reason):
            return
        try:
            await self._tell(file, reason)
        except Refused as error:
            events.emit(events.MESSAGE_REFUSED, pickup=file.name, reason=str(error.status))

    async def _tell(self, file: _File, reason: str) -> None:
        host_name = self._intake.settings.host_name
        to = self._submitters.mailbox(file.facts.st_uid)
        language, path = self._language(), self._folder / BAD_FOLDER / file.name
        letter = wording(language).pickup_refused.filled(host_name=host_name, reason=reason, path=path)
        composed = notice(
            letter.subject,
            letter.text,
            to=to,
            host_name=host_name,
            notice_id=file.queue_id,
            made_at=self._clock.now().astimezone(),
            language=language,
        )
        origin = Origin("the pickup folder", "local")
        incoming = self._intake.open(Envelope(None, (Recipient(to),)), origin, kind=Kind.REPORT)
        incoming.write(composed.header + b"\r\n" + composed.body)
        await incoming.finish()

    def _put_aside(self, name: str, reason: str) -> bool:
        """Moves a file to the folder for bad ones; False when even that fails."""
        bad = self._folder / BAD_FOLDER
        try:
            bad.mkdir(mode=0o700, exist_ok=True)
            (self._folder / name).rename(bad / name)
        except OSError as error:
            self._give_up(name, f"{reason}; it cannot be moved: {error.strerror}")
            return False
        events.emit(events.PICKUP_REFUSED, level=logging.WARNING, pickup=name, reason=reason)
        return True

    def _give_up(self, name: str, reason: str) -> None:
        """Says once that there is something we can do nothing about."""
        if name not in self._stuck:
            self._stuck.add(name)
            events.emit(events.PICKUP_REFUSED, level=logging.ERROR, pickup=name, reason=reason)
