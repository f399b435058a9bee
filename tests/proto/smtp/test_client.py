"""The session around the transactions: greeting, EHLO, STARTTLS, AUTH, QUIT, and the time each may take."""

import doctest
from dataclasses import replace
from datetime import timedelta

import pytest

from masqmail.mail.address import Mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.outcome import Culprit
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.smtp import client as client_module
from masqmail.proto.smtp.client import Client
from masqmail.proto.smtp.clientsession import (
    REPLY_TIMES,
    ClientOptions,
    Ended,
    Event,
    Phase,
    Quitted,
    Ready,
    StartTls,
    TlsWanted,
    Verdicts,
)
from masqmail.proto.smtp.transfer import Step
from support.conversation import letters

PLAIN = ClientOptions("me.test", starttls=StartTls.NEVER)
SECURE = ClientOptions("me.test")
TIM = Credentials("tim", Secret("tanstaaf"))
LOGIN = replace(PLAIN, credentials=TIM, tls_is_on=True)
EHLO = b"EHLO me.test\r\n"


class Session:
    """A client that is fed replies and asked for what it says."""

    def __init__(self, options: ClientOptions) -> None:
        self.client = Client(options)
        self.events: list[Event] = []

    def hear(self, reply: bytes) -> bytes:
        self.client.receive(reply)
        while (event := self.client.next_event()) is not None:
            self.events.append(event)
        return self.client.data_to_send()

    @property
    def ended(self) -> Ended:
        (event,) = (event for event in self.events if isinstance(event, Ended))
        return event


@pytest.mark.parametrize("greeting", [b"", b"220 mx.test late\r\n"], ids=["swallowed", "not swallowed"])
def test_who_sends_first_does_not_wait_for_the_greeting(greeting: bytes) -> None:
    session = Session(replace(PLAIN, send_first=True))
    assert session.client.data_to_send() == EHLO
    assert session.client.awaited is Phase.EHLO
    assert session.hear(greeting + b"250-mx.test\r\n250 SIZE 99\r\n") == b""
    assert session.events == [Ready()]
    assert session.client.offered.server_name == "mx.test"


def test_who_sends_first_takes_one_greeting_for_one_and_no_more() -> None:
    session = Session(replace(PLAIN, send_first=True))
    assert session.client.data_to_send() == EHLO
    assert session.hear(b"220 mx.test\r\n220 mx.test\r\n") == b""
    assert session.events == [Ready()]


def test_who_sends_first_is_turned_away_like_everybody() -> None:
    session = Session(replace(PLAIN, send_first=True))
    session.hear(b"421 too busy\r\n")
    assert session.ended.culprit is Culprit.SESSION


def test_after_the_greeting_comes_ehlo_and_then_work() -> None:
    session = Session(PLAIN)
    assert session.client.data_to_send() == b"", "we do not talk before the greeting"
    assert session.hear(b"220-mx.test\r\n220 ready\r\n") == EHLO
    assert session.hear(b"250-mx.test\r\n250 SIZE 99\r\n") == b""
    assert session.events == [Ready()]
    assert session.client.offered.size_bytes == 99


def test_helo_follows_where_ehlo_is_not_understood() -> None:
    session = Session(PLAIN)
    session.hear(b"220 old\r\n")
    assert session.hear(b"500 what?\r\n") == b"HELO me.test\r\n"
    session.hear(b"250 old\r\n")
    assert session.events == [Ready()]
    assert not session.client.is_pipelining


def test_lmtp_says_lhlo_and_nothing_else() -> None:
    session = Session(replace(PLAIN, lmtp=True))
    assert session.hear(b"220 lmtp\r\n") == b"LHLO me.test\r\n"
    session.hear(b"500 what?\r\n")
    assert session.ended.culprit is Culprit.SESSION


@pytest.mark.parametrize(
    ("replies", "culprit", "reason"),
    [
        ((b"554 no service\r\n",), Culprit.SESSION, "refused the session: 554 no service"),
        ((b"450 4.7.0 later\r\n",), Culprit.SESSION, "refused the session: 450 4.7.0 later"),
        ((b"421 busy\r\n",), Culprit.SESSION, "closed the session: 421 busy"),
        ((b"220 hi\r\n", b"421 no\r\n"), Culprit.SESSION, "closed the session: 421 no"),
        ((b"220 hi\r\n", b"451 no\r\n"), Culprit.SESSION, "refused our name me.test: 451 no"),
        ((b"220 hi\r\n", b"502 no\r\n", b"550 no\r\n"), Culprit.SESSION, "refused our name me.test: 550 no"),
        ((b"220 hi\r\n", b"250 mx\r\n"), Culprit.TLS, "does not offer STARTTLS"),
        ((b"220 hi\r\n", b"500 no\r\n", b"250 mx\r\n"), Culprit.TLS, "does not offer STARTTLS"),
        (
            (b"220 hi\r\n", b"250-mx\r\n250 STARTTLS\r\n", b"454 4.7.0 broken\r\n"),
            Culprit.TLS,
            "refused to start TLS: 454 4.7.0 broken",
        ),
    ],
)
def test_a_session_that_cannot_be_used_says_why(replies: tuple[bytes, ...], culprit: Culprit, reason: str) -> None:
    session = Session(SECURE)
    for reply in replies:
        session.hear(reply)
    assert (session.ended.culprit, session.ended.reason) == (culprit, reason)
    assert session.hear(b"250 more\r\n") == b"", "what comes later is not listened to"


