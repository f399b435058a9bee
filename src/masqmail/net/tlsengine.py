"""One side of a TLS connection as a pure machine: bytes from the line in, bytes for the line out.

It stands between a stream and its transport. Asyncio's own TLS can neither resume a session nor keep plain
text that arrived before the handshake out of it.
"""

import ssl

from masqmail.net.errors import TlsFailure
from masqmail.net.tls import PinnedContext, TlsInfo, check_fingerprint

_RECORD_BYTES = 16384  # one TLS record at most, RFC 8446 §5.1


class TlsEngine:
    """Takes and gives both sides' bytes; raises `TlsFailure` with a reason for people, and is useless then.

    After each call whatever `take_output` returns must be sent, also after a failure: it is the alert.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str = "",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._context = context
        self._name = server_name.removesuffix(".")
        self.info: TlsInfo | None = None
        self.is_ended = False
        #: What stands behind the text that `receive` has returned last: to be raised when that was taken.
        self.failure: TlsFailure | None = None
        if context.check_hostname and not server_side and not self._name:
            raise TlsFailure("a certificate cannot be checked without a name")  # wrap_bio would not check it
        try:
            self._object = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_side,
                server_hostname=None if server_side else self._name or None,
                session=session,
            )
        except (ValueError, TypeError) as error:
            raise TlsFailure(f"{self._name!r} cannot be the name of a server") from error

    @property
    def is_established(self) -> bool:
        """Whether the handshake is done and both sides may send."""
        return self.info is not None

    @property
    def session(self) -> ssl.SSLSession | None:
        return self._object.session

    def start(self) -> None:
        """Begins the handshake; a client has something to send then."""
        self._shake_hands()

    def receive(self, data: bytes) -> bytes:
        """Bytes from the line in any slices; returns the plain text they complete."""
        self._incoming.write(data)
        if self.info is None:
            self._shake_hands()
            if self.info is None:
                return b""
        return self._read()

    def send(self, data: bytes) -> None:
        """Encrypts plain text."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._object.write(rest) :]
        except ssl.SSLError as error:
            raise TlsFailure(describe(error, self._name)) from error

    def take_output(self) -> bytes:
        """What has to go out on the line now."""
        return self._outgoing.read()

    def close(self) -> None:
        """Says goodbye (close_notify) without waiting for the other side's, RFC 8446 §6.1."""
        try:
            self._object.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # it still owes us its goodbye, or the handshake was never finished

    def _shake_hands(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise TlsFailure(describe(error, self._name)) from error
        certificate = self._object.getpeercert(binary_form=True)
        if isinstance(self._context, PinnedContext) and self._context.fingerprint:
            self._check_pin(certificate, self._context.fingerprint)
        cipher = self._object.cipher()
        self.info = TlsInfo(
            version=self._object.version() or "",
            cipher=cipher[0] if cipher else "",
            peer_certificate=certificate,
            is_resumed=bool(self._object.session_reused),
        )

    def _check_pin(self, certificate: bytes | None, fingerprint: str) -> None:
        if not check_fingerprint(certificate, fingerprint):
            raise TlsFailure("the server's certificate is not the one with the configured fingerprint")

    def _read(self) -> bytes:
        parts = []
        try:
            while not self.is_ended:
                if part := self._object.read(_RECORD_BYTES):
                    parts.append(part)
                else:
                    self.is_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        except ssl.SSLError as error:
            self.failure = TlsFailure(describe(error, self._name))
            if not parts:
                raise self.failure from error
        return parts[0] if len(parts) == 1 else b"".join(parts)


# X509_V_ERR_… of OpenSSL's x509_vfy.h
_VERIFICATION = {
    9: "the server's certificate is not valid yet; is the clock right?",
    10: "the server's certificate has expired; is the clock right?",
    18: "the server's certificate is signed by itself and not trusted",
    19: "the server's certificate comes from a CA that is not trusted",
    20: "the server's certificate comes from a CA that is not trusted",
    21: "the server's certificate comes from a CA that is not trusted",
    23: "the server's certificate was revoked",
}
_WRONG_NAME = frozenset({62, 64})  # host name and address mismatch

NOT_TLS = "the other side does not speak TLS here"
_VERSION = "the other side offers no TLS version that is safe (1.2 or later)"
_NOTHING_IN_COMMON = "the other side has no encryption in common with us"
_UNREADABLE = "the other side sent something that is damaged, or no TLS"
_REASONS = {
    "WRONG_VERSION_NUMBER": NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": NOT_TLS,
    "RECORD_TOO_SMALL": NOT_TLS,
    "BAD_RECORD_TYPE": NOT_TLS,
    "HTTP_REQUEST": NOT_TLS,
    "HTTPS_PROXY_REQUEST": NOT_TLS,
    "UNKNOWN_PROTOCOL": NOT_TLS,
    "UNSUPPORTED_PROTOCOL": _VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _VERSION,
    "NO_PROTOCOLS_AVAILABLE": _VERSION,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": _UNREADABLE,
    "RECORD_LAYER_FAILURE": _UNREADABLE,  # OpenSSL 3.5 says no more, whatever it was
    "NO_SHARED_CIPHER": _NOTHING_IN_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": _NOTHING_IN_COMMON,
    "TLSV1_ALERT_UNKNOWN_CA": "the other side does not trust our certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the other side does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the other side does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the other side says that our certificate has expired",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the other side wants a certificate from us",
}


def describe(error: ssl.SSLError | ssl.CertificateError, server_name: str) -> str:
    """What an error of OpenSSL means, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return f"the server's certificate was issued for another name than {server_name}"
        return _VERIFICATION.get(error.verify_code, f"the server's certificate is bad: {error.verify_message}")
    reason = getattr(error, "reason", None) or ""
    return _REASONS.get(reason) or f"TLS error: {(reason or str(error)).lower().replace('_', ' ')}"
