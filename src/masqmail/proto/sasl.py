"""SASL mechanisms and password hashes: RFC 4422, for SMTP as RFC 4954 uses them.

Mechanisms speak plain bytes; `encode` and `decode` add the base64 around them. A client mechanism gives an
initial response (or None) and answers challenges:

>>> mechanism = client_mechanism("PLAIN", Credentials("ann", Secret("sesame")))
>>> mechanism.initial()
b'\\x00ann\\x00sesame'

A server mechanism is given the responses, the first one may be None, until it returns `Credentials`.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Protocol

from masqmail.frozen import frozen
from masqmail.mail.status import Status
from masqmail.proto.bearer import OauthBearerClient, XOauth2Client
from masqmail.proto.errors import PeerError
from masqmail.proto.scram import ScramClient, can_carry

PLAIN = "PLAIN"  # RFC 4616
LOGIN = "LOGIN"  # never a standard, spoken everywhere
CRAM_MD5 = "CRAM-MD5"  # RFC 2195
SCRAM_SHA_256 = "SCRAM-SHA-256"  # RFC 7677
SCRAM_SHA_1 = "SCRAM-SHA-1"  # RFC 5802
OAUTHBEARER = "OAUTHBEARER"  # RFC 7628
XOAUTH2 = "XOAUTH2"  # its forerunner

#: Stands where a server repeated a password.
HIDDEN = "(hidden)"

#: A shorter password stands in many a word by chance: a text that has it is hidden as a whole.
_MIN_TELLING_LENGTH = 4

_BAD_BASE64 = Status(501, "5.5.2", "The response is not valid base64")  # RFC 4954 §4
_BAD_RESPONSE = Status(501, "5.5.2", "The response does not fit the mechanism")
_NO_PROXY = Status(535, "5.7.8", "Logging in for somebody else is not possible here")


class Secret:
    """A password or token. Its repr and str hide it; `reveal` is where it goes on the wire."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "Secret('…')"

    __str__ = __repr__


@frozen
class Credentials:
    """Who logs in, and what proves it."""

    username: str
    password: Secret

    def conceal(self, text: str) -> str:
        """What a server said, for people: without the password, should it repeat what it was told."""
        password = self.password.reveal()
        if not password:
            return text
        found = re.compile("|".join(self._told_forms()))
        if len(password) < _MIN_TELLING_LENGTH:
            return HIDDEN if found.search(text) else text
        return found.sub(HIDDEN, text)

    def conceal_line(self, line: bytes) -> bytes:
        """The same for a line of a protocol trace."""
        return self.conceal(line.decode(errors="surrogateescape")).encode(errors="surrogateescape")

    def _told_forms(self) -> list[str]:
        """Patterns of all that we tell a server and that holds the password, the longest first."""
        password = self.password.reveal()
        messages = [CLIENT_MECHANISMS[name](self).initial() or b"" for name in (PLAIN, OAUTHBEARER, XOAUTH2)]
        encoded = [encode(message).decode("ascii").rstrip("=") for message in (*messages, password.encode())]
        quoted = password.replace("\\", "\\\\").replace('"', '\\"')  # in IMAP, RFC 9051 §4.3
        forms = [re.escape(form) + "={0,2}" for form in encoded] + [re.escape(quoted), re.escape(password)]
        return sorted(forms, key=len, reverse=True)


def encode(data: bytes) -> bytes:
    """Base64 as it stands in a line of SMTP: no line breaks."""
    return base64.b64encode(data)


def encode_initial(data: bytes) -> bytes:
    """An initial response in base64; an empty one is `=` (RFC 4954 §4)."""
    return base64.b64encode(data) or b"="


def decode(data: bytes) -> bytes:
    """The bytes behind base64 text. Raises `PeerError` with 501 when it is none."""
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise PeerError(_BAD_BASE64) from None


def decode_initial(data: bytes) -> bytes:
    """The bytes behind an initial response, where `=` stands for an empty one (RFC 4954 §4)."""
    return b"" if data == b"=" else decode(data)


# the client's side


class ClientMechanism(Protocol):
    """One log-in. Raises `PeerError` when the server asks for more than the mechanism has to say.

    While `may_end` is false a success is not to be believed: the server still has to prove itself.
    """

    @property
    def may_end(self) -> bool: ...

    def initial(self) -> bytes | None:
        """What goes along with the AUTH command, if the mechanism lets the client begin."""

    def respond(self, challenge: bytes) -> bytes: ...


class PlainClient:
    """RFC 4616: everything in one message."""

    may_end = True

    def __init__(self, credentials: Credentials) -> None:
        self._message = f"\0{credentials.username}\0{credentials.password.reveal()}".encode()

    def initial(self) -> bytes | None:
        return self._message

    def respond(self, challenge: bytes) -> bytes:
        raise PeerError(Status(501, "5.5.2", "PLAIN has no challenges"))


class LoginClient:
    """User name, then password. The challenges say which, but differ between servers; the order does not."""

    may_end = True

    def __init__(self, credentials: Credentials) -> None:
        self._answers = [credentials.password.reveal().encode(), credentials.username.encode()]

    def initial(self) -> bytes | None:
        return None  # some servers refuse LOGIN with an initial response

    def respond(self, challenge: bytes) -> bytes:
        if not self._answers:
            raise PeerError(Status(501, "5.5.2", "LOGIN has two challenges only"))
        return self._answers.pop()


