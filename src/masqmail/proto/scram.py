"""SCRAM, the client's side: the password is proved without being shown, and the server proves that it knows it.

RFC 5802 with SHA-1, RFC 7677 with SHA-256; without channel binding. The library scramp speaks it, and is loaded when
somebody logs in this way. It refuses what is weak, too: fewer than 4096 rounds, a salt of less than 12 bytes. The
example of RFC 7677 §3:

>>> scram = ScramClient("SCRAM-SHA-256", "user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
>>> scram.initial()
b'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'
"""

import re
from typing import TYPE_CHECKING

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError

if TYPE_CHECKING:
    from scramp import ScramClient as _Library

MAX_ITERATIONS = 1_000_000  # ours: about half a second of work, more than any server asks for

_ITERATIONS = re.compile(rb",i=([0-9]{1,9})(?:,|$)")  # the library refuses a number with more digits


class ScramClient:
    """One log-in. `may_end` is false until the server has proved that it knows the password.

    `mechanism` is "SCRAM-SHA-256" or "SCRAM-SHA-1". Raises `ValueError` for a name or password of which `can_carry`
    says that they cannot be written.
    """

    def __init__(self, mechanism: str, username: str, password: str, *, nonce: str = "") -> None:
        self.may_end = False
        self._library = _begun(mechanism, username, password, nonce)
        self._initial: str = self._library.get_client_first()
        self._has_proved = False

    def initial(self) -> bytes | None:
        return self._initial.encode()

    def respond(self, challenge: bytes) -> bytes:
        """Raises `PeerError` for a challenge that makes no sense, or a server that does not know the password."""
        from scramp import ScramException

        if self.may_end:
            raise _senseless("more challenges than SCRAM has")
        if self._has_proved and challenge.startswith(b"e="):
            return b""  # an error; the reply behind it says more
        try:
            if not self._has_proved:
                return self._prove(challenge)
            self._library.set_server_final(challenge.decode())
        except UnicodeDecodeError:
            raise _senseless("a challenge of SCRAM that is no UTF-8") from None
        except ScramException as error:
            raise _senseless(f"no challenge of SCRAM that can be believed ({error.args[0]})") from error
        self.may_end = True
        return b""

    def _prove(self, challenge: bytes) -> bytes:
        iterations = _ITERATIONS.search(challenge)
        if iterations is not None and int(iterations[1]) > MAX_ITERATIONS:
            raise _senseless(f"{int(iterations[1])} rounds of SCRAM, more than the {MAX_ITERATIONS} we go")
        self._library.set_server_first(challenge.decode())
        proof: str = self._library.get_client_final()
        self._has_proved = True
        return proof.encode()


def can_carry(username: str, password: str) -> bool:
    """Whether SCRAM has a way to write this name and password: RFC 4013 forbids what Unicode 3.2 did not have."""
    if username and (username + password).isascii() and (username + password).isprintable():
        return True
    try:
        _begun("SCRAM-SHA-1", username, password, "")
    except ValueError:
        return False
    return True


def _begun(mechanism: str, username: str, password: str, nonce: str) -> "_Library":
    """The library's side of it. Raises `ValueError` for a name or password that it does not take."""
    from scramp import ScramClient as Library
    from scramp import ScramException

    try:
        return Library([mechanism], username, password, c_nonce=nonce or None)
    except ScramException as error:
        raise ValueError(f"SCRAM does not take this name or password: {error.args[0]}") from error


def _senseless(text: str) -> PeerError:
    return PeerError(Status(501, "5.5.2", text))
