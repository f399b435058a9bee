"""Transactions as a client writes them: the MAIL and RCPT commands a next hop can take. RFC 5321 §4.1.1.

`prepare` fits a message to what the next hop offers. What does not fit is refused here, before a byte is sent.
"""

import re
from collections.abc import Callable, Sequence

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.status import Status
from masqmail.proto.smtp.extension import Extensions

#: Turns a domain with UTF-8 labels into A-labels (RFC 5891 §4); raises ValueError for what cannot be.
ToALabels = Callable[[str], str]

_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 §4: xchar is "!" to "~" without "+" and "="
_NOT_UTF8_XTEXT = re.compile(r"[^!-*,-<>-\[\]-~]")  # RFC 6533 §3: QCHAR, also without the backslash
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9-]+", re.ASCII)


@frozen
class Outgoing:
    """What the machine must know of a message. Its content stays with the shell, `size_bytes` long.

    `needs_8bit` and `needs_smtputf8` are facts about envelope and content; `header_is_ascii` tells whether
    the content is a reason for `needs_smtputf8`.
    """

    envelope: Envelope
    size_bytes: int
    needs_8bit: bool = False
    needs_smtputf8: bool = False
    header_is_ascii: bool = True


@frozen
class Prepared:
    """A message's commands for one next hop. A recipient has either a command or a refusal of ours."""

    mail_command: bytes
    rcpt_commands: tuple[bytes, ...]
    refusals: tuple[Status | None, ...]


class _Unfit(Exception):
    """The next hop offers too little for this address."""

    def __init__(self, status: Status) -> None:
        self.status = status


def prepare(mail: Outgoing, offered: Extensions, to_a_labels: ToALabels) -> Prepared:
    """The commands for a message, each recipient that cannot be sent refused with a status of ours."""
    envelope = mail.envelope
    try:
        _check_message(mail, offered)
        mail_command = _mail_command(mail, offered, to_a_labels)
    except _Unfit as unfit:
        return Prepared(b"", (b"",) * len(envelope.recipients), (unfit.status,) * len(envelope.recipients))
    commands: list[bytes] = []
    refusals: list[Status | None] = []
    for recipient in envelope.recipients:
        try:
            command, refusal = _rcpt_command(recipient, offered, to_a_labels), None
        except _Unfit as unfit:
            command, refusal = b"", unfit.status
        commands.append(command)
        refusals.append(refusal)
    return Prepared(mail_command, tuple(commands), tuple(refusals))


def group_recipients(recipients: Sequence[Recipient], indices: Sequence[int], offered: Extensions) -> list[list[int]]:
    """The indices in groups that each fit into one transaction, RFC 9422 §4.2 and §4.3."""
    rcpt_max, domain_max = offered.limits.rcpt_max, offered.limits.rcpt_domain_max
    if rcpt_max is None and domain_max is None:
        return [list(indices)] if indices else []
    if domain_max is not None:
        indices = sorted(indices, key=lambda index: recipients[index].mailbox.domain_key)
    groups: list[list[int]] = []
    domains: set[str] = set()
    for index in indices:
        domain = recipients[index].mailbox.domain_key
        is_full = not groups or (rcpt_max is not None and len(groups[-1]) >= rcpt_max)
        if is_full or (domain_max is not None and domain not in domains and len(domains) >= domain_max):
            groups.append([])
            domains = set()
        groups[-1].append(index)
        domains.add(domain)
    return groups


def _check_message(mail: Outgoing, offered: Extensions) -> None:
    limit = offered.max_message_bytes
    if limit is not None and mail.size_bytes > limit:  # RFC 1870 §6.1
        text = f"The message has {mail.size_bytes} bytes, and this server takes {limit} at most"
        raise _Unfit(Status(552, "5.3.4", text))
    if mail.needs_smtputf8 and not offered.smtputf8 and not mail.header_is_ascii:
        raise _Unfit(_needs_smtputf8("The header of the message has UTF-8 in it"))


def _mail_command(mail: Outgoing, offered: Extensions, to_a_labels: ToALabels) -> bytes:
    envelope = mail.envelope
    path = _path(envelope.reverse_path, offered, to_a_labels) if envelope.reverse_path else ""
    words = [f"MAIL FROM:<{path}>"]
    if offered.size_bytes is not None:
        words.append(f"SIZE={mail.size_bytes}")
    if mail.needs_8bit and offered.eight_bit_mime:
        words.append("BODY=8BITMIME")
    if mail.needs_smtputf8 and offered.smtputf8:
        words.append("SMTPUTF8")
    if offered.dsn:
        if envelope.ret is not None:
            words.append(f"RET={envelope.ret.value}")
        if envelope.envid:
            words.append(f"ENVID={encode_xtext(envelope.envid)}")
    return " ".join(words).encode() + b"\r\n"


def _rcpt_command(recipient: Recipient, offered: Extensions, to_a_labels: ToALabels) -> bytes:
    words = [f"RCPT TO:<{_path(recipient.mailbox, offered, to_a_labels)}>"]
    if offered.dsn:
        if recipient.notify is not None:
            words.append(f"NOTIFY={recipient.notify}")
        if orcpt := encode_orcpt(recipient.orcpt):
            words.append(f"ORCPT={orcpt}")
    return " ".join(words).encode() + b"\r\n"


def _path(mailbox: Mailbox, offered: Extensions, to_a_labels: ToALabels) -> str:
    """The mailbox as this next hop can read it. A UTF-8 domain has an ASCII form, a local-part has none."""
    if offered.smtputf8 or not mailbox.needs_smtputf8:
        return str(mailbox)
    if not mailbox.local_part.isascii():
        raise _Unfit(_needs_smtputf8(f"The address {mailbox} has UTF-8 in its local part"))
    try:
        return str(mailbox.with_domain(to_a_labels(mailbox.domain)))
    except ValueError:
        raise _Unfit(_needs_smtputf8(f"The domain of {mailbox} has no ASCII form")) from None


def _needs_smtputf8(why: str) -> Status:
    return Status(550, "5.6.7", f"{why}, and this server does not offer SMTPUTF8")  # RFC 6531 §3.5


def encode_xtext(text: str) -> str:
    """Text as xtext, RFC 3461 §4."""
    return _NOT_XTEXT.sub(lambda match: "".join(f"+{byte:02X}" for byte in match[0].encode()), text)


def encode_orcpt(orcpt: str) -> str:
    """An original recipient with its address type, RFC 3461 §4.2; non-ASCII as in RFC 6533 §3.

    Empty for text that has no address type and address.
    """
    address_type, _, address = orcpt.partition(";")
    if not address or not _ADDRESS_TYPE.fullmatch(address_type):
        return ""
    if orcpt.isascii() and address_type.lower() != "utf-8":
        return f"{address_type};{encode_xtext(address)}"
    return "utf-8;" + _NOT_UTF8_XTEXT.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", address)