@pytest.mark.parametrize("portal", [b"HTTP/1.1 302 Found\r\n", b"<html>\r\n", b"\xff\xfb\x01\r\n"])
def test_a_banner_of_something_else_breaks_the_protocol(portal: bytes) -> None:
    with pytest.raises(PeerError, match="not an SMTP reply"):
        Session(SECURE).hear(portal)


# TLS


def start_tls(options: ClientOptions) -> Session:
    session = Session(options)
    session.hear(b"220 hi\r\n")
    assert session.hear(b"250-mx\r\n250-STARTTLS\r\n250 AUTH LOGIN\r\n") == b"STARTTLS\r\n"
    return session


def test_after_tls_everything_is_asked_again() -> None:
    session = start_tls(SECURE)
    assert session.hear(b"220 go\r\n") == b""
    assert session.events == [TlsWanted()]
    session.client.tls_started()
    assert session.client.offered.auth == ()
    assert session.client.data_to_send() == EHLO
    session.hear(b"250-mx\r\n250 PIPELINING\r\n")
    assert session.events == [TlsWanted(), Ready()]


def test_plain_text_behind_the_reply_to_starttls_is_an_attack() -> None:
    with pytest.raises(PeerError, match="behind the reply to STARTTLS"):
        start_tls(SECURE).hear(b"220 go\r\n250-mx\r\n")


def test_plain_text_before_the_handshake_is_an_attack() -> None:
    session = start_tls(SECURE)
    session.hear(b"220 go\r\n")
    session.hear(b"250")
    with pytest.raises(PeerError, match="behind the reply to STARTTLS"):
        session.client.tls_started()


def test_opportunistic_tls_goes_on_without() -> None:
    session = start_tls(replace(SECURE, starttls=StartTls.IF_OFFERED))
    session.hear(b"454 4.7.0 broken\r\n")
    assert session.events == [Ready()]


def test_opportunistic_tls_is_started_when_offered() -> None:
    session = start_tls(replace(SECURE, starttls=StartTls.IF_OFFERED))
    session.hear(b"220 go\r\n")
    assert session.events == [TlsWanted()]


def test_tls_cannot_start_unasked() -> None:
    with pytest.raises(UsageError):
        Client(SECURE).tls_started()


# AUTH


def log_in(offered: bytes, options: ClientOptions = LOGIN) -> tuple[Session, bytes]:
    session = Session(options)
    session.hear(b"220 hi\r\n")
    return session, session.hear(b"250-mx\r\n250-PIPELINING\r\n250 AUTH " + offered + b"\r\n")


def test_plain_takes_one_step_and_nothing_follows_before_the_235() -> None:
    session, command = log_in(b"LOGIN PLAIN")
    assert command == b"AUTH PLAIN AHRpbQB0YW5zdGFhZg==\r\n"
    assert session.client.is_secret
    assert session.events == []
    session.hear(b"235 2.7.0 welcome\r\n")
    assert session.events == [Ready()]
    assert not session.client.is_secret


def test_login_answers_two_challenges() -> None:
    session, command = log_in(b"LOGIN")
    assert command == b"AUTH LOGIN\r\n"
    assert session.hear(b"334 VXNlcm5hbWU6\r\n") == b"dGlt\r\n"
    assert session.hear(b"334 UGFzc3dvcmQ6\r\n") == b"dGFuc3RhYWY=\r\n"
    session.hear(b"235 ok\r\n")
    assert session.events == [Ready()]


def test_cram_md5_answers_its_challenge() -> None:
    """The example of RFC 2195 §2."""
    options = replace(LOGIN, credentials=Credentials("tim", Secret("tanstaaftanstaaf")))
    session, command = log_in(b"CRAM-MD5 SCRAM-SHA-256", options)
    assert command == b"AUTH CRAM-MD5\r\n"
    response = session.hear(b"334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n")
    assert response == b"dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw\r\n"


