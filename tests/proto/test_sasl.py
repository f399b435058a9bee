"""Mechanisms say and understand the bytes of their specifications; passwords are hashed and never shown."""

import pytest

from masqmail.proto import sasl
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import CLIENT_MECHANISMS, SERVER_MECHANISMS, TOKEN_MECHANISMS, Credentials, Secret

TIM = Credentials("tim", Secret("tanstaaftanstaaf"))


def test_plain_says_all_at_once() -> None:
    """The example of RFC 4616 §4."""
    assert sasl.client_mechanism("PLAIN", TIM).initial() == b"\0tim\0tanstaaftanstaaf"


def test_login_says_the_name_then_the_password() -> None:
    login = sasl.client_mechanism("LOGIN", TIM)
    assert login.initial() is None
    assert [login.respond(b"Username:"), login.respond(b"Password:")] == [b"tim", b"tanstaaftanstaaf"]


def test_cram_md5_answers_the_challenge() -> None:
    """The example of RFC 2195 §2."""
    cram = sasl.client_mechanism("CRAM-MD5", TIM)
    assert cram.initial() is None
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert cram.respond(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"


@pytest.mark.parametrize(("name", "challenges"), [("PLAIN", 0), ("LOGIN", 2)])
def test_a_mechanism_has_nothing_to_say_to_one_challenge_too_many(name: str, challenges: int) -> None:
    mechanism = sasl.client_mechanism(name, TIM)
    for _ in range(challenges):
        mechanism.respond(b"")
    with pytest.raises(PeerError):
        mechanism.respond(b"")


@pytest.mark.parametrize("name", sorted(CLIENT_MECHANISMS.keys() & SERVER_MECHANISMS.keys()))
def test_our_server_understands_our_client(name: str) -> None:
    client = sasl.client_mechanism(name, Credentials("jörg", Secret("süß")))
    server = sasl.server_mechanism(name)
    answer = server.respond(client.initial())
    while isinstance(answer, bytes):
        answer = server.respond(client.respond(answer))
    assert (answer.username, answer.password.reveal()) == ("jörg", "süß")


@pytest.mark.parametrize(
    ("password", "said", "shown"),
    [
        ("s3cret", "no s3cret, tim", "no (hidden), tim"),
        ("s3cret", "No 's3cret' here: s3cret", "No '(hidden)' here: (hidden)"),
        ("s3cret", "bad: czNjcmV0", "bad: (hidden)"),
        ("s3cret", "AUTH PLAIN AHRpbQBzM2NyZXQ=?", "AUTH PLAIN (hidden)?"),
        ("s3cret", "AHRpbQBzM2NyZXQ without its end", "(hidden) without its end"),
        ('a"b\\c', 'BAD LOGIN "tim" "a\\"b\\\\c"', 'BAD LOGIN "tim" "(hidden)"'),
        ("süß!", "kein süß!", "kein (hidden)"),
        (".*.*", "wrong user name or password", "wrong user name or password"),
        ("pas", "wrong user name or password", "(hidden)"),
        ("a", "no", "no"),
        ("", "no password", "no password"),
    ],
)
def test_a_password_that_a_server_repeats_is_concealed(password: str, said: str, shown: str) -> None:
    credentials = Credentials("tim", Secret(password))
    assert credentials.conceal(said) == shown
    assert credentials.conceal_line(said.encode()) == shown.encode()


@pytest.mark.parametrize("name", sorted(TOKEN_MECHANISMS))
def test_a_token_that_a_server_repeats_is_concealed(name: str) -> None:
    initial = sasl.client_mechanism(name, TIM).initial()
    assert initial is not None
    assert TIM.conceal(f"no {sasl.encode(initial).decode()} here") == "no (hidden) here"


def test_a_line_of_a_trace_keeps_its_other_bytes() -> None:
    assert TIM.conceal_line(b"\xff tanstaaftanstaaf \0") == b"\xff (hidden) \0"


def test_plain_without_initial_response_gets_an_empty_challenge() -> None:
    server = sasl.server_mechanism("PLAIN")
    assert server.respond(None) == b""
    assert server.respond(b"\0tim\0x") == Credentials("tim", Secret("x"))


@pytest.mark.parametrize("response", [b"", b"tim", b"\0tim", b"\0\0x", b"\0tim\0", b"\0t\0x\0y", b"\0\xff\0x"])
def test_a_malformed_plain_response_is_a_bad_argument(response: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        sasl.server_mechanism("PLAIN").respond(response)
    assert caught.value.status.code == 501


def test_plain_does_not_let_one_user_act_for_another() -> None:
    with pytest.raises(PeerError) as caught:
        sasl.server_mechanism("PLAIN").respond(b"root\0tim\0x")
    assert caught.value.status.code == 535


def test_plain_lets_a_user_name_himself_twice() -> None:
    assert sasl.server_mechanism("PLAIN").respond(b"tim\0tim\0x") == Credentials("tim", Secret("x"))


@pytest.mark.parametrize("response", [b"", b"\xff", b"ti\0m"])
def test_a_malformed_login_response_is_a_bad_argument(response: bytes) -> None:
    with pytest.raises(PeerError):
        sasl.server_mechanism("LOGIN").respond(response)


@pytest.mark.parametrize(("data", "text"), [(b"", b"="), (b"\0a\0b", b"AGEAYg==")])
def test_an_initial_response_is_base64_and_an_empty_one_is_a_sign(data: bytes, text: bytes) -> None:
    assert sasl.encode_initial(data) == text
    assert sasl.decode_initial(text) == data


@pytest.mark.parametrize("text", [b"=", b"AGE", b"A GE=", b"\xff\xff\xff\xff", b"*"])
def test_what_is_no_base64_is_a_bad_argument(text: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        sasl.decode(text)
    assert caught.value.status.code == 501


def test_a_secret_shows_itself_to_nobody() -> None:
    credentials = Credentials("tim", Secret("sesame"))
    assert "sesame" not in f"{credentials} {credentials!r} {credentials.password}"
    assert credentials.password.reveal() == "sesame"


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") and not Secret("")


#: The second test vector of RFC 7914 §12: password "password", salt "NaCl".
VECTOR = (
    "$scrypt$ln=10,r=8,p=16$TmFDbA$"
    "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
)


def test_a_hash_made_elsewhere_is_verified() -> None:
    assert sasl.verify_password(VECTOR, "password")
    assert not sasl.verify_password(VECTOR, "Password")


@pytest.mark.slow
def test_a_hash_of_ours_is_verified() -> None:
    password_hash = sasl.hash_password("süß")
    assert "süß" not in password_hash and ":" not in password_hash
    assert sasl.verify_password(password_hash, "süß")
    assert not sasl.verify_password(password_hash, "süss")
    assert sasl.hash_password("süß") != password_hash, "each hash has its own salt"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sesame",
        "$scrypt$ln=31,r=8,p=1$TmFDbA$TmFDbA",
        "$scrypt$ln=10,r=99,p=1$TmFDbA$TmFDbA",
        "$scrypt$ln=10,r=8,p=99$TmFDbA$TmFDbA",
        "$scrypt$ln=0,r=8,p=1$TmFDbA$TmFDbA",
        "$scrypt$ln=10,r=8,p=1$TmFDb$A",
        "$6$salt$hash",
    ],
)
def test_what_is_no_hash_or_costs_too_much_verifies_nobody(text: str) -> None:
    assert not sasl.verify_password(text, "sesame")
