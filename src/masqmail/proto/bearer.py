"""Log-ins with a token in place of a password: OAUTHBEARER (RFC 7628) and the older XOAUTH2 that Google made up.

>>> XOauth2Client("ann@example.org", "t0ken").initial()
b'user=ann@example.org\\x01auth=Bearer t0ken\\x01\\x01'

A server that does not like the token says why in a challenge, which must be answered; its refusal follows.
"""

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError


class _BearerClient:
    """Everything in one message, and one answer to whatever is wrong with it."""

    may_end = True

    def __init__(self, message: str, answer: bytes) -> None:
        self._message = message.encode()
        self._answer = answer
        self._is_answered = False

    def initial(self) -> bytes | None:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        if self._is_answered:
            raise PeerError(Status(501, "5.5.2", "one challenge more than there are"))
        self._is_answered = True
        return self._answer


class OauthBearerClient(_BearerClient):
    """RFC 7628 §3.1; the answer to an error is §3.2.3."""

    def __init__(self, username: str, token: str) -> None:
        name = username.replace("=", "=3D").replace(",", "=2C")
        super().__init__(f"n,a={name},\x01auth=Bearer {token}\x01\x01", b"\x01")


class XOauth2Client(_BearerClient):
    """What Gmail and Outlook documented before there was a standard."""

    def __init__(self, username: str, token: str) -> None:
        super().__init__(f"user={username}\x01auth=Bearer {token}\x01\x01", b"")
