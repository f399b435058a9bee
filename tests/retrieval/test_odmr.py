"""ATRN and ETRN from the customer's side, against servers that play a written part."""

from dataclasses import replace
from datetime import timedelta

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net import session
from masqmail.net.session import TlsMode
from masqmail.net.stream import Stream
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.smtp.clientsession import REPLY_TIMES, Phase
from masqmail.retrieval.account import Account, FetchFailure, Inbox, Order
from masqmail.retrieval.etrn import EtrnRetriever
from masqmail.retrieval.odmr import OdmrRetriever
from masqmail.settings import HostPort
from support.fakeinbox import FakeInbox
from support.scripted_server import ScriptedServer
from support.transcript import Player, playing

pytestmark = pytest.mark.anyio

LOGIN = """
    P: 220 EXAMPLE.NET on-demand mail relay server ready
    C: EHLO example.org
    P: 250-EXAMPLE.NET
    P: 250-AUTH PLAIN
    P: 250 ATRN
    C: AUTH PLAIN AGJvYgBzZXNhbWU=
    P: 235 now authenticated as example.org
"""
ASK = LOGIN + "    C: ATRN example.org,example.com\n"
MAIL = """
    C: 220 mx.test ESMTP
    P: EHLO EXAMPLE.NET
    C* 250
    P: MAIL FROM:<Lester.Tester@dot.foo.bar>
    C: 250 ...
    P: RCPT TO:<l.eva.msg@example.com>
    C: 250 ...
    P: DATA
    C: 354 ...
    P: Subject: hello
    P:
    P: This is the message.
    P: .
    C: 250 ...
    P: QUIT
    C: 221 ...
"""


class Mailroom:
    """Takes what comes over a turned connection with a server that is not ours."""

    def __init__(self) -> None:
        self.server = ScriptedServer()

    async def serve(self, stream: Stream, account: Account, inbox: Inbox) -> bool:
        stream.write(self.server.connect())
        while not self.server.is_closed:
            data = await stream.receive(10)
            if not data:
                return False
            stream.write(self.server.receive(data))
        return True


def account(address: HostPort, **changes: object) -> Account:
    values = Account(
        name="provider",
        server=address,
        credentials=Credentials("bob", Secret("sesame")),
        tls=TlsMode.NONE,
        clear_password=True,
        domains=("example.org", "example.com"),
    )
    return replace(values, **changes)  # type: ignore[arg-type]


async def fetch(player: Player, room: Mailroom | None = None, **changes: object) -> Mailroom:
    room = room or Mailroom()
    retriever = OdmrRetriever(lambda: "example.org", room.serve)
    await retriever.fetch(account(player.address, **changes), FakeInbox(), Order())
    await retriever.aclose()
    return room


async def failure_of(text: str, **changes: object) -> FetchFailure:
    async with playing(text) as player:
        with pytest.raises(FetchFailure) as caught:
            await fetch(player, **changes)
        reason = caught.value.reason.replace(str(player.address), "SERVER")
    return FetchFailure(reason, caught.value.culprit)


async def test_the_roles_turn_and_the_mail_comes_on_the_same_connection() -> None:
    async with playing(ASK + "P: 250 OK now reversing the connection\n" + MAIL) as player:
        room = await fetch(player)
    assert [taken.content for taken in room.server.taken] == [b"Subject: hello\r\n\r\nThis is the message.\r\n"]


async def test_what_comes_together_with_the_250_is_heard_by_the_other_side() -> None:
    eager = MAIL.replace(
        "C: 220 mx.test ESMTP\n    P: EHLO EXAMPLE.NET\n", "P: EHLO EXAMPLE.NET\n    C: 220 mx.test ESMTP\n"
    )
    async with playing(ASK + "P: 250 OK\n" + eager) as player:
        room = await fetch(player)
    assert len(room.server.taken) == 1


async def test_without_domains_all_are_asked_for() -> None:
    async with playing(LOGIN + "C: ATRN\nP: 453 You have no mail\nC: QUIT\nP: 221 bye") as player:
        await fetch(player, domains=())


