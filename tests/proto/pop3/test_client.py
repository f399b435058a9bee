"""Dialogues with a POP3 server, as bytes: what we say, and what we make of its answers."""

import base64
import hmac
from dataclasses import replace
from hashlib import md5
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.outcome import Culprit
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.lines import MAX_RECEIVED_LINE_BYTES as MAX_LINE_BYTES
from masqmail.proto.pop3.client import Client
from masqmail.proto.pop3.reply import MAX_LISTED_LINES
from masqmail.proto.pop3.session import (
    REPLY_TIMES,
    ClientOptions,
    Ended,
    Event,
    Phase,
    Quitted,
    Ready,
    Stls,
    TlsWanted,
)
from masqmail.proto.sasl import Credentials, Secret

ANN = Credentials("ann", Secret("sesame"))
TLS = ClientOptions(ANN, tls_is_on=True)
CLEAR = ClientOptions(ANN, stls=Stls.NEVER, clear_password=True)
STLS = ClientOptions(ANN)

TIMESTAMP = b"<1896.697170952@pop.example>"
HELLO = b"+OK Welcome " + TIMESTAMP
PLAIN = base64.b64encode(b"\0ann\0sesame")
APOP = b"APOP ann " + md5(TIMESTAMP + b"sesame").hexdigest().encode()
PASS = [b"USER ann", b"PASS sesame"]
SESSION, LOGIN, NO_TLS = Culprit.SESSION, Culprit.LOGIN, Culprit.TLS


def capa(*lines: bytes) -> bytes:
    return b"\r\n".join((b"+OK", *lines, b"."))


class Found(NamedTuple):
    """The end of a dialogue: what was said, and what happened."""

    said: list[bytes]
    events: list[Event]

    @property
    def end(self) -> Event:
        return self.events[-1]


def talk(options: ClientOptions, *answers: bytes, slice_bytes: int = 0) -> Found:
    """Lets a server give these answers, each when it is due. TLS starts as soon as it is wanted."""
    client = Client(options)
    said: list[bytes] = []
    events: list[Event] = []
    for answer in answers:
        data = answer + b"\r\n"
        step = slice_bytes or len(data)
        for start in range(0, len(data), step):
            client.receive(data[start : start + step])
            while (event := client.next_event()) is not None:
                events.append(event)
                if isinstance(event, TlsWanted):
                    client.tls_started()
        said += client.data_to_send().split(b"\r\n")[:-1]
    return Found(said, events)


# --- logging in

GOOD: list[tuple[str, ClientOptions, list[bytes], list[bytes]]] = [
    ("a server without CAPA", TLS, [b"+OK", b"-ERR What?", b"+OK", b"+OK 3 messages"], [b"CAPA", *PASS]),
    ("USER and PASS", TLS, [b"+OK", capa(b"USER", b"UIDL"), b"+OK", b"+OK"], [b"CAPA", *PASS]),
    ("neither USER nor SASL", TLS, [b"+OK", capa(b"UIDL"), b"+OK", b"+OK"], [b"CAPA", *PASS]),
    ("PLAIN in one line", TLS, [b"+OK", capa(b"USER", b"SASL PLAIN"), b"+OK"], [b"CAPA", b"AUTH PLAIN " + PLAIN]),
    ("words in any case", TLS, [b"+OK", capa(b"sasl plain"), b"+OK"], [b"CAPA", b"AUTH PLAIN " + PLAIN]),
    (
        "LOGIN",
        replace(TLS, ways=("LOGIN",)),
        [b"+OK", capa(b"SASL LOGIN"), b"+ VXNlcm5hbWU6", b"+", b"+OK"],
        [b"CAPA", b"AUTH LOGIN", base64.b64encode(b"ann"), base64.b64encode(b"sesame")],
    ),
    (
        "CRAM-MD5 before a password in clear",
        CLEAR,
        [b"+OK", capa(b"USER", b"SASL PLAIN CRAM-MD5"), b"+ " + base64.b64encode(TIMESTAMP), b"+OK"],
        [
            b"CAPA",
            b"AUTH CRAM-MD5",
            base64.b64encode(b"ann " + hmac.new(b"sesame", TIMESTAMP, "md5").hexdigest().encode()),
        ],
    ),
    ("APOP before a password in clear", CLEAR, [HELLO, b"-ERR", b"+OK"], [b"CAPA", APOP]),
    ("APOP when told so", replace(TLS, ways=("APOP",)), [HELLO, capa(b"SASL PLAIN"), b"+OK"], [b"CAPA", APOP]),
    (
        "STLS, and what was said before it forgotten",
        STLS,
        [b"+OK", capa(b"STLS", b"SASL LOGIN"), b"+OK Begin", capa(b"SASL PLAIN"), b"+OK"],
        [b"CAPA", b"STLS", b"CAPA", b"AUTH PLAIN " + PLAIN],
    ),
    (
        "a way that is refused before the password was shown",
        replace(TLS, ways=("CRAM-MD5", "PLAIN")),
        [b"+OK", capa(b"SASL PLAIN CRAM-MD5"), b"-ERR not today", b"+OK"],
        [b"CAPA", b"AUTH CRAM-MD5", b"AUTH PLAIN " + PLAIN],
    ),
    (
        "a password too long for the command",
        replace(TLS, credentials=Credentials("ann", Secret("x" * 200))),
        [b"+OK", capa(b"SASL PLAIN"), b"+ ", b"+OK"],
        [b"CAPA", b"AUTH PLAIN", base64.b64encode(b"\0ann\0" + b"x" * 200)],
    ),
]


