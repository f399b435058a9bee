"""The `${…}` of commands and paths, and the environment that programs are promised.

A command is cut into words first (`routing.aliasfile.split_command`) and expanded afterwards, word by word:
whatever an address contains, it stays inside its word. There is no shell anywhere.
"""

import re
from collections.abc import Iterable
from dataclasses import fields

from masqmail.frozen import frozen
from masqmail.mail.address import Mailbox

#: Where programs without a path are looked for, and the PATH they get themselves.
PROGRAM_PATH = "/usr/local/bin:/usr/bin:/bin"

_REFERENCE = re.compile(r"\$\{([^}]*)\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class VariableError(ValueError):
    """A command or path cannot be filled in; the message says why."""


@frozen
class Variables:
    """What a message says about one of its recipients. Each field is a `${name}`.

    `sender` and its parts are empty for the null reverse-path.
    """

    user: str = ""
    recipient: str = ""
    recipient_local: str = ""
    recipient_domain: str = ""
    sender: str = ""
    sender_local: str = ""
    sender_domain: str = ""
    received_host: str = ""
    ident: str = ""
    queue_id: str = ""


NAMES = tuple(field.name for field in fields(Variables))

#: Which variable each promised name of a program's environment holds.
_ENVIRONMENT = {
    "SENDER": "sender",
    "RETURN_PATH": "sender",
    "SENDER_DOMAIN": "sender_domain",
    "SENDER_LOCAL": "sender_local",
    "RECEIVED_HOST": "received_host",
    "LOCAL_PART": "recipient_local",
    "MESSAGE_ID": "queue_id",
    "DOMAIN": "recipient_domain",
}


def variables_of(
    *,
    user: str,
    recipient: Mailbox,
    sender: Mailbox | None,
    received_host: str = "",
    ident: str = "",
    queue_id: str = "",
) -> Variables:
    """The variables of one recipient. What others told us is made printable."""
    return Variables(
        user=user,
        recipient=str(recipient),
        recipient_local=recipient.local_part,
        recipient_domain=recipient.domain,
        sender=str(sender or ""),
        sender_local=sender.local_part if sender else "",
        sender_domain=sender.domain if sender else "",
        received_host=_CONTROL.sub("?", received_host),
        ident=_CONTROL.sub("?", ident),
        queue_id=queue_id,
    )


def expand(template: str, variables: Variables) -> str:
    """Fills in every `${name}`; a `$` without a brace is itself. Raises `VariableError` for an unknown name."""
    return _REFERENCE.sub(lambda match: _value(match[1], variables), template)


def expand_words(words: Iterable[str], variables: Variables) -> tuple[str, ...]:
    """Fills in each word of a command; a value never makes a word more."""
    return tuple(expand(word, variables) for word in words)


def expand_path(template: str, variables: Variables, home: str) -> str:
    """The absolute path a template means; `~/` at its start is `home`.

    Raises `VariableError` when a value would lead into another directory, or the path is not absolute.
    """
    if template.startswith("~/"):
        template = home.rstrip("/") + template[1:]
    path = _REFERENCE.sub(lambda match: _file_name(match[1], variables), template)
    if not path.startswith("/"):
        raise VariableError(f"{path!r} is not an absolute path")
    return path


def expand_place(template: str, variables: Variables) -> str:
    """The path of a socket or host:port that a template means. Raises `VariableError` as `expand_path` does."""
    return _REFERENCE.sub(lambda match: _file_name(match[1], variables), template)


def environment_of(variables: Variables, *, host_name: str, home: str, shell: str) -> dict[str, str]:
    """All that a program finds in its environment. A program of an alias has the alias as its USER."""
    user = variables.user or variables.recipient_local
    return {
        **{name: _value(variable, variables) for name, variable in _ENVIRONMENT.items()},
        "USER": user,
        "LOGNAME": user,
        "QUALIFY_DOMAIN": host_name,
        "HOME": home,
        "PATH": PROGRAM_PATH,
        "SHELL": shell,
    }


def _value(name: str, variables: Variables) -> str:
    if name not in NAMES:
        raise VariableError(f"${{{name}}} is unknown; there are {' '.join(NAMES)}")
    value: str = getattr(variables, name)
    return value


def _file_name(name: str, variables: Variables) -> str:
    value = _value(name, variables)
    if "/" in value or value in ("", ".", ".."):
        raise VariableError(f"${{{name}}} is {value!r}, which cannot be part of a path")
    return value
