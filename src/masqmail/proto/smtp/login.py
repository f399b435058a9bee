"""The client's side of AUTH: which mechanism, what it says, and when another one is worth a try. RFC 4954."""

from collections.abc import Sequence

from masqmail.mail.status import Status
from masqmail.proto import sasl

MAX_COMMAND_BYTES = 512  # RFC 5321 §4.5.3.1.4; a longer initial response waits for its challenge, RFC 4954 §4

#: What is used where nobody asks for more. The others of `sasl` need a token, or a server that keeps keys.
USUAL_MECHANISMS = (sasl.PLAIN, sasl.LOGIN, sasl.CRAM_MD5)

#: AUTH replies that are about the command or mechanism, and not about the password.
_MECHANISM_REFUSED = range(500, 505)


class Login:
    """One log-in over as many mechanisms as it takes. A wrong password is never tried a second time."""

    def __init__(self, credentials: sasl.Credentials, allowed: Sequence[str], offered: Sequence[str]) -> None:
        usable = (name for name in allowed if name in offered and sasl.is_usable(name, credentials))
        self._credentials = credentials
        self._left = list(usable)
        self._mechanism: sasl.ClientMechanism | None = None
        self._held_back: bytes | None = None  # an initial response too long for the command

    @property
    def username(self) -> str:
        return self._credentials.username

    @property
    def may_end(self) -> bool:
        """Whether a success is to be believed: some mechanisms have the server prove itself first."""
        return self._mechanism is not None and self._mechanism.may_end

    def next_command(self) -> bytes | None:
        """AUTH with the next mechanism, or None when none is left."""
        if not self._left:
            return None
        name = self._left.pop(0)
        self._mechanism = sasl.client_mechanism(name, self._credentials)
        self._held_back = None
        command = b"AUTH " + name.encode()
        if (initial := self._mechanism.initial()) is not None:
            with_initial = command + b" " + sasl.encode_initial(initial)
            if len(with_initial) + 2 <= MAX_COMMAND_BYTES:
                command = with_initial
            else:
                self._held_back = initial
        return command + b"\r\n"

    def conceal(self, reply: Status) -> Status:
        """A reply as people may see it: without the password."""
        return reply.with_text(self._credentials.conceal(reply.text))

    def may_go_on(self, refusal: Status) -> bool:
        """Whether another mechanism should be tried after this refusal."""
        return bool(self._left) and refusal.code in _MECHANISM_REFUSED

    def answer(self, challenge: Status) -> bytes:
        """The line that answers a 334. Raises `PeerError` for a challenge that makes no sense."""
        assert self._mechanism is not None
        response, self._held_back = self._held_back, None
        if response is None:
            response = self._mechanism.respond(sasl.decode(challenge.text.encode()))
        return sasl.encode(response) + b"\r\n"
