"""What a report says to a person: plain words for each status, and what to do about it.

The meanings follow the enhanced status codes of RFC 3463 §3 with the additions of RFC 7504, 7505 and 7372.
"""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from ipaddress import ip_address

from masqmail.mail.address import address_literal
from masqmail.mail.date import format_date
from masqmail.mail.status import Status

MAX_LISTED = 50  # recipients in the text; the machine-readable part has all
_WIDTH = 72
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


class Action(Enum):
    """What became of a recipient, RFC 3464 §2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"
    EXPANDED = "expanded"


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """One recipient in a report.

    `address` is where the message went at last, `asked_for` what its sender wrote where that is another.
    `status` and `reason` say what happened; with a `remote_host` (a name or an address, perhaps with a port) the
    status is the answer of that host.
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


@dataclass(frozen=True, slots=True)
class Advice:
    """What a status means, and what its reader can do."""

    meaning: str
    advice: str


_ASK_POSTMASTER = "This is not your doing. Please forward this report to your postmaster."
_SEND_LESS = "Send it in smaller parts, or leave out attachments and share them in another way."
_OTHER_WAY = "Try again in a few days, or reach the recipient in another way."
_CHECK_DOMAIN = "Check the part behind the @ for a typing mistake."
_CHECK_SETTINGS = "Check the sender's address in the settings of your mail program."
_TRUST = "The other server could not make sure that the message really comes from your domain."

#: By subject and detail, then by subject alone, of an enhanced status code; "0" is for all the rest.
ADVICE: dict[str, Advice] = {
    "1.1": Advice(
        "There is no mailbox of this name there.",
        "Check the address for a typing mistake, above all before the @. If it is right, the mailbox may have"
        " been closed: ask the recipient in another way.",
    ),
    "1.2": Advice("The domain behind the @ does not exist, or no mail server can be found for it.", _CHECK_DOMAIN),
    "1.3": Advice(
        "This is not written as an address has to be.",
        "Check it: an address is a name, an @ and a domain, without blanks or commas.",
    ),
    "1.4": Advice("More than one mailbox fits this address.", "Ask the recipient for the complete address."),
    "1.6": Advice("The recipient has moved and left no new address.", "Ask the recipient for the new address."),
    "1.7": Advice("The other server thinks that your own address is badly written.", _CHECK_SETTINGS),
    "1.8": Advice("The other server does not accept your own address as that of a sender.", _CHECK_SETTINGS),
    "1.10": Advice("The owner of this domain has declared that it takes no mail at all.", _CHECK_DOMAIN),
    "1": Advice("The address is not one that the message can be delivered to.", "Check it for a typing mistake."),
    "2.1": Advice("The mailbox exists, but takes no messages at present.", "Reach the recipient in another way."),
    "2.2": Advice("The recipient's mailbox is full.", _OTHER_WAY),
    "2.3": Advice("The message is bigger than this mailbox allows.", _SEND_LESS),
    "2.4": Advice("This is a mailing list, and there is trouble with its members.", "Tell the owner of the list."),
    "2": Advice("There is trouble with the recipient's mailbox.", _OTHER_WAY),
    "3.1": Advice("The mail server has no space left.", _OTHER_WAY),
    "3.2": Advice("The mail server takes no messages at present.", _OTHER_WAY),
    "3.4": Advice("The message is too big for one of the mail servers on its way.", _SEND_LESS),
    "3": Advice("There is trouble with a mail server on the way.", _ASK_POSTMASTER),
    "4.1": Advice("The other mail server does not answer.", _OTHER_WAY),
    "4.2": Advice("The connection to the other mail server kept breaking off.", _OTHER_WAY),
    "4.4": Advice("No way to a mail server for this domain was found.", _CHECK_DOMAIN),
    "4.6": Advice("The message went in a circle between mail servers.", _ASK_POSTMASTER),
    "4.7": Advice(
        "All attempts within the time that is allowed for it were in vain.",
        "Send it again if it still matters, or reach the recipient in another way.",
    ),
    "4": Advice("The message found no way through the network.", _OTHER_WAY),
    "5.3": Advice(
        "The message has more recipients than the other server allows.",
        "Send it to fewer recipients at a time.",
    ),
    "5": Advice("The two mail servers did not understand each other.", _ASK_POSTMASTER),
    "6.7": Advice(
        "An address in this message has characters that a server on the way cannot handle.",
        "Ask the recipient for an address in plain letters without accents.",
    ),
    "6": Advice(
        "A mail server on the way cannot handle messages of this form.",
        "Send it as plain text, or in another file format.",
    ),
    "7.20": Advice(_TRUST, _ASK_POSTMASTER),
    "7.23": Advice(_TRUST, _ASK_POSTMASTER),
    "7.25": Advice(_TRUST, _ASK_POSTMASTER),
    "7.26": Advice(_TRUST, _ASK_POSTMASTER),
    "7.1": Advice(
        "A rule of the other server forbids this message: perhaps it was taken for spam, or you may not write to"
        " this address.",
        "Read what the server says. If that does not help, ask the recipient in another way to let your"
        " messages in, or forward this report to your postmaster.",
    ),
    "7": Advice("The other server refuses the message for reasons of security.", _ASK_POSTMASTER),
    "0": Advice(
        "No exact reason was given.",
        "Read the words above. If they do not help, forward this report to your postmaster.",
    ),
}

