"""Two TLS engines back to back, without any line between them."""

import ssl
from pathlib import Path

import pytest
import trustme

from masqmail.net.errors import TlsFailure
from masqmail.net.tls import client_context, server_context
from masqmail.net.tlsengine import TlsEngine

NAME = "mail.example.org"


def shake_hands(client: TlsEngine, server: TlsEngine, slice_bytes: int = 1 << 20) -> None:
    """Carries bytes to and fro, in slices of this size, until neither side has any more."""
    client.start()
    while carry(client, server, slice_bytes) + carry(server, client, slice_bytes):
        pass


def carry(source: TlsEngine, target: TlsEngine, slice_bytes: int) -> int:
    output = source.take_output()
    for start in range(0, len(output), slice_bytes):
        assert target.receive(output[start : start + slice_bytes]) == b""
    return len(output)


def engines(
    client_tls: ssl.SSLContext,
    server_tls: ssl.SSLContext,
    name: str = NAME,
    session: ssl.SSLSession | None = None,
) -> tuple[TlsEngine, TlsEngine]:
    client = TlsEngine(client_tls, server_side=False, server_name=name, session=session)
    return client, TlsEngine(server_tls, server_side=True)


@pytest.mark.parametrize("slice_bytes", [1, 7, 1 << 20])
def test_records_may_be_sliced_anywhere(
    client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, slice_bytes: int
) -> None:
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server, slice_bytes)
    assert client.is_established and server.is_established
    client.send(b"EHLO laptop.example.net\r\n")
    output = client.take_output()
    plain = [server.receive(output[at : at + slice_bytes]) for at in range(0, len(output), slice_bytes)]
    assert b"".join(plain) == b"EHLO laptop.example.net\r\n"


def test_many_records_at_once_come_out_whole(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server)
    client.send(bytes(100_000))
    assert server.receive(client.take_output()) == bytes(100_000)


def test_both_sides_know_what_was_agreed(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server)
    assert client.info is not None and server.info is not None
    assert client.info.version == server.info.version == "TLSv1.3"
    assert client.info.cipher == server.info.cipher != ""
    assert client.info.peer_certificate
    assert server.info.peer_certificate is None


def test_a_goodbye_ends_the_other_side(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server)
    client.send(b"QUIT\r\n")
    client.close()
    assert server.receive(client.take_output()) == b"QUIT\r\n"
    assert server.is_ended


def test_a_damaged_record_is_a_failure(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server)
    client.send(b"MAIL FROM:<>\r\n")
    damaged = bytearray(client.take_output())
    damaged[-1] ^= 1
    with pytest.raises(TlsFailure, match="the other side sent something that is damaged, or no TLS"):
        server.receive(bytes(damaged))


def failure_of_client(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, name: str = NAME) -> str:
    client, server = engines(client_tls, server_tls, name)
    with pytest.raises(TlsFailure) as raised:
        shake_hands(client, server)
    assert not client.is_established
    return raised.value.reason


def test_a_certificate_for_another_name_is_refused(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    reason = failure_of_client(client_tls, server_tls, "mail.example.net")
    assert reason == "the server's certificate was issued for another name than mail.example.net"


def test_a_certificate_may_be_for_an_address(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    shake_hands(*engines(client_tls, server_tls, "127.0.0.1"))
    assert "another name than 127.0.0.2" in failure_of_client(client_tls, server_tls, "127.0.0.2")


def test_a_dot_at_the_end_of_the_name_does_not_matter(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_tls, server_tls, NAME + ".")
    shake_hands(client, server)
    assert client.is_established


def test_a_certificate_of_an_unknown_ca_is_refused(server_tls: ssl.SSLContext) -> None:
    assert "comes from a CA that is not trusted" in failure_of_client(client_context(), server_tls)


def test_an_expired_certificate_is_refused(authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    path = tmp_path / "expired.pem"
    expired = authority.issue_cert(NAME, not_before=datetime(2001, 1, 1, tzinfo=UTC), not_after=datetime(2002, 1, 1))
    expired.private_key_and_cert_chain_pem.write_to_path(str(path))
    assert failure_of_client(client_tls, server_context(path)).startswith("the server's certificate has expired")


def test_an_old_version_of_tls_is_refused(client_tls: ssl.SSLContext, server_tls: ssl.SSLContext) -> None:
    client_tls.minimum_version = ssl.TLSVersion.TLSv1_3
    server_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "no TLS version that is safe" in failure_of_client(client_tls, server_tls)


@pytest.mark.parametrize(
    "answer", [b"220 mail.example.org ESMTP\r\n", b"HTTP/1.0 400 Bad Request\r\n\r\n", bytes(64)]
)
def test_a_peer_without_tls_is_recognised(client_tls: ssl.SSLContext, answer: bytes) -> None:
    client = TlsEngine(client_tls, server_side=False, server_name=NAME)
    client.start()
    with pytest.raises(TlsFailure, match="does not speak TLS"):
        client.receive(answer)


def test_a_verified_connection_needs_a_name(client_tls: ssl.SSLContext) -> None:
    with pytest.raises(TlsFailure, match="cannot be checked without a name"):
        TlsEngine(client_tls, server_side=False)


@pytest.mark.parametrize(
    "name", [".example.org", "mail..example.org", "a" * 64 + ".example.org", "mail\0.example.org"]
)
def test_a_name_that_cannot_be_one_is_a_failure(name: str) -> None:
    with pytest.raises(TlsFailure, match="cannot be the name of a server"):
        TlsEngine(client_context(verify=False), server_side=False, server_name=name)


def test_any_certificate_will_do_without_verification(server_tls: ssl.SSLContext) -> None:
    client, server = engines(client_context(verify=False), server_tls, "some.other.name")
    shake_hands(client, server)
    assert client.is_established


def test_a_fingerprint_replaces_ca_and_name(server_tls: ssl.SSLContext) -> None:
    import hashlib

    client, server = engines(client_context(verify=False), server_tls)
    shake_hands(client, server)
    assert client.info is not None and client.info.peer_certificate is not None
    fingerprint = hashlib.sha256(client.info.peer_certificate).hexdigest()
    client, server = engines(client_context(fingerprint=fingerprint), server_tls, "some.other.name")
    shake_hands(client, server)
    assert client.is_established
    assert "not the one with the configured fingerprint" in failure_of_client(
        client_context(fingerprint="0" * 64), server_tls
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(
    client_tls: ssl.SSLContext, server_tls: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client_tls.maximum_version = version
    client, server = engines(client_tls, server_tls)
    shake_hands(client, server)
    assert client.info is not None and not client.info.is_resumed
    client, server = engines(client_tls, server_tls, session=client.session)
    shake_hands(client, server)
    assert client.info is not None and client.info.is_resumed
    assert server.info is not None and server.info.is_resumed
    assert client.info.peer_certificate
