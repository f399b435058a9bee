"""What a report says to a person: plain words for each status, and what to do about it."""

import re
import textwrap
from collections.abc import Iterator
from datetime import datetime
from ipaddress import ip_address

from masqmail.frozen import frozen
from masqmail.mail.address import address_literal
from masqmail.mail.status import Status
from masqmail.mail.wording import Action, Advice, Wording

MAX_LISTED = 50  # recipients in the text; the machine-readable part has all
_WIDTH = 72
#: A refusal of the sender that its code does not tell: 553 5.7.1 of Postfix, 550 of GMX, 5.7.60 of Exchange.
_SENDER_REFUSED = re.compile(r"\bsender address\b|\bsend as this sender\b", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@frozen
class ReportedRecipient:
    """One recipient in a report.

    `address` is where the message went at last, `asked_for` what its sender wrote where that is another.
    `status` and `reason` say what happened; with a `remote_host` (a name or an address, perhaps with a port) the
    status is the answer of that host. `given_back` is what somebody gave back by hand.
    `orcpt` is what came as ORCPT ("rfc822;ann@example.org").
    """

    address: str
    status: Status
    reason: str = ""
    remote_host: str = ""
    asked_for: str = ""
    orcpt: str = ""
    last_attempt_at: datetime | None = None
    will_retry_until: datetime | None = None
    given_back: bool = False


def advice_for(recipient: ReportedRecipient, words: Wording) -> Advice:
    """The most exact advice there is for what happened."""
    if recipient.given_back:
        return words.given_back
    _, subject, detail = recipient.status.dsn_code.split(".")
    if subject in ("0", "7") and _SENDER_REFUSED.search(recipient.status.text):
        subject, detail = "1", "8"
    return words.advice.get(f"{subject}.{detail}") or words.advice.get(subject) or words.advice["0"]


def report_text(
    action: Action,
    recipients: tuple[ReportedRecipient, ...],
    words: Wording,
    *,
    host_name: str,
    subject: str,
    arrived_at: datetime,
    queue_id: str,
    returns_all: bool,
) -> str:
    """The text for people, lines without CR. `subject` is that of the message the report is about."""
    message = words.titled.format(subject=subject) if subject else words.untitled
    opening = words.openings[action][len(recipients) > 1].format(message=message, when=words.when(arrived_at))
    attached = words.all_attached if returns_all else words.header_attached
    lines = [
        words.this_is.format(host_name=host_name),
        "",
        *_wrap(opening),
        "",
        *recipient_lines(action, recipients, words),
        "",
        *_wrap(f"{attached} {words.known_as.format(queue_id=queue_id)}"),
    ]
    return "\n".join(lines) + "\n"


def recipient_lines(action: Action, recipients: tuple[ReportedRecipient, ...], words: Wording) -> list[str]:
    """What became of each recipient, with a blank line between any two."""
    lines: list[str] = []
    for recipient in recipients[:MAX_LISTED]:
        lines += [*_about(action, recipient, words), ""]
    if len(recipients) > MAX_LISTED:
        lines += _wrap(words.more_recipients.format(count=len(recipients) - MAX_LISTED))
    return lines if lines[-1] else lines[:-1]


def host_of(remote_host: str) -> str:
    """A host as RFC 3464 §2.3.5 wants it: its name without a port, or its address as a literal."""
    without_port, _, port = remote_host.rpartition(":")
    for host in (remote_host, without_port):
        try:
            return address_literal(str(ip_address(host.strip("[]"))))
        except ValueError:
            continue  # a name, or the port has still to go
    return without_port if without_port and port.isdigit() else remote_host


def one_line(text: str, max_length: int = 900) -> str:
    """Text of others on one line, with nothing unprintable, in bounds (998 octets, RFC 5322 §2.1.1)."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())[:max_length]


def _about(action: Action, recipient: ReportedRecipient, words: Wording) -> Iterator[str]:
    """The lines on one recipient."""
    yield f"  {one_line(recipient.address)}"
    if recipient.asked_for and recipient.asked_for != recipient.address:
        yield f"    {words.asked_for.format(address=one_line(recipient.asked_for))}"
    if recipient.remote_host and action is not Action.DELIVERED:
        yield f"    {words.said.format(host=one_line(host_of(recipient.remote_host)))}"
        yield from _wrap(one_line(str(recipient.status)), "      ")
    elif action in (Action.FAILED, Action.DELAYED):
        yield from _wrap(words.reason.format(reason=one_line(recipient.reason or recipient.status.text)), "    ")
    if action in (Action.FAILED, Action.DELAYED):
        advice = advice_for(recipient, words)
        yield from _wrap(words.means.format(meaning=advice.meaning), "    ")
        if action is Action.FAILED:
            yield from _wrap(words.you_can.format(advice=advice.advice), "    ")
    if action is Action.DELAYED and recipient.will_retry_until:
        yield from _wrap(words.tried_until.format(when=words.when(recipient.will_retry_until)), "    ")


def _wrap(text: str, indent: str = "") -> list[str]:
    """Lines of a bounded width; a fixed blank (U+00A0) is none to break at."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
