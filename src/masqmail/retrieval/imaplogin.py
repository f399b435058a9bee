"""The ways to log in to an IMAP server: which may be used, what each of them says, and what a refusal means. Pure.

LOGIN is RFC 9051 §6.2.3, AUTHENTICATE §6.2.2 with the initial response of SASL-IR (RFC 4959).
"""

import re
from collections.abc import Collection, Sequence

from masqmail.mail.outcome import Culprit
from masqmail.proto import sasl

#: The LOGIN command, which is no SASL mechanism. `LOGIN` of the configuration allows both.
COMMAND = "LOGIN command"

#: Ways that show the password as it is.
_SHOWING = frozenset({sasl.PLAIN, sasl.LOGIN, COMMAND, *sasl.TOKEN_MECHANISMS})

#: Response codes that say that it is not for the name or password, RFC 5530 §3.
_NOT_NOW = frozenset({"UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "CONTACTADMIN"})

_CODE = re.compile(r"\[([A-Z][A-Z0-9-]*)(?: [^\]]*)?\]")
_FORBIDDEN = frozenset("\r\n\0")

MAX_CHALLENGES = 5


class Answers:
    """One log-in by a SASL mechanism: what we say to each challenge. `initial` is what AUTHENTICATE itself says."""

    def __init__(self, name: str, credentials: sasl.Credentials, *, says_first: bool) -> None:
        self._mechanism = sasl.client_mechanism(name, credentials)
        self._held_back = self._mechanism.initial()
        self.initial: str | None = None
        if says_first and self._held_back is not None:
            self.initial, self._held_back = sasl.encode_initial(self._held_back).decode("ascii"), None
        self._challenges = 0

    @property
    def has_proved(self) -> bool:
        """Whether the server has heard anything that it could refuse."""
        return self.initial is not None or self._challenges > 0

    @property
    def may_end(self) -> bool:
        """Whether a success is to be believed: some servers have to prove themselves."""
        return self._mechanism.may_end

    def answer(self, challenge: bytes) -> bytes:
        """The line for a challenge, in base64 as that is. Raises `PeerError` for one that makes no sense."""
        self._challenges += 1
        if self._challenges > MAX_CHALLENGES:
            return b"*"
        response, self._held_back = self._held_back, None
        if response is None:
            response = self._mechanism.respond(sasl.decode(challenge.strip()))
        return sasl.encode(response)


def usable_ways(
    credentials: sasl.Credentials,
    allowed: Sequence[str],
    offered: Collection[str],
    *,
    is_protected: bool,
    is_clear_fine: bool,
) -> list[str]:
    """The ways to log in, the best first. `offered` are capabilities in upper case.

    Without TLS (`is_protected`) only those that do not show the password, unless that is fine.
    """
    best_first = [name for name in sasl.CLIENT_MECHANISMS if name not in sasl.TOKEN_MECHANISMS]
    if not is_protected:
        best_first.sort(key=lambda name: name in _SHOWING)
    ways = [way for name in allowed or best_first for way in _ways_of(name)]
    ways = [way for way in dict.fromkeys(ways) if _is_offered(way, offered, credentials)]
    if not (is_protected or is_clear_fine):
        ways = [way for way in ways if way not in _SHOWING]
    if not (credentials.username + credentials.password.reveal()).isascii():
        ways = [
            way for way in ways if way != COMMAND
        ]  # it would need a literal, and servers disagree about its letters
    return ways


def can_be_sent(credentials: sasl.Credentials) -> bool:
    """Whether name and password can stand in a command at all."""
    return not _FORBIDDEN.intersection(credentials.username + credentials.password.reveal())


def quoted(text: str) -> str:
    """A quoted string, RFC 9051 §4.3."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def culprit_of(refusal: str) -> Culprit:
    """Whether a NO speaks of name and password, or of this moment."""
    code = _CODE.match(refusal)
    return Culprit.SESSION if code and code[1] in _NOT_NOW else Culprit.LOGIN


def _ways_of(name: str) -> tuple[str, ...]:
    return (name, COMMAND) if name in (sasl.PLAIN, sasl.LOGIN) else (name,)


def _is_offered(way: str, offered: Collection[str], credentials: sasl.Credentials) -> bool:
    if way == COMMAND:
        return "LOGINDISABLED" not in offered
    return f"AUTH={way}" in offered and sasl.is_usable(way, credentials)
