"""What becomes of fetched mail that finds no way, and what the postmaster is told.

Its senders are strangers, who are told nothing, and the server it came from has no copy any more: whatever would fail
another message holds this one.
"""

import textwrap
from collections.abc import Iterator, Sequence

from masqmail.daemon.subject import Subject
from masqmail.mail.dsntext import MAX_LISTED, ReportedRecipient, host_of, one_line
from masqmail.mail.shown import author_of, subject_of
from masqmail.mail.wording import Letter, Wording
from masqmail.spool.api import NewRecipient
from masqmail.spool.states import State

_WIDTH = 72


def held(recipient: NewRecipient) -> NewRecipient:
    """A recipient that would have failed, held instead."""
    return recipient._replace(state=State.HELD, reason=held_reason(recipient.reason))


def held_reason(reason: str) -> str:
    """Why a recipient of fetched mail is held."""
    return f"{reason}; held because it was fetched: nobody else has it"


def filled(letter: Letter, subject: Subject, about: Sequence[ReportedRecipient], words: Wording) -> Letter:
    """One of the letters on fetched mail, for this message and these of its recipients."""
    origin, _, why = subject.received_from.partition(": ")  # why it is not for whom one might think
    lines = [*_indented(f"({why})", "  ")] if why else []
    lines += [line for recipient in about[:MAX_LISTED] for line in _lines_on(recipient, words)]
    if len(about) > MAX_LISTED:
        lines.append("  ...")
    return letter.filled(
        origin=one_line(origin),
        list="\n".join(lines),
        author=author_of(subject.header) or "-",
        subject=subject_of(subject.header) or "-",
        when=words.when(subject.arrived_at.astimezone()),
        queue_id=subject.queue_id,
    )


def _lines_on(recipient: ReportedRecipient, words: Wording) -> Iterator[str]:
    """An address, and why nothing came of it."""
    yield f"  {one_line(recipient.asked_for or recipient.address)}"
    if recipient.asked_for and recipient.asked_for != recipient.address:
        yield f"  ({one_line(recipient.address)})"
    if recipient.remote_host:
        yield f"    {words.said.format(host=one_line(host_of(recipient.remote_host)))}"
        reason = str(recipient.status)
    else:
        reason = words.reason.format(reason=recipient.reason or recipient.status.text)
    yield from _indented(reason, "    ")


def _indented(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        one_line(text), _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    )
