"""The text part of a report in the words of whoever runs the host: text with `${name}` in it.

A template that was read can always be filled in: `parse_template` refuses unknown names.
"""

import re
from collections.abc import Mapping

from masqmail.frozen import frozen

#: What each `${name}` stands for. Those of several lines belong on a line of their own.
VARIABLES: Mapping[str, str] = {
    "user": "the same as recipient_local",
    "recipient": "the recipient, or the first of several",
    "recipient_local": "what stands before its @",
    "recipient_domain": "what stands behind its @",
    "sender": "the sender of the message; empty for the null sender",
    "sender_local": "what stands before its @",
    "sender_domain": "what stands behind its @",
    "received_host": "the host that handed the message in; empty for this host",
    "ident": "the user there, where the host was asked (RFC 1413)",
    "queue_id": "the message's name in the queue and in the log",
    "subject": "the subject of the message",
    "received_at": "when the message was accepted",
    "gives_up_at": "until about when it will be tried; empty in a bounce",
    "host_name": "the name of this host",
    "postmaster": "the address of its postmaster",
    "package": "MasqMail",
    "version": "its version",
    "recipients": "all recipients of the report on one line, with commas",
    "failed_recipients": "the same in several lines, as in the built-in text: address, reason, meaning, advice",
    "reasons": "one line for each recipient: its address, a colon and the reason",
    "message_header": "the header section of the message, in several lines",
    "message_body": "the text of the message, in several lines; empty where the report does not return it",
}

#: What the templates of MasqMail 0.2 to 1.0 called them.
OLD_NAMES: Mapping[str, str] = {
    "rcpt": "recipient",
    "rcpt_local": "recipient_local",
    "rcpt_domain": "recipient_domain",
    "return_path": "sender",
    "return_path_local": "sender_local",
    "return_path_domain": "sender_domain",
    "uid": "queue_id",
    "err_msg": "reasons",
}

#: Lines of such a template that stood for more than one line.
OLD_LINES: Mapping[str, str] = {
    "@failed_rcpts": "failed_recipients",
    "@msg_headers": "message_header",
    "@msg_body": "message_body",
}

_REFERENCE = re.compile(r"\$\{(\w*)(\}?)")


class TemplateError(ValueError):
    """A template with something in it that stands for nothing; `line` counts from 1."""

    def __init__(self, line: int, found: str, instead: str) -> None:
        super().__init__(f"line {line} has {found}")
        self.line = line
        self.found = found
        self.instead = instead


@frozen
class Template:
    """A text whose names are all known; made by `parse_template`."""

    text: str

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with every `${name}` replaced, once: what a value holds stands for itself."""
        return _REFERENCE.sub(lambda match: values.get(match[1], ""), self.text)


def parse_template(text: str) -> Template:
    """Reads a template with any line ends. Raises `TemplateError` for the first name there is not."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    for number, line in enumerate(lines, 1):
        old = next((old for old in OLD_LINES if line.startswith(old)), "")
        if old:
            raise TemplateError(number, old, f"${{{OLD_LINES[old]}}}")
        for match in _REFERENCE.finditer(line):
            if not match[2]:
                raise TemplateError(number, f"{match[0]} without a }}", f"{match[0]}}}")
            if match[1] not in VARIABLES:
                raise TemplateError(number, match[0], _meant(match[1]))
    return Template("\n".join(lines) + "\n")


def _meant(name: str) -> str:
    """The name that was probably meant, or all of them."""
    from difflib import get_close_matches  # only who makes a mistake pays for it

    likely = OLD_NAMES.get(name) or next(iter(get_close_matches(name, VARIABLES, n=1)), "")
    return f"${{{likely}}}" if likely else "one of " + " ".join(VARIABLES)