class CramMd5Client:
    """RFC 2195: a keyed hash of the server's challenge. The password itself does not travel."""

    may_end = True

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def initial(self) -> bytes | None:
        return None

    def respond(self, challenge: bytes) -> bytes:
        key = self._credentials.password.reveal().encode()
        return f"{self._credentials.username} {hmac.new(key, challenge, 'md5').hexdigest()}".encode()


#: What we speak, the one we like best first. Under TLS PLAIN is as safe as the others, and works more often.
CLIENT_MECHANISMS: dict[str, Callable[[Credentials], ClientMechanism]] = {
    PLAIN: PlainClient,
    LOGIN: LoginClient,
    SCRAM_SHA_256: lambda who: ScramClient(SCRAM_SHA_256, who.username, who.password.reveal()),
    SCRAM_SHA_1: lambda who: ScramClient(SCRAM_SHA_1, who.username, who.password.reveal()),
    CRAM_MD5: CramMd5Client,
    OAUTHBEARER: lambda who: OauthBearerClient(who.username, who.password.reveal()),
    XOAUTH2: lambda who: XOauth2Client(who.username, who.password.reveal()),
}

#: Those that show a token in place of the password. They are for who has one, and says so.
TOKEN_MECHANISMS = frozenset({OAUTHBEARER, XOAUTH2})


def is_usable(name: str, credentials: Credentials) -> bool:
    """Whether we speak a mechanism, and it can carry this name and password: SCRAM cannot carry most emoji."""
    if name in (SCRAM_SHA_256, SCRAM_SHA_1):
        return can_carry(credentials.username, credentials.password.reveal())
    return name in CLIENT_MECHANISMS


def client_mechanism(name: str, credentials: Credentials) -> ClientMechanism:
    """A fresh log-in by a mechanism that `is_usable`."""
    return CLIENT_MECHANISMS[name](credentials)


# the server's side


class ServerMechanism(Protocol):
    """One log-in at our server."""

    def respond(self, response: bytes | None) -> bytes | Credentials:
        """A challenge for the client, or what it said in the end.

        The first call has the initial response, or None when there was none. Raises `PeerError` with the
        reply for a response that does not fit.
        """


class PlainServer:
    """RFC 4616. Acting for another user is refused."""

    def respond(self, response: bytes | None) -> bytes | Credentials:
        if response is None:
            return b""
        try:
            authorize, username, password = response.decode("utf-8").split("\0")
        except ValueError:
            raise PeerError(_BAD_RESPONSE) from None
        if not username or not password:
            raise PeerError(_BAD_RESPONSE)
        if authorize not in ("", username):
            raise PeerError(_NO_PROXY)
        return Credentials(username, Secret(password))


class LoginServer:
    """User name, then password."""

    def __init__(self) -> None:
        self._username: str | None = None

    def respond(self, response: bytes | None) -> bytes | Credentials:
        if response is None:
            return b"Username:"
        try:
            text = response.decode("utf-8")
        except UnicodeDecodeError:
            raise PeerError(_BAD_RESPONSE) from None
        if not text or "\0" in text:
            raise PeerError(_BAD_RESPONSE)
        if self._username is None:
            self._username = text
            return b"Password:"
        return Credentials(self._username, Secret(text))


#: What our server offers, in this order.
SERVER_MECHANISMS: dict[str, type[PlainServer] | type[LoginServer]] = {PLAIN: PlainServer, LOGIN: LoginServer}


def server_mechanism(name: str) -> ServerMechanism:
    """A fresh log-in by a mechanism of `SERVER_MECHANISMS`."""
    return SERVER_MECHANISMS[name]()


# password hashes

_LOG_N, _R, _P = 14, 8, 5  # 16 MiB and about 0.2 s on a small machine
_MAX_LOG_N, _MAX_R, _MAX_P = 20, 16, 16
_HASH = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)", re.ASCII)


def hash_password(password: str) -> str:
    """A salted scrypt hash (RFC 7914) for the users file. Takes a while, on purpose; so does `verify_password`."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, _LOG_N, _R, _P, 32)
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_unpadded(salt)}${_unpadded(digest)}"


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the password belongs to the hash; False for a text that is no hash."""
    if (parts := _parse_hash(password_hash)) is None:
        return False
    log_n, r, p, salt, digest = parts
    return hmac.compare_digest(digest, _scrypt(password, salt, log_n, r, p, len(digest)))


def is_password_hash(text: str) -> bool:
    """Whether any password can belong to this text."""
    return _parse_hash(text) is not None


def _parse_hash(text: str) -> tuple[int, int, int, bytes, bytes] | None:
    """Parameters, salt and digest; None for what is no hash or would cost too much to check."""
    if (match := _HASH.fullmatch(text)) is None:
        return None
    log_n, r, p = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= log_n <= _MAX_LOG_N and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P):
        return None
    try:
        return log_n, r, p, _padded(match[4]), _padded(match[5])
    except binascii.Error:
        return None


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, length: int) -> bytes:
    n = 1 << log_n
    memory = 128 * r * (n + p + 2)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory + 1024, dklen=length)


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")


def _padded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
