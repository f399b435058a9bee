"""SCRAM by the examples of its standards, and against servers that do not know the password."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto import sasl
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.scram import MAX_ITERATIONS, ScramClient, prepared

#: Algorithm, nonce, the three messages of the example: RFC 5802 §5 and RFC 7677 §3, the password is "pencil".
EXAMPLES = [
    (
        "sha1",
        "fyko+d2lbbFgONRv9qkxdawL",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        "sha256",
        "rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]


@pytest.mark.parametrize(("algorithm", "nonce", "initial", "challenge", "proof", "final"), EXAMPLES)
def test_it_speaks_as_the_standard_shows(
    algorithm: str, nonce: str, initial: bytes, challenge: bytes, proof: bytes, final: bytes
) -> None:
    scram = ScramClient(algorithm, "user", "pencil", nonce=nonce)
    assert scram.initial() == initial
    assert scram.respond(challenge) == proof
    assert not scram.may_end, "the server has to prove itself first"
    assert scram.respond(final) == b""
    assert scram.may_end


ALGORITHM, NONCE, _, CHALLENGE, _, FINAL = EXAMPLES[1]


def begun() -> ScramClient:
    scram = ScramClient(ALGORITHM, "user", "pencil", nonce=NONCE)
    scram.respond(CHALLENGE)
    return scram


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"r=",
        b"r=somebody else's,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        CHALLENGE.replace(b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", b""),  # nothing of the server's own
        CHALLENGE.replace(b"4096", b"0"),
        CHALLENGE.replace(b"4096", str(MAX_ITERATIONS + 1).encode()),
        CHALLENGE.replace(b"s=W22Z", b"s=W2!Z"),
        CHALLENGE.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=W22"),
        b"m=what," + CHALLENGE,  # an extension that must be understood
    ],
)
def test_a_challenge_that_makes_no_sense_is_not_answered(challenge: bytes) -> None:
    with pytest.raises(PeerError):
        ScramClient(ALGORITHM, "user", "pencil", nonce=NONCE).respond(challenge)


@pytest.mark.parametrize("final", [b"", b"v=", b"v=AAAA", FINAL.replace(b"6rri", b"7rri"), b"w=6rri", b"v=!!!!"])
def test_a_server_that_does_not_know_the_password_is_not_believed(final: bytes) -> None:
    scram = begun()
    with pytest.raises(PeerError):
        scram.respond(final)
    assert not scram.may_end


def test_an_error_of_the_server_is_answered_so_that_its_refusal_can_follow() -> None:
    scram = begun()
    assert scram.respond(b"e=invalid-proof") == b""
    assert not scram.may_end


def test_nothing_follows_the_proof() -> None:
    scram = begun()
    scram.respond(FINAL)
    with pytest.raises(PeerError):
        scram.respond(b"")


def test_two_logins_never_look_alike() -> None:
    assert ScramClient(ALGORITHM, "user", "x").initial() != ScramClient(ALGORITHM, "user", "x").initial()


def test_a_name_cannot_break_out_of_its_place() -> None:
    assert ScramClient("sha1", "a=b,c", "x", nonce="n").initial() == b"n,,n=a=3Db=2Cc,r=n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pencil", "pencil"),
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("süß", "süß"),
    ],
)
def test_a_password_is_written_in_one_way(text: str, expected: str) -> None:
    """The examples of RFC 4013 §3, and others."""
    assert prepared(text) == expected


@given(st.binary(max_size=60))
def test_whatever_a_server_says_only_a_breach_of_the_protocol_is_raised(data: bytes) -> None:
    for scram in (ScramClient("sha1", "user", "x", nonce="n"), begun()):
        try:
            scram.respond(data)
        except PeerError:
            pass
        assert not scram.may_end


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_server_that_knows_the_password_is_met_half_way(username: str, password: str) -> None:
    scram = sasl.client_mechanism("SCRAM-SHA-256", Credentials(username, Secret(password)))
    first = (scram.initial() or b"").removeprefix(b"n,,")
    challenge = b"r=" + first.rpartition(b"r=")[2] + b"more,s=c2FsdA==,i=1"
    without, _, proof = scram.respond(challenge).rpartition(b",p=")
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), b"salt", 1)
    message = b",".join((first, challenge, without))
    key = hmac.digest(salted, b"Client Key", "sha256")
    mask = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
    assert bytes(a ^ b for a, b in zip(base64.b64decode(proof), mask, strict=True)) == key
    signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
    assert scram.respond(b"v=" + base64.b64encode(signature)) == b""
    assert scram.may_end