@pytest.mark.parametrize("slice_bytes", [0, 1])
@pytest.mark.parametrize(("options", "answers", "said"), [row[1:] for row in GOOD], ids=[row[0] for row in GOOD])
def test_it_logs_in(options: ClientOptions, answers: list[bytes], said: list[bytes], slice_bytes: int) -> None:
    found = talk(options, *answers, slice_bytes=slice_bytes)
    assert found.said == said
    assert found.end == Ready()


def test_scram_lets_the_server_prove_itself() -> None:
    """The example of RFC 7677 §3, whose nonce is not ours: so only the shape is compared."""
    client = Client(replace(TLS, ways=("SCRAM-SHA-256", "PLAIN")))
    client.receive(b"+OK\r\n" + capa(b"SASL SCRAM-SHA-256 PLAIN") + b"\r\n")
    assert client.next_event() is None
    said = client.data_to_send().split(b"\r\n")[-2]
    verb, name, initial = said.split(b" ")
    assert (verb, name) == (b"AUTH", b"SCRAM-SHA-256")
    nonce = base64.b64decode(initial).rpartition(b"r=")[2]
    challenge = base64.b64encode(b"r=" + nonce + b"x,s=c2FsdCBhbmQgcGVwcGVy,i=4096")
    client.receive(b"+ " + challenge + b"\r\n")
    assert client.next_event() is None
    assert base64.b64decode(client.data_to_send()).startswith(b"c=biws,r=" + nonce + b"x,p=")
    client.receive(b"+OK Welcome\r\n")
    assert client.next_event() == Ended(
        LOGIN, "spoiled the login: a welcome from a server that has not proved to know the password"
    )


def test_a_password_that_scram_cannot_carry_goes_another_way() -> None:
    key = Credentials("ann", Secret("\U0001f511"))
    found = talk(
        replace(TLS, credentials=key, ways=("SCRAM-SHA-256", "PLAIN")), b"+OK", capa(b"SASL SCRAM-SHA-256 PLAIN")
    )
    assert found.said[-1].startswith(b"AUTH PLAIN ")


@pytest.mark.parametrize("way", ["OAUTHBEARER", "XOAUTH2"])
def test_a_token_that_is_refused_gets_its_reason(way: str) -> None:
    token = replace(TLS, ways=(way,))
    found = talk(
        token, b"+OK", capa(b"SASL PLAIN " + way.encode()), b"+ eyJzdGF0dXMiOiI0MDEifQ==", b"-ERR [AUTH] expired"
    )
    assert found.said[-1] in (b"AQ==", b"")
    assert b"\x01auth=Bearer sesame\x01" in base64.b64decode(found.said[1].split(b" ")[2])
    assert found.end == Ended(LOGIN, "refused the login of ann: [AUTH] expired")


def test_a_token_is_shown_only_to_who_may_have_one() -> None:
    offers = capa(b"SASL XOAUTH2 OAUTHBEARER")
    found = talk(TLS, b"+OK", offers)
    assert found.said == [b"CAPA"]
    assert found.end == Ended(LOGIN, "offers no login that we can use (offered: XOAUTH2 OAUTHBEARER)")


