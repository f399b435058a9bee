"""SCRAM by the examples of its standards, and against servers that do not know the password."""

import subprocess
import sys

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto import sasl
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.scram import MAX_ITERATIONS, ScramClient, can_carry

#: Algorithm, nonce, the three messages of the example: RFC 5802 §5 and RFC 7677 §3, the password is "pencil".
EXAMPLES = [
    (
        "SCRAM-SHA-1",
        "fyko+d2lbbFgONRv9qkxdawL",
        b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        "SCRAM-SHA-256",
        "rOprNGfwEbeRWgbNEkqO",
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
]


@pytest.mark.parametrize(("mechanism", "nonce", "initial", "challenge", "proof", "final"), EXAMPLES)
def test_it_speaks_as_the_standard_shows(
    mechanism: str, nonce: str, initial: bytes, challenge: bytes, proof: bytes, final: bytes
) -> None:
    scram = ScramClient(mechanism, "user", "pencil", nonce=nonce)
    assert scram.initial() == initial
    assert scram.respond(challenge) == proof
    assert not scram.may_end, "the server has to prove itself first"
    assert scram.respond(final) == b""
    assert scram.may_end


MECHANISM, NONCE, _, CHALLENGE, _, FINAL = EXAMPLES[1]


def begun() -> ScramClient:
    scram = ScramClient(MECHANISM, "user", "pencil", nonce=NONCE)
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
        CHALLENGE.replace(b"4096", b"1024"),  # too few to be safe
        CHALLENGE.replace(b"4096", b"9" * 5000),
        CHALLENGE.replace(b"4096", b"4096,i=9000000"),
        CHALLENGE + b",i=9000000",
        CHALLENGE + b",x=\xff",
        b"e=other-error",
        b"m=what," + CHALLENGE,  # an extension that must be understood
    ],
)
def test_a_challenge_that_makes_no_sense_is_not_answered(challenge: bytes) -> None:
    with pytest.raises(PeerError):
        ScramClient(MECHANISM, "user", "pencil", nonce=NONCE).respond(challenge)


def test_rounds_beyond_all_reason_are_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def salted(*_: object) -> bytes:
        raise AssertionError("that would have taken seconds")

    monkeypatch.setattr("hashlib.pbkdf2_hmac", salted)
    scram = ScramClient(MECHANISM, "user", "pencil", nonce=NONCE)
    with pytest.raises(PeerError, match="1000001 rounds"):
        scram.respond(CHALLENGE.replace(b"4096", str(MAX_ITERATIONS + 1).encode()))


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
    assert ScramClient(MECHANISM, "user", "x").initial() != ScramClient(MECHANISM, "user", "x").initial()


def test_a_name_cannot_break_out_of_its_place() -> None:
    assert ScramClient("SCRAM-SHA-1", "a=b,c", "x", nonce="n").initial() == b"n,,n=a=3Db=2Cc,r=n"


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
def test_a_name_is_written_in_one_way(text: str, expected: str) -> None:
    """The examples of RFC 4013 §3, and others."""
    assert can_carry(text, text)
    assert ScramClient("SCRAM-SHA-1", text, "x", nonce="n").initial() == f"n,,n={expected},r=n".encode()


def test_passwords_that_are_written_alike_are_the_same() -> None:
    proofs = []
    for password in ("\u2168", "I\u00adX"):
        scram = ScramClient(MECHANISM, "user", password, nonce=NONCE)
        proofs.append(scram.respond(CHALLENGE))
    assert proofs[0] == proofs[1]


@pytest.mark.parametrize(
    ("username", "password"), [("", "x"), ("user", "a\u0007"), ("user", "\U0001f511"), ("\u0627\u0031", "x")]
)
def test_what_cannot_be_written_is_known_beforehand(username: str, password: str) -> None:
    """An empty name, a control character, an emoji, and the first of RFC 4013 §3 that is an error."""
    assert not can_carry(username, password)
    assert not sasl.is_usable("SCRAM-SHA-256", Credentials(username, Secret(password)))
    assert sasl.is_usable("PLAIN", Credentials(username, Secret(password)))
    with pytest.raises(ValueError):
        ScramClient(MECHANISM, username, password)


def test_an_ordinary_name_and_password_need_no_library_to_be_judged() -> None:
    script = (
        "import sys; from masqmail.proto.scram import can_carry; assert can_carry('ann', 'a b'); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"scramp", "asn1crypto"} & set(done.stdout.split())


@given(st.binary(max_size=60))
def test_whatever_a_server_says_only_a_breach_of_the_protocol_is_raised(data: bytes) -> None:
    for scram in (ScramClient("SCRAM-SHA-1", "user", "x", nonce="n"), begun()):
        try:
            scram.respond(data)
        except PeerError:
            pass
        assert not scram.may_end


@given(st.text(max_size=20), st.text(max_size=20))
def test_a_server_that_knows_the_password_is_met_half_way(username: str, password: str) -> None:
    credentials = Credentials(username, Secret(password))
    if not sasl.is_usable("SCRAM-SHA-256", credentials):
        return
    client = sasl.client_mechanism("SCRAM-SHA-256", credentials)
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    salt, stored_key, server_key, iterations = mechanism.make_auth_info(password, salt=b"salt and pepper")
    server = mechanism.make_server(lambda name: (salt, stored_key, server_key, iterations))
    server.set_client_first((client.initial() or b"").decode())
    server.set_client_final(client.respond(server.get_server_first().encode()).decode())
    assert client.respond(server.get_server_final().encode()) == b""
    assert client.may_end
