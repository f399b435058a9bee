"""SCRAM, the client's side: the password is proved without being shown, and the server proves that it knows it.

RFC 5802 with SHA-1, RFC 7677 with SHA-256; without channel binding. The example of RFC 7677 §3:

>>> scram = ScramClient("sha256", "user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
>>> scram.initial()
b'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError

MAX_ITERATIONS = 1_000_000  # ours: about half a second of work, more than any server asks for

_GS2_HEADER = "n,,"  # RFC 5802 §5.1: no channel binding, nobody else to act for
_FIRST = re.compile(rb"r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})(?:,.*)?", re.DOTALL)
_FINAL = re.compile(rb"v=([A-Za-z0-9+/=]+)(?:,.*)?", re.DOTALL)


class ScramClient:
    """One log-in. `may_end` is false until the server has proved that it knows the password."""

    def __init__(self, algorithm: str, username: str, password: str, *, nonce: str = "") -> None:
        self.may_end = False
        self._algorithm = algorithm
        self._password = prepared(password).encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        name = prepared(username).replace("=", "=3D").replace(",", "=2C")
        self._first_bare = f"n={name},r={self._nonce}".encode()
        self._signature = b""  # what the server has to send

    def initial(self) -> bytes | None:
        return _GS2_HEADER.encode() + self._first_bare

    def respond(self, challenge: bytes) -> bytes:
        """Raises `PeerError` for a challenge that makes no sense, or a server that does not know the password."""
        if not self._signature:
            return self._prove(challenge)
        if self.may_end:
            raise _senseless("more challenges than SCRAM has")
        match = _FINAL.fullmatch(challenge)
        if match is None:
            if challenge.startswith(b"e="):
                return b""  # an error; the reply behind it says more
            raise _senseless("no end of SCRAM")
        if not hmac.compare_digest(_decoded(match[1]), self._signature):
            raise _senseless("no proof that the server knows the password")
        self.may_end = True
        return b""

    def _prove(self, challenge: bytes) -> bytes:
        match = _FIRST.fullmatch(challenge)
        if match is None or not match[1].startswith(self._nonce.encode()) or len(match[1]) == len(self._nonce):
            raise _senseless("no challenge of SCRAM")
        iterations = int(match[3])
        if iterations > MAX_ITERATIONS:
            raise _senseless(f"{iterations} rounds of SCRAM, more than the {MAX_ITERATIONS} we go")
        salted = hashlib.pbkdf2_hmac(self._algorithm, self._password, _decoded(match[2]), iterations)
        without_proof = b"c=" + base64.b64encode(_GS2_HEADER.encode()) + b",r=" + match[1]
        message = b",".join((self._first_bare, challenge, without_proof))
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._algorithm, client_key).digest()
        signature = self._hmac(stored_key, message)
        self._signature = self._hmac(self._hmac(salted, b"Server Key"), message)
        proof = bytes(key ^ mask for key, mask in zip(client_key, signature, strict=True))
        return without_proof + b",p=" + base64.b64encode(proof)

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._algorithm).digest()


def prepared(text: str) -> str:
    """A name or password as SASLprep writes it, RFC 4013 §2; what that forbids is left to the server to refuse."""
    if text.isascii():
        return text
    spaced = (" " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char))
    return unicodedata.normalize("NFKC", "".join(spaced))


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise _senseless("base64 that is none") from None


def _senseless(text: str) -> PeerError:
    return PeerError(Status(501, "5.5.2", text))