_SUBJECTS = {
    Action.FAILED: "Your message could not be delivered",
    Action.DELAYED: "Your message has not been delivered yet",
    Action.DELIVERED: "Your message was delivered",
    Action.RELAYED: "Your message was handed on",
    Action.EXPANDED: "Your message was passed on to a group",
}

_OPENINGS = {
    Action.FAILED: "could not be delivered to {whom} below. It will not be tried again.",
    Action.DELAYED: "could not be delivered to {whom} below so far. You need not do anything: it is still being"
    " tried. If it cannot be delivered in the end you will be told.",
    Action.DELIVERED: "was delivered to {whom} below, as you wanted to know.",
    Action.RELAYED: "was handed to the mail server of {whom} below. That server does not confirm deliveries, so"
    " you will hear no more about it unless something goes wrong.",
    Action.EXPANDED: "was accepted for {whom} below, which stands for other addresses, and was passed on to"
    " them. You will hear no more about it unless something goes wrong.",
}


def subject_for(action: Action) -> str:
    """The Subject of a report."""
    return _SUBJECTS[action]


def advice_for(status: Status) -> Advice:
    """The most exact advice there is for a status."""
    _, subject, detail = status.dsn_code.split(".")
    return ADVICE.get(f"{subject}.{detail}") or ADVICE.get(subject) or ADVICE["0"]


def report_text(
    action: Action,
    recipients: tuple[ReportedRecipient, ...],
    *,
    host_name: str,
    subject: str,
    arrived_at: datetime,
    queue_id: str,
    attachment: str,
) -> str:
    """The text for people, lines without CR. `subject` is that of the message the report is about."""
    whom = "the address" if len(recipients) == 1 else "the addresses"
    title = f'Your message "{subject}"' if subject else "Your message without a subject"
    opening = f"{title}, accepted on {format_date(arrived_at)}, {_OPENINGS[action].format(whom=whom)}"
    lines = [f"This is the mail server {host_name}.", "", *_wrap(opening), ""]
    for recipient in recipients[:MAX_LISTED]:
        lines += [*_about(action, recipient), ""]
    if len(recipients) > MAX_LISTED:
        lines += [
            *_wrap(f"... and {len(recipients) - MAX_LISTED} more, which the second part of this report lists."),
            "",
        ]
    lines += _wrap(f"{attachment} The message was known here as {queue_id}.")
    return "\n".join(lines) + "\n"


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


def _about(action: Action, recipient: ReportedRecipient) -> Iterable[str]:
    """The lines on one recipient."""
    yield f"  {one_line(recipient.address)}"
    if recipient.asked_for and recipient.asked_for != recipient.address:
        yield f"    (you wrote to {one_line(recipient.asked_for)})"
    if recipient.remote_host and action is not Action.DELIVERED:
        yield f"    The mail server {one_line(host_of(recipient.remote_host))} said:"
        yield from _wrap(str(recipient.status), "      ")
    elif action in (Action.FAILED, Action.DELAYED):
        yield from _wrap(f"Reason: {recipient.reason or recipient.status.text}", "    ")
    if action in (Action.FAILED, Action.DELAYED):
        advice = advice_for(recipient.status)
        yield from _wrap(f"This means: {advice.meaning}", "    ")
        if action is Action.FAILED:
            yield from _wrap(f"What you can do: {advice.advice}", "    ")
    if action is Action.DELAYED and recipient.will_retry_until:
        yield from _wrap(f"It will be tried until about {format_date(recipient.will_retry_until)}.", "    ")


def _wrap(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        one_line(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