async def test_domains_beyond_ascii_are_asked_for_by_their_other_names() -> None:
    async with playing(LOGIN + "C: ATRN xn--mller-kva.example\nP: 453 none\nC: QUIT\nP: 221 bye") as player:
        await fetch(player, domains=("müller.example",))


async def test_that_there_is_no_mail_is_a_success() -> None:
    async with playing(ASK + "P: 453 You have no mail\nC: QUIT\nP: 221 bye") as player:
        room = await fetch(player)
    assert not room.server.taken


async def test_a_provider_that_has_only_a_quit_to_say_is_a_success_too() -> None:
    async with playing(ASK + "P: 250 OK\nC: 220 ...\nP: EHLO x\nC* 250\nP: QUIT\nC: 221 ...") as player:
        await fetch(player)


@pytest.mark.parametrize(
    ("reply", "culprit", "reason"),
    [
        (
            "450 ATRN request refused",
            Culprit.SESSION,
            "SERVER does not give us the mail for example.org, example.com: 450 ATRN request refused",
        ),
        ("451 Unable to process", Culprit.SESSION, "SERVER cannot give us our mail now: 451 Unable to process"),
        ("500 what?", Culprit.SESSION, "SERVER does not know ATRN: 500 what?"),
        ("502 5.5.1 no", Culprit.SESSION, "SERVER does not know ATRN: 502 5.5.1 no"),
        ("530 5.7.0 who?", Culprit.LOGIN, "SERVER wants another login for ATRN: 530 5.7.0 who?"),
        ("501 how?", Culprit.SESSION, "SERVER refused ATRN for example.org, example.com: 501 how?"),
        ("554 5.7.1 never", Culprit.SESSION, "SERVER refused ATRN for example.org, example.com: 554 5.7.1 never"),
    ],
)
async def test_a_refusal_says_whose_fault_it_is(reply: str, culprit: Culprit, reason: str) -> None:
    failure = await failure_of(f"{ASK}P: {reply}\nC: QUIT\nP: 221 bye")
    assert (failure.culprit, failure.reason) == (culprit, reason)


@pytest.mark.parametrize(
    ("text", "culprit", "reason"),
    [
        ("P: 554 not you", Culprit.SESSION, "SERVER refused the session: 554 not you"),
        (
            LOGIN.replace("235 now authenticated as example.org", "535 5.7.8 wrong"),
            Culprit.LOGIN,
            "SERVER refused the login of bob: 535 5.7.8 wrong",
        ),
        (
            LOGIN.replace("235 now authenticated as example.org", "454 4.7.0 later"),
            Culprit.SESSION,
            "SERVER refused the login of bob: 454 4.7.0 later",
        ),
        (ASK + "P: 421 enough", Culprit.SESSION, "SERVER closed the session: 421 enough"),
        (ASK + "X:", Culprit.CONNECTION, "SERVER: closed the connection"),
        (ASK + "P: 2x0", Culprit.SESSION, "SERVER answered nonsense: not an SMTP reply: '2x0'"),
        (ASK + "P: 250 OK\nX:", Culprit.SESSION, "SERVER stopped in the middle of its mail"),
    ],
)
async def test_a_session_that_fails_says_why(text: str, culprit: Culprit, reason: str) -> None:
    failure = await failure_of(text)
    assert (failure.culprit, failure.reason) == (culprit, reason)


async def test_a_password_does_not_travel_without_tls_unless_that_was_written() -> None:
    text = "P: 220 x\nC: EHLO example.org\nP: 250-x\nP: 250 AUTH PLAIN\nC: (the end)"
    failure = await failure_of(text, clear_password=False)
    assert (failure.culprit, "in clear" in failure.reason) == (Culprit.LOGIN, True)


async def test_tls_that_is_missing_ends_it_before_the_password() -> None:
    text = "P: 220 x\nC: EHLO example.org\nP: 250-x\nP: 250 AUTH PLAIN\nC: (the end)"
    failure = await failure_of(text, tls=TlsMode.STARTTLS)
    assert (failure.culprit, failure.reason) == (Culprit.TLS, "SERVER does not offer STARTTLS")