def test_who_lets_us_in_without_the_proof_that_belongs_to_it_is_not_believed() -> None:
    session, command = log_in(b"SCRAM-SHA-256", replace(LOGIN, mechanisms=("SCRAM-SHA-256",)))
    assert command.startswith(b"AUTH SCRAM-SHA-256 ")
    session.hear(b"235 welcome\r\n")
    assert session.ended.culprit is Culprit.LOGIN
    assert session.ended.reason == "let us in before it had proven who it is: 235 welcome"


def test_the_order_of_the_allowed_mechanisms_counts() -> None:
    _, command = log_in(b"PLAIN LOGIN CRAM-MD5", replace(LOGIN, mechanisms=("CRAM-MD5", "PLAIN")))
    assert command == b"AUTH CRAM-MD5\r\n"


def test_a_long_initial_response_waits_for_its_challenge() -> None:
    session, command = log_in(b"PLAIN", replace(LOGIN, credentials=Credentials("tim", Secret("x" * 400))))
    assert command == b"AUTH PLAIN\r\n"
    assert session.hear(b"334 \r\n").startswith(b"AHRpbQB4eHh4")


def test_a_refused_password_is_not_tried_again() -> None:
    session, _ = log_in(b"PLAIN LOGIN")
    assert session.hear(b"535 5.7.8 wrong\r\n") == b""
    assert session.ended.culprit is Culprit.LOGIN
    assert session.ended.reason == "refused the login of tim: 535 5.7.8 wrong"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"535-5.7.8 no tanstaaf\r\n535 5.7.8 nor AHRpbQB0YW5zdGFhZg==\r\n", "535 5.7.8 no (hidden) nor (hidden)"),
        (b"421 4.7.0 tanstaaf again\r\n", "421 4.7.0 (hidden) again"),
        (b"235 tanstaaf is right\r\n", "235 (hidden) is right"),
    ],
)
def test_a_password_that_the_server_repeats_is_shown_to_nobody(reply: bytes, reason: str) -> None:
    session, _ = log_in(b"SCRAM-SHA-256", replace(LOGIN, mechanisms=("SCRAM-SHA-256",)))
    session.hear(reply)
    assert session.ended.reason.endswith(f": {reason}")
    assert str(session.ended.status) == reason


def test_what_is_no_reply_to_a_login_is_not_quoted() -> None:
    session, _ = log_in(b"PLAIN")
    with pytest.raises(PeerError) as caught:
        session.hear(b"what? tanstaaf?\r\n")
    assert caught.value.status.text == "its answer to the login is no reply"


@pytest.mark.parametrize("refusal", [b"504 5.5.4 not this one\r\n", b"501 no initial response\r\n"])
def test_a_refused_mechanism_is_followed_by_the_next(refusal: bytes) -> None:
    session, _ = log_in(b"PLAIN LOGIN")
    assert session.hear(refusal) == b"AUTH LOGIN\r\n"
    session.hear(refusal)
    assert session.ended.culprit is Culprit.LOGIN


@pytest.mark.parametrize(
    ("offered", "reason"),
    [
        (b"SCRAM-SHA-256 XOAUTH2", "offers no login that we can use (offered: SCRAM-SHA-256 XOAUTH2)"),
        (b"", "offers no login that we can use (offered: none at all)"),
    ],
)
def test_without_a_common_mechanism_nobody_logs_in(offered: bytes, reason: str) -> None:
    session, command = log_in(offered)
    assert command == b""
    assert (session.ended.culprit, session.ended.reason) == (Culprit.LOGIN, reason)


def test_a_password_never_travels_in_clear_by_itself() -> None:
    for starttls in (StartTls.NEVER, StartTls.IF_OFFERED):
        session, command = log_in(b"PLAIN CRAM-MD5", replace(LOGIN, starttls=starttls, tls_is_on=False))
        assert command == b""
        assert session.ended.culprit is Culprit.LOGIN


def test_a_password_travels_in_clear_where_somebody_wrote_so() -> None:
    _, command = log_in(b"PLAIN", replace(LOGIN, tls_is_on=False, clear_password=True))
    assert command.startswith(b"AUTH PLAIN ")


@pytest.mark.parametrize("challenge", [b"334 ???\r\n", b"334 Z29vZA==\r\n"])
def test_a_challenge_that_makes_no_sense_ends_the_login(challenge: bytes) -> None:
    session, _ = log_in(b"PLAIN")
    session.hear(challenge)
    assert session.ended.culprit is Culprit.LOGIN


# the end, and time