# --- and not


UP_TO_PASS = [b"+OK", b"-ERR", b"+OK"]

BAD: list[tuple[ClientOptions, list[bytes], Culprit, str]] = [
    (TLS, [b"-ERR Go away"], SESSION, "refused the session: Go away"),
    (TLS, [*UP_TO_PASS, b"-ERR Wrong"], LOGIN, "refused the login of ann: Wrong"),
    (TLS, [*UP_TO_PASS, b"-ERR"], LOGIN, "refused the login of ann: -ERR"),
    (TLS, [*UP_TO_PASS, b"-ERR No sesame"], LOGIN, "refused the login of ann: No (hidden)"),
    (TLS, [*UP_TO_PASS, b"-ERR [SYS] No sesame"], SESSION, "cannot log ann in now: [SYS] No (hidden)"),
    (TLS, [*UP_TO_PASS, b"-ERR [AUTH] No"], LOGIN, "refused the login of ann: [AUTH] No"),
    (TLS, [*UP_TO_PASS, b"-ERR [UTF8] No"], LOGIN, "refused the login of ann: [UTF8] No"),
    (TLS, [*UP_TO_PASS, b"-ERR [IN-USE] Busy"], SESSION, "cannot log ann in now: [IN-USE] Busy"),
    (TLS, [*UP_TO_PASS, b"-ERR [in-use] Busy"], SESSION, "cannot log ann in now: [IN-USE] Busy"),
    (TLS, [*UP_TO_PASS, b"-ERR [LOGIN-DELAY]"], SESSION, "cannot log ann in now: [LOGIN-DELAY]"),
    (TLS, [*UP_TO_PASS, b"-ERR [SYS/TEMP] Disk"], SESSION, "cannot log ann in now: [SYS/TEMP] Disk"),
    (TLS, [*UP_TO_PASS, b"-ERR [SYS/PERM] Disk"], SESSION, "cannot log ann in now: [SYS/PERM] Disk"),
    (TLS, [b"+OK", b"-ERR", b"-ERR [SYS/TEMP] Disk"], SESSION, "cannot log ann in now: [SYS/TEMP] Disk"),
    (STLS, [b"+OK", b"-ERR"], NO_TLS, "does not offer STLS"),
    (STLS, [b"+OK", capa(b"STLS"), b"-ERR Broken"], NO_TLS, "refused to start TLS: Broken"),
    (
        replace(STLS, stls=Stls.IF_OFFERED),
        [b"+OK", capa(b"STLS"), b"-ERR Broken"],
        LOGIN,
        "would get the password in clear, because there is no TLS",
    ),
    (
        replace(CLEAR, clear_password=False),
        [HELLO, b"-ERR"],
        LOGIN,
        "would get the password in clear, because there is no TLS",
    ),
    (
        replace(TLS, ways=("CRAM-MD5",)),
        [b"+OK", capa(b"SASL PLAIN")],
        LOGIN,
        "offers no login that we can use (offered: PLAIN)",
    ),
    (
        replace(TLS, ways=("CRAM-MD5",)),
        [b"+OK", capa(b"SASL CRAM-MD5"), b"-ERR not today"],
        LOGIN,
        "refused the login of ann: not today",
    ),
    (
        replace(CLEAR, ways=("APOP",)),
        [b"+OK Hi", b"-ERR"],
        LOGIN,
        "offers no login that we can use (offered: USER)",
    ),
    (
        replace(CLEAR, ways=("PLAIN",)),
        [b"+OK", capa(b"SASL PLAIN"), b"+", b"+OK"],
        LOGIN,
        "spoiled the login: PLAIN has no challenges",
    ),
    (
        replace(CLEAR, ways=("CRAM-MD5",)),
        [b"+OK", capa(b"SASL CRAM-MD5"), b"+ !"],
        LOGIN,
        "spoiled the login: The response is not valid base64",
    ),
    (
        replace(CLEAR, ways=("CRAM-MD5",)),
        [b"+OK", capa(b"SASL CRAM-MD5"), *[b"+ YQ=="] * 4],
        LOGIN,
        "spoiled the login: a challenge that nobody asked for",
    ),
    (TLS, [*UP_TO_PASS, b"+ YQ=="], LOGIN, "spoiled the login: a challenge that nobody asked for"),
    (
        replace(TLS, credentials=Credentials("ann", Secret("a\r\nDELE 1"))),
        [b"+OK", b"-ERR"],
        LOGIN,
        "cannot be told a name or password with an end of line in it",
    ),
]


