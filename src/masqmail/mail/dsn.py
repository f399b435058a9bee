"""Messages we write ourselves: delivery status notifications (RFC 3464, RFC 6533) and notices to the postmaster.

`compose` and `notice` return header section and body apart, as the spool stores them. The caller gives them the
null reverse-path (RFC 3461 §6.1), so that they never cause another report.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from masqmail import __version__
from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.date import format_date
from masqmail.mail.dsntext import MAX_LISTED, ReportedRecipient, host_of, one_line, recipient_lines, report_text
from masqmail.mail.header import split_fields, values
from masqmail.mail.mimetext import subject_field, text_part
from masqmail.mail.shown import subject_of
from masqmail.mail.template import Template
from masqmail.mail.wording import Action, Language, Wording, wording

__all__ = ["Action", "Composed", "Report", "ReportedRecipient", "compose", "notice"]

#: How much of the original header section a report returns.
MAX_RETURNED_HEADER_BYTES = 64 * 1024

#: How much of the header section, and of the text, a template can repeat.
MAX_QUOTED_BYTES = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,300}>")


@frozen
class Composed:
    """A finished message: its header section and what stands behind the blank line."""

    header: bytes
    body: bytes


@frozen
class Report:
    """What a report tells its reader, and about which message.

    `report_id` is the queue ID of the report itself; `queue_id`, `envid`, `arrived_at` and `header` are those of
    the message. Its `body` is given only when all of it is to be returned. With `smtputf8` the message was
    sent under that extension and the report may be, too. A `template` takes the place of the built-in text;
    `sender`, `received_host` and `ident` are for its sake.
    """

    action: Action
    recipients: tuple[ReportedRecipient, ...]
    to: Mailbox
    host_name: str
    report_id: str
    made_at: datetime
    queue_id: str
    arrived_at: datetime
    header: bytes
    body: bytes | None = None
    envid: str = ""
    smtputf8: bool = False
    language: Language = Language.ENGLISH
    template: Template | None = None
    sender: Mailbox | None = None
    received_host: str = ""
    ident: str = ""


def compose(report: Report) -> Composed:
    """The whole report, RFC 6522: a text for people, the facts for programs, and the message it is about."""
    words, language = wording(report.language), report.language.value
    parts = [text_part(_explain(report, words), language), _status_part(report), _returned_part(report)]
    boundary = _boundary(report.report_id, b"".join(parts))
    lines = [
        *_first_fields(report.report_id, report.host_name, report.made_at, report.to, words.subjects[report.action]),
        *_thread_fields(report.header),
        "Auto-Submitted: auto-replied",  # RFC 3834 §3.1.7
        f"Content-Language: {language}",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"',
    ]
    if any(not part.isascii() for part in parts):
        lines.append("Content-Transfer-Encoding: 8bit")
    separator = f"--{boundary}\r\n".encode()
    body = b"".join(separator + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return Composed(_crlf(lines), body)


def notice(
    subject: str,
    text: str,
    *,
    to: Mailbox,
    host_name: str,
    notice_id: str,
    made_at: datetime,
    language: Language = Language.ENGLISH,
    reply_to: Mailbox | None = None,
) -> Composed:
    """A plain message from the mail system to a person, for example to the postmaster. `text` has LF line ends."""
    head, _, body = text_part(text, language.value).partition(b"\r\n\r\n")
    lines = [
        *_first_fields(notice_id, host_name, made_at, to, subject),
        *([f"Reply-To: {reply_to}"] if reply_to else []),
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    ]
    return Composed(_crlf(lines) + head + b"\r\n", body)


def _first_fields(message_id: str, host_name: str, made_at: datetime, to: Mailbox, subject: str) -> list[str]:
    return [
        f"Date: {format_date(made_at)}",
        f"From: Mail Delivery System <mailer-daemon@{host_name}>",
        f"To: {to}",
        subject_field(one_line(subject)),
        f"Message-ID: <{message_id}@{host_name}>",
    ]


def _thread_fields(header: bytes) -> list[str]:
    """Shows the report beside the message it is about, RFC 3834 §3.1.6."""
    value = next(values(split_fields(header), "message-id"), b"").decode("ascii", "replace")
    if not _MESSAGE_ID.fullmatch(value):
        return []
    return [f"In-Reply-To: {value}", f"References: {value}"]


def _explain(report: Report, words: Wording) -> str:
    """The text for people."""
    if report.template is not None:
        return report.template.filled(_template_values(report, words))
    return report_text(
        report.action,
        report.recipients,
        words,
        host_name=report.host_name,
        subject=subject_of(report.header),
        arrived_at=report.arrived_at,
        queue_id=report.queue_id,
        returns_all=report.body is not None,
    )


def _template_values(report: Report, words: Wording) -> dict[str, str]:
    """What the variables of `mail.template.VARIABLES` hold."""
    listed = report.recipients[:MAX_LISTED]
    first, sender = one_line(listed[0].address), report.sender
    local_part, _, domain = first.rpartition("@") if "@" in first else (first, "", "")
    until = max(filter(None, (recipient.will_retry_until for recipient in listed)), default=None)
    return {
        "user": local_part,
        "recipient": first,
        "recipient_local": local_part,
        "recipient_domain": domain,
        "sender": str(sender or ""),
        "sender_local": sender.local_part if sender else "",
        "sender_domain": sender.domain if sender else "",
        "received_host": one_line(report.received_host),
        "ident": one_line(report.ident),
        "queue_id": report.queue_id,
        "subject": subject_of(report.header),
        "received_at": words.when(report.arrived_at),
        "gives_up_at": words.when(until) if until else "",
        "host_name": report.host_name,
        "postmaster": f"postmaster@{report.host_name}",
        "package": "MasqMail",
        "version": __version__,
        "recipients": ", ".join(one_line(recipient.address) for recipient in listed),
        "failed_recipients": "\n".join(recipient_lines(report.action, report.recipients, words)),
        "reasons": "\n".join(f"{one_line(item.address)}: {_reason_of(item)}" for item in listed),
        "message_header": _quoted(report.header),
        "message_body": _quoted(report.body or b""),
    }


def _reason_of(recipient: ReportedRecipient) -> str:
    is_answer = recipient.remote_host or not recipient.reason
    return one_line(str(recipient.status) if is_answer else recipient.reason)


def _quoted(content: bytes) -> str:
    """A part of the message as text, in bounds."""
    text = content[:MAX_QUOTED_BYTES].decode(errors="replace").replace("\r\n", "\n").rstrip("\n")
    return _CONTROL.sub(" ", text)


def _status_part(report: Report) -> bytes:
    """The facts for programs, RFC 3464 §2; in UTF-8 where an address needs it, RFC 6533 §4."""
    groups = [list(_message_fields(report))]
    groups += [list(_recipient_fields(report.action, recipient)) for recipient in report.recipients]
    content = "\r\n\r\n".join("\r\n".join(group) for group in groups) + "\r\n"
    if content.isascii():
        head = ["Content-Type: message/delivery-status", ""]
    else:
        head = ["Content-Type: message/global-delivery-status", "Content-Transfer-Encoding: 8bit", ""]
    return _crlf(head) + content.encode(errors="replace")


def _message_fields(report: Report) -> Iterator[str]:
    if report.envid:
        yield f"Original-Envelope-Id: {one_line(report.envid)}"
    yield f"Reporting-MTA: dns; {report.host_name}"
    yield f"Arrival-Date: {format_date(report.arrived_at)}"
    yield f"X-MasqMail-Queue-ID: {report.queue_id}"


def _recipient_fields(action: Action, recipient: ReportedRecipient) -> Iterator[str]:
    """RFC 3464 §2.3. What we found out ourselves has a diagnostic type of our own."""
    if recipient.orcpt:
        yield f"Original-Recipient: {one_line(recipient.orcpt)}"
    address_type = "rfc822" if recipient.address.isascii() else "utf-8"
    yield f"Final-Recipient: {address_type}; {one_line(recipient.address)}"
    yield f"Action: {action.value}"
    yield f"Status: {recipient.status.dsn_code}"
    if recipient.remote_host:
        yield f"Remote-MTA: dns; {one_line(host_of(recipient.remote_host))}"
        yield f"Diagnostic-Code: smtp; {_ascii(one_line(str(recipient.status)))}"
    elif recipient.reason:
        yield f"Diagnostic-Code: X-MasqMail; {_ascii(one_line(recipient.reason))}"
    if recipient.last_attempt_at:
        yield f"Last-Attempt-Date: {format_date(recipient.last_attempt_at)}"
    if action is Action.DELAYED and recipient.will_retry_until:
        yield f"Will-Retry-Until: {format_date(recipient.will_retry_until)}"


def _returned_part(report: Report) -> bytes:
    """The message, or its header section in bounds."""
    if report.body is None:
        kind = "message/global-headers" if report.smtputf8 else "text/rfc822-headers"
        content = _bounded(report.header)
    else:
        kind = "message/global" if report.smtputf8 else "message/rfc822"
        content = report.header + b"\r\n" + report.body
    head = [f"Content-Type: {kind}"]
    if not content.isascii():
        head.append("Content-Transfer-Encoding: 8bit")
    return _crlf([*head, ""]) + content


def _bounded(header: bytes) -> bytes:
    """As many whole fields as fit."""
    if len(header) <= MAX_RETURNED_HEADER_BYTES:
        return header
    kept, size = [], 0
    for field in split_fields(header):
        size += len(field.raw)
        if size > MAX_RETURNED_HEADER_BYTES:
            break
        kept.append(field.raw)
    return b"".join(kept)


def _boundary(report_id: str, content: bytes) -> str:
    """A boundary that stands nowhere in the content, RFC 2046 §5.1.1."""
    boundary, number = f"=_{report_id}", 0
    while boundary.encode() in content:
        number += 1
        boundary = f"=_{number}_{report_id}"
    return boundary


def _crlf(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode(errors="replace")


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