def test_the_example_of_the_module_is_true() -> None:
    names = {"Mailbox": Mailbox, "Envelope": Envelope, "Recipient": Recipient}
    result = doctest.testmod(client_module, extraglobs=names)
    assert result.attempted > 5 and not result.failed


def ready() -> Session:
    session = Session(PLAIN)
    session.hear(b"220 hi\r\n")
    session.hear(b"250 mx\r\n")
    return session


def test_quit_ends_an_idle_session() -> None:
    session = ready()
    session.client.quit()
    assert session.client.data_to_send() == b"QUIT\r\n"
    session.hear(b"221 bye\r\n")
    assert session.events == [Ready(), Quitted()]


def test_quit_may_come_instead_of_the_next_step_of_the_set_up() -> None:
    session = Session(LOGIN)
    session.hear(b"220 hi\r\n")
    session.client.receive(b"250-mx\r\n250 AUTH PLAIN\r\n")
    assert session.client.next_event() is None
    session.client.quit()
    assert session.client.data_to_send() == b"QUIT\r\n"
    session.hear(b"221 bye\r\n")
    assert session.events == [Quitted()]


def test_quit_does_not_come_while_a_step_of_the_set_up_is_unanswered() -> None:
    session, _ = log_in(b"PLAIN")
    with pytest.raises(UsageError):
        session.client.quit()


def test_quit_waits_until_everything_is_answered() -> None:
    session = ready()
    session.client.start(letters(1)[0][0])
    with pytest.raises(UsageError):
        session.client.quit()


def test_work_is_for_sessions_that_stand() -> None:
    client = Client(PLAIN)
    for call in (lambda: client.start(letters(1)[0][0]), client.quit, client.body_end):
        with pytest.raises(UsageError):
            call()
    assert client.room == (0, 0)


def test_a_421_without_a_question_ends_the_session() -> None:
    session = ready()
    session.hear(b"421 4.4.2 idle too long\r\n")
    assert session.ended.reason == "closed the session: 421 4.4.2 idle too long"


def test_a_reply_without_a_question_breaks_the_protocol() -> None:
    with pytest.raises(PeerError, match="a reply to nothing"):
        ready().hear(b"250 surprise\r\n")


def test_after_a_breach_of_the_protocol_nothing_more_is_listened_to() -> None:
    session = Session(PLAIN)
    session.hear(b"220 hi\r\n")
    session.hear(b"250-mx\r\n250 PIPELINING\r\n")
    client, ((outgoing, _), *_) = session.client, letters(1)
    client.start(outgoing)
    client.data_to_send()
    client.receive(b"what is this\r\n550 5.1.1 no such user\r\n554 no valid recipients\r\n")
    for _ in range(4):
        with pytest.raises(PeerError, match="not an SMTP reply: 'what is this'"):
            client.next_event()
    client.abandon()
    found = client.next_event()
    assert isinstance(found, Verdicts)
    assert [verdict.status for verdict in found.verdicts] == [None] * len(found.verdicts)
    assert client.next_event() is None


def test_each_phase_says_what_it_waits_for() -> None:
    session = Session(SECURE)
    assert session.client.awaited is Phase.GREETING
    session.hear(b"220 hi\r\n")
    assert session.client.awaited is Phase.EHLO
    session.hear(b"250-mx\r\n250 STARTTLS\r\n")
    assert session.client.awaited is Phase.STARTTLS
    session.hear(b"220 go\r\n")
    assert session.client.awaited is None, "the handshake is the shell's"


def test_each_step_of_a_transaction_says_what_it_waits_for() -> None:
    session = ready()
    assert session.client.awaited is None
    session.client.start(letters(1)[0][0])
    for reply, step in ((b"", Step.MAIL), (b"250 ok\r\n", Step.RCPT), (b"250 ok\r\n", Step.DATA)):
        session.hear(reply)
        assert session.client.awaited is step
    session.hear(b"354 go\r\n")
    assert session.client.awaited is None, "while content is being sent, writing has its own time"
    session.client.body_data(letters(1)[0][1])
    session.client.body_end()
    assert session.client.awaited is Step.CONTENT


def test_the_times_are_those_of_rfc_5321() -> None:
    """RFC 5321 §4.5.3.2."""
    minutes = {Phase.GREETING: 5, Step.MAIL: 5, Step.RCPT: 5, Step.DATA: 2, Step.CONTENT: 10}
    assert {key: REPLY_TIMES[key] for key in minutes} == {
        key: timedelta(minutes=number) for key, number in minutes.items()
    }


def test_whatever_is_awaited_has_its_time() -> None:
    without_reply = {Phase.TLS, Phase.READY, Phase.CLOSED, Step.CHECK}
    assert REPLY_TIMES.keys() == {*Phase, *Step} - without_reply