async def test_a_server_that_is_not_there_is_a_reason() -> None:
    async with playing("X:") as player:
        gone = player.address
        with pytest.raises(FetchFailure):
            await fetch(player)
    with pytest.raises(FetchFailure) as caught:
        await OdmrRetriever().fetch(account(gone), FakeInbox(), Order())
    assert caught.value.culprit is Culprit.CONNECTION


async def test_every_wait_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_TIME", timedelta(days=1))
    for other in REPLY_TIMES.keys() - {Phase.ATRN}:
        monkeypatch.setitem(REPLY_TIMES, other, timedelta(days=1))
    async with playing(LOGIN + "C: ATRN example.org,example.com\nC: (the end)") as player:
        with pytest.raises(FetchFailure) as caught:
            await fetch(player, time_scale=0.2 / 600)
    assert "no answer within 0.2 s (ATRN)" in caught.value.reason


async def test_single_messages_have_no_names() -> None:
    for retriever in (OdmrRetriever(), EtrnRetriever()):
        with pytest.raises(FetchFailure) as caught:
            await retriever.fetch(account(HostPort("127.0.0.1", 1)), FakeInbox(), Order(("uid",)))
        assert caught.value.culprit is Culprit.MESSAGE


async def test_to_try_an_account_is_to_log_in_and_out() -> None:
    for retriever in (OdmrRetriever(lambda: "example.org"), EtrnRetriever(lambda: "example.org")):
        async with playing(LOGIN + "C: QUIT\nP: 221 bye") as player:
            assert await retriever.probe(account(player.address)) == ()


async def test_who_has_no_name_goes_by_its_address() -> None:
    async with playing("P: 220 x\nC: EHLO [127.0.0.1]\nP: 250 x\nC: QUIT\nP: 221 bye") as player:
        await EtrnRetriever().probe(account(player.address, credentials=Credentials("", Secret(""))))


# ETRN

HELLO = "P: 220 x\nC: EHLO example.org\nP: 250-x\nP: 250 ETRN\n"
NOBODY = Credentials("", Secret(""))


async def etrn(text: str, **changes: object) -> FetchFailure | None:
    async with playing(text) as player:
        try:
            retriever = EtrnRetriever(lambda: "example.org")
            await retriever.fetch(account(player.address, **{"credentials": NOBODY, **changes}), FakeInbox(), Order())
        except FetchFailure as failure:
            return FetchFailure(failure.reason.replace(str(player.address), "SERVER"), failure.culprit)
    return None


async def test_a_queue_is_started_for_each_domain_without_a_login() -> None:
    text = "C: ETRN example.org\nP: 253 14 pending\nC: ETRN example.com\nP: 251 nothing\nC: QUIT\nP: 221 bye"
    assert await etrn(HELLO + text) is None


async def test_a_queue_is_started_with_a_login_where_there_is_one() -> None:
    text = LOGIN + "C: ETRN example.org\nP: 250 started\nC: QUIT\nP: 221 bye"
    credentials = Credentials("bob", Secret("sesame"))
    assert await etrn(text, credentials=credentials, domains=("example.org",)) is None


async def test_a_domain_that_is_refused_does_not_stop_the_others() -> None:
    text = "C: ETRN example.org\nP: 459 no\nC: ETRN example.com\nP: 250 started\nC: QUIT\nP: 221 bye"
    failure = await etrn(HELLO + text)
    assert failure is not None
    assert failure.reason == "SERVER does not send the mail for example.org: 459 no"


@pytest.mark.parametrize(
    ("reply", "culprit", "reason"),
    [
        ("502 what?", Culprit.SESSION, "SERVER does not know ETRN: 502 what?"),
        ("530 5.7.0 who?", Culprit.LOGIN, "SERVER wants another login for ETRN: 530 5.7.0 who?"),
        ("458 later", Culprit.SESSION, "SERVER does not send the mail for example.org: 458 later"),
    ],
)
async def test_a_refusal_of_etrn_says_whose_fault_it_is(reply: str, culprit: Culprit, reason: str) -> None:
    failure = await etrn(f"{HELLO}C: ETRN example.org\nP: {reply}\nC: QUIT\nP: 221 bye", domains=("example.org",))
    assert failure is not None
    assert (failure.culprit, failure.reason) == (culprit, reason)