@pytest.mark.parametrize(("options", "answers", "culprit", "reason"), BAD, ids=[row[3] for row in BAD])
def test_it_ends_with_a_reason(options: ClientOptions, answers: list[bytes], culprit: Culprit, reason: str) -> None:
    assert talk(options, *answers).end == Ended(culprit, reason)


def test_a_password_that_was_refused_is_not_tried_another_way() -> None:
    found = talk(TLS, b"+OK", capa(b"USER", b"SASL PLAIN LOGIN"), b"-ERR Wrong")
    assert found.said == [b"CAPA", b"AUTH PLAIN " + PLAIN]
    assert isinstance(found.end, Ended)


def test_no_password_is_shown_to_who_offers_no_tls() -> None:
    assert talk(STLS, HELLO, capa(b"USER", b"SASL PLAIN CRAM-MD5")).said == [b"CAPA"]


WEAK = [
    b"<>",
    b"<a>",
    b"<a@>",
    b"<@b>",
    b"<a b@c>",
    b"<a@b@c>",
    b"<a\x00@b>",
    b"<a\x01@b>",
    b"<a\x7f@b>",
    b"<\xe4@b>",
    b"<a@b\xff>",
    b'<"a"@b>',
    b"<<a@b>",
    b"<a@b\\>",
]


@pytest.mark.parametrize("challenge", WEAK)
def test_an_apop_challenge_that_is_no_message_id_is_never_answered(challenge: bytes) -> None:
    found = talk(replace(CLEAR, ways=("APOP",)), b"+OK Hi " + challenge, b"-ERR")
    assert found.said == [b"CAPA"]
    assert found.end == Ended(
        LOGIN,
        "offers no login that we can use (offered: USER); "
        "its APOP challenge is no message ID, which can be an attack on the password",
    )


@pytest.mark.parametrize("challenge", [b"<1.2@c>", b"<a.1/x==@pop.example>", b"<1@[192.0.2.1]>", b"<1@[::1]>"])
def test_an_apop_challenge_that_is_a_message_id_is_answered(challenge: bytes) -> None:
    found = talk(replace(CLEAR, ways=("APOP",)), b"+OK Hi " + challenge + b" there", b"-ERR")
    assert found.said[-1] == b"APOP ann " + md5(challenge + b"sesame").hexdigest().encode()


def test_a_name_with_a_blank_cannot_be_said_in_apop() -> None:
    spaced = replace(CLEAR, credentials=Credentials("ann bee", Secret("x")))
    assert talk(spaced, HELLO, b"-ERR").said == [b"CAPA", b"USER ann bee"]


# --- the protocol broken


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 400 Bad Request"],
        [b"220 mx.example ESMTP"],
        [b"+ok"],
        [b"+OKAY"],
        [b" +OK"],
        [b""],
        [b"+OK\nCAPA"],
        [b"+ YQ=="],
        [b"+OK", b"+"],
        [b"+OK" + b" " * (MAX_LINE_BYTES + 1)],
        [b"+OK", capa(*[b"X"] * (MAX_LISTED_LINES + 1))],
        [b"+OK", capa(b"X" * (MAX_LINE_BYTES + 1))],
        [*UP_TO_PASS, b"+OK\r\n+OK What else"],
    ],
)
def test_what_is_no_pop3_breaks_the_session_off(answers: list[bytes]) -> None:
    with pytest.raises(PeerError):
        talk(TLS, *answers)


def test_a_line_without_end_is_given_up_before_it_fills_the_memory() -> None:
    client = Client(TLS)
    client.receive(b"+" * (MAX_LINE_BYTES + 1))
    with pytest.raises(PeerError):
        client.next_event()


def test_text_injected_before_tls_ends_the_session() -> None:
    with pytest.raises(PeerError, match="behind the reply to STLS"):
        talk(STLS, b"+OK", capa(b"STLS"), b"+OK Begin\r\n+OK")


