"""Old commands as argument lists, and the old `$variables` as ours.

A shell ran them up to 0.2.20, and wrappers up to 0.3.5; later they were split at blanks, since 1.0 with quotes.
"""

import re
import shlex
from collections.abc import Callable

from masqmail.frozen import frozen
from masqmail.importing.dialect import Dialect
from masqmail.importing.values import BadOldValue

#: What the old variables are called here; those of templates stand with them.
VARIABLES = {
    "uid": "queue_id",
    "received_host": "received_host",
    "ident": "ident",
    "return_path": "sender",
    "return_path_local": "sender_local",
    "return_path_domain": "sender_domain",
    "rcpt": "recipient",
    "rcpt_local": "recipient_local",
    "rcpt_domain": "recipient_domain",
}

_REFERENCE = re.compile(r"\\(\$(?:\{[^}]*\}?)?)|\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_REDIRECTION = re.compile(r"(?:^|\s)\d?>(?:&\d|\s*[^\s;|&<>]+)|(?:^|\s)<\s*/dev/null")
_SHELL = re.compile(r"[|&;<>()`\n*?~]|\$\(")
_OLD_WORDS = 9


@frozen
class OldCommand:
    """A command as words, with what should be said about it."""

    words: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def with_our_variables(
    text: str, replace: Callable[[str], str | None] = VARIABLES.get
) -> tuple[str, tuple[str, ...]]:
    """The text with our names for variables, and the names that stand for nothing here (and stood for nothing)."""
    unknown: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        if match[1] and len(match[1]) > 1:  # what would be a variable cannot be text here
            unknown.append(match[1].strip("${}"))
            return ""
        if match[1]:
            return "$"
        name = match[2] if match[2] is not None else match[3]
        ours = replace(name)
        if ours is None:
            unknown.append(name)
            return ""
        return f"${{{ours}}}"

    return _REFERENCE.sub(replaced, text), tuple(dict.fromkeys(unknown))


def read_command(text: str, dialect: Dialect) -> OldCommand:
    """A command without variables. Raises `BadOldValue` when it needs a shell."""
    remarks: list[str] = []
    if dialect is Dialect.V03:
        words = text.split()
        if len(words) > _OLD_WORDS:
            remarks.append(f"the old program gave it {_OLD_WORDS} words at most; now it gets all of them")
        if any(quote in text for quote in "\"'"):
            remarks.append("quotes belonged to the words, and still do")
    else:
        if dialect is Dialect.V02 and _SHELL.search(text):
            raise BadOldValue("it was run by a shell; write a script with it and name that here")
        words = _split(text)
    if not words:
        raise BadOldValue("there is no command")
    return OldCommand(tuple(words), tuple(remarks))


def read_delivery_command(text: str, dialect: Dialect) -> OldCommand:
    """A command with variables: an `mda` or `pipe`. Raises `BadOldValue` when it needs a shell."""
    marked, unknown = with_our_variables(text)
    hidden = marked.replace("${", "\0").replace("}", "\1")
    command = read_command(hidden, dialect)
    words = tuple(word.replace("\0", "${").replace("\1", "}") for word in command.words)
    remarks = tuple(f"${name} is no variable, and stays empty" for name in unknown)
    return OldCommand(words, (*command.remarks, *remarks))


def read_wrapper(text: str, dialect: Dialect) -> OldCommand:
    """A wrapper: its words, or a shell with all of it where the shell did more than to split words."""
    if dialect is Dialect.V10:
        return read_command(text, dialect)
    bare = _REDIRECTION.sub(" ", text).strip()
    remarks = ["its redirections are gone, which nothing needs any more"] if bare != text.strip() else []
    if _SHELL.search(bare):
        return OldCommand(("/bin/sh", "-c", text), ("a shell runs it, as before; a script of your own is safer",))
    words = _split(bare)
    if words[:1] == ["exec"]:
        del words[0]
    if not words:
        raise BadOldValue("there is no command")
    return OldCommand(tuple(words), tuple(remarks))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise BadOldValue("a quote is never closed") from None


@frozen
class TlsProgram:
    """A wrapper that only spoke TLS: where it connected to, and whether it began in clear."""

    host: str
    port: int
    starttls: bool
    ca_file: str = ""


def as_tls(words: tuple[str, ...]) -> TlsProgram | None:
    """What a wrapper with `openssl s_client`, `gnutls-cli` or `stunnel` did; None for any other program."""
    program = words[0].rpartition("/")[2] if words else ""
    arguments = list(words[1:])
    if program == "openssl" and arguments[:1] == ["s_client"]:
        return _s_client(arguments[1:])
    if program == "gnutls-cli":
        return _gnutls_cli(arguments)
    if program in ("stunnel", "stunnel4") and "-r" in arguments[:-1]:
        host, port = _host_port(arguments[arguments.index("-r") + 1], 465)
        return TlsProgram(host, port, "-n" in arguments) if host else None
    return None


def _s_client(arguments: list[str]) -> TlsProgram | None:
    options = _options(arguments, {"connect", "host", "port", "starttls", "CAfile"})
    host, port = _host_port(options.get("connect", options.get("host", "")), _port(options.get("port", "4433")))
    if not host or options.get("starttls") not in (None, "smtp", "pop3"):
        return None
    return TlsProgram(host, port, "starttls" in options, options.get("CAfile", ""))


def _gnutls_cli(arguments: list[str]) -> TlsProgram | None:
    taking = {"p", "port", "x509cafile", "starttls-proto", "priority", "x509certfile", "x509keyfile"}
    options = _options([part for word in arguments for part in _equals(word)], taking)
    host, port = _host_port(options.get("", ""), _port(options.get("p", options.get("port", "443"))))
    if not host:
        return None
    starttls = any(name in options for name in ("s", "starttls", "starttls-proto"))
    return TlsProgram(host, port, starttls, options.get("x509cafile", ""))


def _equals(word: str) -> list[str]:
    """`--name=value` as two words."""
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


def _options(arguments: list[str], taking: set[str]) -> dict[str, str]:
    """Options by their names without dashes; what is none stands under the empty name."""
    found: dict[str, str] = {}
    rest = list(reversed(arguments))
    while rest:
        word = rest.pop()
        name = word.lstrip("-")
        if word == name:
            found.setdefault("", word)
        elif name in taking and rest:
            found[name] = rest.pop()
        else:
            found[name] = ""
    return found


def _host_port(text: str, port: int) -> tuple[str, int]:
    host, colon, digits = text.rpartition(":")
    if colon and digits.isascii() and digits.isdigit():
        return host, _port(digits)
    return text, port


def _port(digits: str) -> int:
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 and 0 < int(digits) < 65536 else 0
