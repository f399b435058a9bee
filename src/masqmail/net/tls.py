"""TLS contexts and what is known of a TLS connection: who we believe, what we show, which sessions we resume.

TLS 1.2 and later only (RFC 8996). A client either verifies (the system's store, a CA file, or one pinned
certificate) or is opportunistic and takes any certificate (RFC 7435).
"""

import hashlib
import hmac
import re
import ssl
from collections import OrderedDict
from pathlib import Path

from masqmail.frozen import frozen
from masqmail.net.errors import TlsFailure

_MAX_SESSIONS = 256
_SHA256 = re.compile(r"[0-9a-f]{64}")


@frozen
class TlsInfo:
    """What was agreed: `version` such as "TLSv1.3", and the peer's certificate in DER where it showed one."""

    version: str
    cipher: str
    peer_certificate: bytes | None = None
    is_resumed: bool = False


class PinnedContext(ssl.SSLContext):
    """A client context that believes one certificate and nothing else; the handshake checks it."""

    fingerprint: str = ""


def client_context(*, verify: bool = True, ca_file: Path | None = None, fingerprint: str = "") -> ssl.SSLContext:
    """A context for connections to others.

    By default the certificate must be issued for the name, by a CA of the system's store (OpenSSL's default
    paths, which SSL_CERT_FILE and SSL_CERT_DIR override) or of `ca_file` alone. A `fingerprint` replaces both
    checks. Without `verify` any certificate will do. Raises `TlsFailure` for an unusable file or fingerprint.
    """
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if fingerprint:
        context.fingerprint = normal_fingerprint(fingerprint)
    if fingerprint or not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file:
        try:
            context.load_verify_locations(cafile=str(ca_file))
        except OSError as error:  # an ssl.SSLError is one
            raise TlsFailure(f"no CA certificates can be read from {ca_file}: {_reason(error)}") from error
    else:
        context.set_default_verify_paths()
    return context


def server_context(certificate: Path, private_key: Path | None = None) -> ssl.SSLContext:
    """A context for clients of ours, with a certificate chain and its key (which may be in the same file).

    Raises `TlsFailure` when they cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    try:
        context.load_cert_chain(certificate, private_key, password=lambda: "")  # never ask on a terminal
    except OSError as error:
        files = f"{certificate} and {private_key}" if private_key else f"{certificate}"
        raise TlsFailure(f"no certificate with its key can be read from {files}: {_reason(error)}") from error
    return context


def normal_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 hexadecimal digits; colons and a leading `sha256:` are optional.

    Raises `TlsFailure` for anything else.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not _SHA256.fullmatch(digits):
        raise TlsFailure("a fingerprint is the SHA-256 of a certificate: 64 hexadecimal digits")
    return digits


def check_fingerprint(certificate: bytes | None, fingerprint: str) -> bool:
    """Whether a certificate in DER has this fingerprint."""
    if certificate is None:
        return False
    return hmac.compare_digest(hashlib.sha256(certificate).hexdigest(), normal_fingerprint(fingerprint))


class SessionCache:
    """The last TLS session with each next hop, so that the next connection costs less of a slow line.

    A session is given back only for the context it was made with, as its certificate is not verified again.
    It must be stored late in a connection: TLS 1.3 sends its tickets behind the handshake (RFC 8446 §4.6.1).
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._capacity = _MAX_SESSIONS if enabled else 0
        self._sessions: OrderedDict[str, tuple[ssl.SSLContext, ssl.SSLSession]] = OrderedDict()

    def find(self, next_hop: str, context: ssl.SSLContext) -> ssl.SSLSession | None:
        """The session to offer to a next hop (`str(HostPort)`), if there is one."""
        known = self._sessions.get(next_hop)
        return known[1] if known and known[0] is context else None

    def store(self, next_hop: str, context: ssl.SSLContext, session: ssl.SSLSession | None) -> None:
        """Keeps a session that can be resumed; harmless with any other."""
        if session is None or not (session.has_ticket or session.id):
            return
        self._sessions[next_hop] = (context, session)
        self._sessions.move_to_end(next_hop)
        while len(self._sessions) > self._capacity:
            self._sessions.popitem(last=False)

    def forget(self, next_hop: str) -> None:
        """Drops the session of a next hop, for example after a failed handshake."""
        self._sessions.pop(next_hop, None)


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM in it").lower().replace("_", " ")
    return (error.strerror or str(error)).lower()