def test_text_that_comes_while_tls_is_wanted_ends_the_session() -> None:
    client = Client(STLS)
    client.receive(b"+OK\r\n" + capa(b"STLS") + b"\r\n+OK\r\n")
    assert client.next_event() == TlsWanted()
    client.receive(b"+OK\r\n")
    with pytest.raises(PeerError):
        client.tls_started()


# --- the end


def test_quit_is_answered() -> None:
    client = Client(TLS)
    client.receive(b"+OK\r\n-ERR\r\n+OK\r\n+OK\r\n")
    assert client.next_event() == Ready()
    client.data_to_send()
    client.quit()
    assert client.data_to_send() == b"QUIT\r\n"
    client.receive(b"+OK Bye\r\n")
    assert (client.next_event(), client.phase) == (Quitted(), Phase.CLOSED)


def test_a_server_may_go_while_we_do_nothing() -> None:
    found = talk(TLS, *UP_TO_PASS, b"+OK", b"-ERR Idle for too long")
    assert found.events == [Ready(), Ended(SESSION, "closed the session: Idle for too long")]


def test_quit_before_the_login_is_our_mistake() -> None:
    with pytest.raises(UsageError):
        Client(TLS).quit()


def test_only_what_is_said_to_log_in_is_secret() -> None:
    client = Client(TLS)
    seen = []
    for answer in (b"+OK", b"-ERR", b"+OK", b"+OK"):
        client.receive(answer + b"\r\n")
        client.next_event()
        seen.append((client.is_secret, client.data_to_send()))
    assert seen == [(False, b"CAPA\r\n"), (True, b"USER ann\r\n"), (True, b"PASS sesame\r\n"), (False, b"")]


def test_each_phase_that_waits_for_a_reply_says_how_long() -> None:
    assert set(Phase) - set(REPLY_TIMES) == {Phase.TLS, Phase.READY, Phase.CLOSED}


# --- whatever comes

_ANSWERS = st.sampled_from(
    [
        b"+OK",
        b"+",
        b"+ YQ==",
        b"-ERR",
        b"-ERR [AUTH] no",
        b"-ERR [IN-USE]",
        HELLO,
        capa(b"STLS", b"USER"),
        capa(b"USER", b"SASL PLAIN LOGIN CRAM-MD5"),
        b".",
        b"..",
    ]
)
_OPTIONS = st.sampled_from([TLS, CLEAR, STLS, replace(STLS, stls=Stls.IF_OFFERED), replace(CLEAR, ways=("APOP",))])


def _run(options: ClientOptions, pieces: list[bytes]) -> tuple[bytes, list[Event], str]:
    """Everything that came of it; after a breach nothing more is read."""
    client = Client(options)
    said, events = b"", []
    try:
        for piece in pieces:
            client.receive(piece)
            while (event := client.next_event()) is not None:
                events.append(event)
                if isinstance(event, TlsWanted):
                    client.tls_started()
            said += client.data_to_send()
    except PeerError as error:
        return said, events, str(error)
    return said, events, ""


@given(_OPTIONS, st.lists(_ANSWERS | st.binary(max_size=20), max_size=8))
def test_whatever_a_server_says_only_a_breach_of_the_protocol_is_raised(
    options: ClientOptions, answers: list[bytes]
) -> None:
    said, events, _ = _run(options, [answer + b"\r\n" for answer in answers])
    assert len([event for event in events if isinstance(event, Ready | Ended)]) <= 2
    if options is STLS and TlsWanted() not in events:
        assert b"sesame" not in said and PLAIN not in said and b"PASS" not in said


@given(_OPTIONS, st.lists(_ANSWERS, max_size=8), st.integers(1, 7))
def test_the_slices_in_which_bytes_come_never_matter(options: ClientOptions, answers: list[bytes], size: int) -> None:
    if options.stls is not Stls.NEVER and not options.tls_is_on:
        options = replace(options, stls=Stls.NEVER, clear_password=True)  # TLS is where slices must matter
    data = b"".join(answer + b"\r\n" for answer in answers)
    whole = _run(options, [data])
    sliced = _run(options, [data[start : start + size] for start in range(0, len(data), size)])
    assert whole[1:] == sliced[1:]
    assert not whole[2] or sliced[0].startswith(whole[0])
