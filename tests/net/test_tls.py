import hashlib
import ssl
from pathlib import Path

import pytest

from masqmail.net.errors import TlsFailure
from masqmail.net.tls import (
    SessionCache,
    check_fingerprint,
    client_context,
    normal_fingerprint,
    server_context,
)
from masqmail.net.tlsengine import TlsEngine

DIGITS = hashlib.sha256(b"certificate").hexdigest()
COLONS = ":".join(DIGITS[at : at + 2] for at in range(0, 64, 2))


@pytest.mark.parametrize("text", [DIGITS, DIGITS.upper(), COLONS, f"sha256:{DIGITS}", f" SHA256:{COLONS.upper()} "])
def test_a_fingerprint_may_be_written_in_several_ways(text: str) -> None:
    assert normal_fingerprint(text) == DIGITS
    assert check_fingerprint(b"certificate", text)
    assert not check_fingerprint(b"another", text)
    assert not check_fingerprint(None, text)


@pytest.mark.parametrize("text", ["", DIGITS[:-1], DIGITS + "0", "sha1:" + DIGITS, DIGITS[:-1] + "g"])
def test_anything_else_is_no_fingerprint(text: str) -> None:
    with pytest.raises(TlsFailure, match="64 hexadecimal digits"):
        client_context(fingerprint=text or "?")


def test_a_missing_ca_file_is_a_failure_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(TlsFailure, match=r"ca\.pem: no such file"):
        client_context(ca_file=tmp_path / "ca.pem")


def test_a_ca_file_without_certificates_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(TlsFailure, match=r"ca\.pem: "):
        client_context(ca_file=tmp_path / "ca.pem")


def test_a_ca_file_replaces_the_store_of_the_system(ca_file: Path) -> None:
    assert client_context(ca_file=ca_file).cert_store_stats()["x509_ca"] == 1


def test_the_store_of_the_system_may_be_named_by_the_environment(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    assert client_context().cert_store_stats()["x509_ca"] == 1


def test_a_certificate_without_its_key_is_a_failure(ca_file: Path) -> None:
    with pytest.raises(TlsFailure, match=r"no certificate with its key can be read from .*ca\.pem"):
        server_context(ca_file)


def test_a_locked_key_is_a_failure_and_asks_nobody(certificate: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as pem

    key = pem.load_pem_private_key(certificate.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    encryption = pem.BestAvailableEncryption(b"unknown")
    locked.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, encryption))
    with pytest.raises(TlsFailure, match=r"locked\.pem"):
        server_context(certificate, locked)


@pytest.mark.parametrize("make", [client_context, lambda: client_context(verify=False)])
def test_tls_before_1_2_is_off(make) -> None:  # type: ignore[no-untyped-def]
    assert make().minimum_version is ssl.TLSVersion.TLSv1_2


def some_session(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> ssl.SSLSession:
    client = TlsEngine(client_tls, server_side=False, server_name="mail.example.org")
    server = TlsEngine(server_tls, server_side=True)
    client.start()
    for _ in range(3):
        server.receive(client.take_output())
        client.receive(server.take_output())
    assert client.session is not None
    return client.session


def test_a_session_is_found_for_its_next_hop_and_context_alone(
    client_tls: ssl.SSLContext, server_tls: ssl.SSLContext
) -> None:
    cache, session = SessionCache(), some_session(client_tls, server_tls)
    cache.store("mail.example.org:587", client_tls, session)
    assert cache.find("mail.example.org:587", client_tls) is session
    assert cache.find("mail.example.org:465", client_tls) is None
    assert cache.find("mail.example.org:587", client_context()) is None
    cache.forget("mail.example.org:587")
    assert cache.find("mail.example.org:587", client_tls) is None


def test_the_cache_is_bounded(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    cache, session = SessionCache(), some_session(client_tls, server_tls)
    for number in range(300):
        cache.store(f"mail{number}.example.org:25", client_tls, session)
    assert cache.find("mail0.example.org:25", client_tls) is None
    assert cache.find("mail299.example.org:25", client_tls) is session


def test_a_cache_that_is_off_keeps_nothing(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    cache = SessionCache(enabled=False)
    cache.store("mail.example.org:587", client_tls, some_session(client_tls, server_tls))
    assert cache.find("mail.example.org:587", client_tls) is None


def test_no_session_is_not_stored(client_tls: ssl.SSLContext) -> None:
    cache = SessionCache()
    cache.store("mail.example.org:587", client_tls, None)
    assert cache.find("mail.example.org:587", client_tls) is None
