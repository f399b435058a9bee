"""The client's side of a POP3 log-in: which way, what it says, and when another one is worth a try.

USER with PASS and APOP are RFC 1939 §7, AUTH is RFC 5034.
"""

from collections.abc import Sequence

from masqmail.proto import sasl
from masqmail.proto.lines import nonsense
from masqmail.proto.pop3.apop import Weak, digest
from masqmail.proto.pop3.capability import Capabilities
from masqmail.proto.pop3.reply import Reply

MAX_COMMAND_BYTES = 255  # RFC 2449 §4; a longer initial response waits for its challenge, RFC 5034 §4

MAX_CHALLENGES = 3  # SCRAM's two, and an empty one before them

USER = "USER"
APOP = "APOP"

#: Every way to log in, the best one first. Under TLS the plain ones are as safe as any, and work more often.
PROTECTED_WAYS = (sasl.PLAIN, USER, sasl.LOGIN, sasl.SCRAM_SHA_256, sasl.SCRAM_SHA_1, sasl.CRAM_MD5, APOP)
#: The same without TLS.
CLEAR_WAYS = (sasl.SCRAM_SHA_256, sasl.SCRAM_SHA_1, sasl.CRAM_MD5, APOP, sasl.PLAIN, USER, sasl.LOGIN)

#: Response codes that say that it is not for the name or password, RFC 2449 §8.1.1 and RFC 3206 §4.
_NOT_NOW = ("IN-USE", "LOGIN-DELAY", "SYS")

_FORBIDDEN = frozenset("\r\n\0")


def is_for_now(refusal: Reply) -> bool:
    """Whether a -ERR speaks of this moment, and not of the name and password."""
    return refusal.code.partition("/")[0] in _NOT_NOW


class Login:
    """One log-in over as many ways as it takes. A password that was shown is never tried a second time."""

    def __init__(
        self,
        credentials: sasl.Credentials,
        allowed: Sequence[str],
        offered: Capabilities,
        challenge: bytes | Weak | None,
    ) -> None:
        self._credentials = credentials
        self._challenge = challenge
        self._left = [way for way in allowed if self._is_usable(way, offered)]
        self._mechanism: sasl.ClientMechanism | None = None
        self._held_back: bytes | None = None  # an initial response too long for the command
        self._challenges = 0
        self._awaits_user = False  # USER was sent, and PASS not yet
        self._has_proved = False

    @property
    def username(self) -> str:
        return self._credentials.username

    @property
    def is_sendable(self) -> bool:
        """Whether name and password can stand in a command at all."""
        return not _FORBIDDEN.intersection(self.username + self._credentials.password.reveal())

    def next_command(self) -> bytes | None:
        """The first command of the next way, or None when none is left."""
        if not self._left:
            return None
        way = self._left.pop(0)
        self._mechanism, self._held_back, self._awaits_user, self._challenges = None, None, False, 0
        if way == APOP:
            assert isinstance(self._challenge, bytes)
            self._has_proved = True
            proof = digest(self._challenge, self._credentials.password.reveal())
            return f"APOP {self.username} {proof}\r\n".encode()
        if way == USER:
            self._awaits_user = True
            return f"USER {self.username}\r\n".encode()
        return self._begin_sasl(way)

    def go_on(self) -> bytes | None:
        """What follows a +OK; None when that was the welcome. Raises `PeerError` for one not to be believed."""
        if self._mechanism is not None and not self._mechanism.may_end:
            raise nonsense("a welcome from a server that has not proved to know the password")
        if not self._awaits_user:
            return None
        self._awaits_user, self._has_proved = False, True
        return f"PASS {self._credentials.password.reveal()}\r\n".encode()

    def answer(self, challenge: Reply) -> bytes:
        """The line that answers a challenge. Raises `PeerError` for one that makes no sense."""
        self._challenges += 1
        if self._mechanism is None or self._challenges > MAX_CHALLENGES:
            raise nonsense("a challenge that nobody asked for")
        response, self._held_back = self._held_back, None
        if response is None:
            response = self._mechanism.respond(sasl.decode(challenge.raw.strip()))
        self._has_proved = True
        return sasl.encode(response) + b"\r\n"

    def conceal(self, reply: Reply) -> str:
        """A reply as people may see it: without the password."""
        return self._credentials.conceal(str(reply))

    def may_go_on(self, refusal: Reply) -> bool:
        """Whether another way should be tried after this -ERR."""
        return bool(self._left) and not self._has_proved and not refusal.code

    def _is_usable(self, way: str, offered: Capabilities) -> bool:
        if way == APOP:
            return isinstance(self._challenge, bytes) and not any(char.isspace() for char in self.username)
        if way == USER:
            return offered.user
        return way in offered.sasl and sasl.is_usable(way, self._credentials)

    def _begin_sasl(self, name: str) -> bytes:
        self._mechanism = sasl.client_mechanism(name, self._credentials)
        command = b"AUTH " + name.encode()
        if (initial := self._mechanism.initial()) is not None:
            with_initial = command + b" " + sasl.encode_initial(initial)
            if len(with_initial) + 2 <= MAX_COMMAND_BYTES:
                self._has_proved = True
                return with_initial + b"\r\n"
            self._held_back = initial
        return command + b"\r\n"
