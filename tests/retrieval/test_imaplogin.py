import base64
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import CRAM_MD5, LOGIN, PLAIN, Credentials, Secret
from masqmail.retrieval.account import FetchFailure
from masqmail.retrieval.imaplogin import COMMAND, Answers, culprit_of, quoted, usable_ways
from support.authority import Authority
from support.imapaccount import message, post
from support.imapserver import ImapServer

ANN = Credentials("ann", Secret("sesame"))

OFFERS = ("AUTH=PLAIN", "AUTH=LOGIN", "AUTH=CRAM-MD5")


@pytest.mark.parametrize(
    ("offered", "allowed", "is_protected", "is_clear_fine", "ways"),
    [
        (OFFERS, (), True, False, [PLAIN, COMMAND, LOGIN]),
        (OFFERS, (), False, False, [CRAM_MD5]),
        (OFFERS, (), False, True, [CRAM_MD5, PLAIN, COMMAND, LOGIN]),
        (OFFERS, (LOGIN,), True, False, [LOGIN, COMMAND]),
        (OFFERS, (CRAM_MD5, PLAIN), True, False, [CRAM_MD5, PLAIN, COMMAND]),
        ((), (), True, False, [COMMAND]),
        ((), (), False, False, []),
        (("LOGINDISABLED",), (), True, False, []),
        (("LOGINDISABLED", "AUTH=PLAIN"), (), True, False, [PLAIN]),
        (("AUTH=XOAUTH2",), (), True, False, [COMMAND]),
        (OFFERS, ("XOAUTH2",), True, False, []),
    ],
)
def test_the_best_ways_come_first_and_none_shows_a_password_unprotected(
    offered: tuple[str, ...], allowed: tuple[str, ...], is_protected: bool, is_clear_fine: bool, ways: list[str]
) -> None:
    found = usable_ways(ANN, allowed, offered, is_protected=is_protected, is_clear_fine=is_clear_fine)
    assert [way for way in found if way in (PLAIN, LOGIN, CRAM_MD5, COMMAND)][: len(ways)] == ways
    assert found or not ways


def test_letters_beyond_ascii_are_for_sasl_alone() -> None:
    ways = usable_ways(Credentials("ann", Secret("sésame")), (), OFFERS, is_protected=True, is_clear_fine=False)
    assert PLAIN in ways and COMMAND not in ways


def test_a_quoted_string_holds_quotes() -> None:
    assert quoted('a "b" \\') == '"a \\"b\\" \\\\"'


@pytest.mark.parametrize(
    ("refusal", "culprit"),
    [
        ("Wrong password", Culprit.LOGIN),
        ("[AUTHENTICATIONFAILED] no", Culprit.LOGIN),
        ("[UNAVAILABLE] Temporary authentication failure", Culprit.SESSION),
        ("[LIMIT] Too many connections", Culprit.SESSION),
        ("[ALERT] Please log in via your web browser", Culprit.LOGIN),
    ],
)
def test_a_refusal_says_whether_the_password_is_to_blame(refusal: str, culprit: Culprit) -> None:
    assert culprit_of(refusal) is culprit


def test_an_initial_response_travels_with_the_command_where_that_may_be() -> None:
    proof = base64.b64encode(b"\0ann\0sesame")
    assert Answers(PLAIN, ANN, says_first=True).initial == proof.decode()
    late = Answers(PLAIN, ANN, says_first=False)
    assert late.initial is None and not late.has_proved
    assert late.answer(b"") == proof
    assert late.has_proved


def test_a_server_that_asks_and_asks_hears_nothing_more() -> None:
    answers = Answers(CRAM_MD5, ANN, says_first=True)
    assert [answers.answer(base64.b64encode(b"<1@x>")) != b"*" for _ in range(6)] == [True] * 5 + [False]


# --- against a server


def server(*capabilities: str, **options: Any) -> Any:
    return partial(ImapServer, capabilities=("IMAP4rev1", "UIDPLUS", *capabilities), **options)


@pytest.mark.anyio
@pytest.mark.parametrize("capabilities", [("AUTH=PLAIN", "SASL-IR"), ("AUTH=PLAIN",), ()])
async def test_we_are_let_in(capabilities: tuple[str, ...]) -> None:
    async with post(message(1), make=server(*capabilities)) as here:
        assert len((await here.fetch()).taken) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("capabilities", [("AUTH=PLAIN", "SASL-IR"), ("AUTH=PLAIN",), ()])
async def test_a_wrong_password_is_shown_once(capabilities: tuple[str, ...]) -> None:
    wrong = Credentials("ann", Secret("barley"))
    async with post(message(1), make=server(*capabilities)) as here:
        with pytest.raises(FetchFailure, match=r"refused the login of ann: \[AUTHENTICATIONFAILED\] Wrong") as caught:
            await here.fetch(credentials=wrong)
        assert caught.value.culprit is Culprit.LOGIN
        assert len([line for line in here.commands if "LOGIN" in line or "AUTHENTICATE" in line]) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("capabilities", [("AUTH=PLAIN", "SASL-IR"), ()])
@pytest.mark.parametrize("refusal", ["NO no sesame", "BAD what? AGFubgBzZXNhbWU=", "sesame?", "* BYE sesame"])
async def test_a_password_that_the_server_repeats_is_shown_to_nobody(
    capabilities: tuple[str, ...], refusal: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1, "masqmail")
    refuse = lambda step, subject: refusal if step in ("AUTHENTICATE", "LOGIN") else None  # noqa: E731
    async with post(message(1), make=server(*capabilities, policy=refuse)) as here:
        with pytest.raises(FetchFailure, match=r"\(hidden\)") as caught:
            await here.fetch()
    shown = [str(caught.value), *(str(record.__dict__.get("fields")) for record in caplog.records)]
    assert not any("sesame" in line or "AGFubgBzZXNhbWU" in line for line in shown)


@pytest.mark.anyio
async def test_a_way_that_the_server_does_not_know_after_all_is_followed_by_the_next() -> None:
    refuse = lambda step, subject: "NO [CANNOT] not here" if step == "AUTHENTICATE" else None  # noqa: E731
    async with post(message(1), make=server("AUTH=PLAIN", policy=refuse)) as here:
        assert len((await here.fetch()).taken) == 1
        assert 'LOGIN "ann" "sesame"' in here.commands


@pytest.mark.anyio
async def test_without_tls_no_password_goes_out() -> None:
    async with post(message(1), make=server("AUTH=PLAIN")) as here:
        with pytest.raises(FetchFailure, match="no way to log in that is safe without TLS"):
            await here.fetch(clear_password=False)
        assert not any("sesame" in line for line in here.commands)


@pytest.mark.anyio
async def test_a_password_with_a_line_end_does_not_become_a_command() -> None:
    bad = Credentials("ann", Secret("x\r\nA1 DELETE INBOX"))
    async with post(message(1)) as here:
        with pytest.raises(FetchFailure, match="line end") as caught:
            await here.fetch(credentials=bad)
        assert caught.value.culprit is Culprit.LOCAL
        assert not any("DELETE" in line for line in here.servers[0].commands)


# --- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    certificate = authority.issue("127.0.0.1", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.private_key)
    return context


@pytest.mark.anyio
@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.OPPORTUNISTIC, TlsMode.IMPLICIT])
async def test_mail_comes_through_tls(authority: Authority, tls: ssl.SSLContext, mode: TlsMode) -> None:
    contents = [message(1), message(2, b"x" * 500_000)]
    is_implicit = mode is TlsMode.IMPLICIT
    make = server("STARTTLS", "AUTH=PLAIN", "SASL-IR", "COMPRESS=DEFLATE")
    async with post(*contents, make=make, tls=tls, implicit_tls=is_implicit) as here:
        inbox = await here.fetch(tls=mode, tls_ca=authority.ca, clear_password=False)
        assert inbox.contents == contents
        verbs = [line.split(" ")[0] for line in here.commands]
        assert ("STARTTLS" in verbs) is not is_implicit
        if not is_implicit:
            assert verbs[:3] == ["STARTTLS", "CAPABILITY", "AUTHENTICATE"]


@pytest.mark.anyio
async def test_what_was_offered_before_tls_does_not_count(authority: Authority, tls: ssl.SSLContext) -> None:
    def make(**options: Any) -> ImapServer:
        made = ImapServer(capabilities=("IMAP4rev1", "STARTTLS", "AUTH=PLAIN"), **options)
        made.greeting = "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED AUTH=CRAM-MD5] Hello"
        return made

    async with post(message(1), make=make, tls=tls) as here:
        await here.fetch(tls=TlsMode.STARTTLS, tls_ca=authority.ca)
        assert any(line.startswith("AUTHENTICATE PLAIN") for line in here.commands)


@pytest.mark.anyio
async def test_a_server_without_starttls_hears_no_password() -> None:
    async with post(message(1), make=server("AUTH=PLAIN")) as here:
        with pytest.raises(FetchFailure, match="does not offer STARTTLS") as caught:
            await here.fetch(tls=TlsMode.STARTTLS)
        assert caught.value.culprit is Culprit.TLS
        assert not here.commands


@pytest.mark.anyio
async def test_a_greeting_of_somebody_logged_in_does_not_replace_tls() -> None:
    greeting = "* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] Hello"
    async with post(message(1), make=partial(ImapServer, greeting=greeting)) as here:
        with pytest.raises(FetchFailure, match="logged in already, before TLS"):
            await here.fetch(tls=TlsMode.STARTTLS)


@pytest.mark.anyio
async def test_words_slipped_in_before_tls_end_the_session(authority: Authority, tls: ssl.SSLContext) -> None:
    def slip_in(command: str, answer: bytes) -> bytes:
        return answer + b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" if command.startswith("STARTTLS") else answer

    async with post(message(1), make=server("STARTTLS", "AUTH=PLAIN", mangle=slip_in), tls=tls) as here:
        with pytest.raises(FetchFailure, match="before TLS could start, which looks like an attack") as caught:
            await here.fetch(tls=TlsMode.STARTTLS, tls_ca=authority.ca)
        assert caught.value.culprit is Culprit.TLS


@pytest.mark.anyio
@pytest.mark.parametrize("is_implicit", [True, False])
async def test_a_stranger_hears_no_password(tmp_path: Path, tls: ssl.SSLContext, is_implicit: bool) -> None:
    mode = TlsMode.IMPLICIT if is_implicit else TlsMode.STARTTLS
    make = server("STARTTLS", "AUTH=PLAIN")
    async with post(message(1), make=make, tls=tls, implicit_tls=is_implicit) as here:
        with pytest.raises(FetchFailure, match="certificate") as caught:
            await here.fetch(tls=mode, tls_ca=Authority(tmp_path).ca)
        assert caught.value.culprit is Culprit.TLS
        assert not any("AUTH" in line for server in here.servers for line in server.commands)


@pytest.mark.anyio
async def test_a_pinned_certificate_replaces_other_checks(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path).issue("elsewhere.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.chain, other.private_key)
    async with post(message(1), make=server("AUTH=PLAIN"), tls=context, implicit_tls=True) as here:
        assert (await here.fetch(tls=TlsMode.IMPLICIT, tls_fingerprint=other.fingerprint)).taken
        with pytest.raises(FetchFailure, match="fingerprint"):
            await here.fetch(tls=TlsMode.IMPLICIT, tls_fingerprint="0" * 64)


@pytest.mark.anyio
async def test_a_server_that_does_not_prove_itself_is_not_believed() -> None:
    believe = lambda step, subject: "OK in" if step == "AUTHENTICATE" else None  # noqa: E731
    async with post(message(1), make=server("AUTH=SCRAM-SHA-256", policy=believe)) as here:
        with pytest.raises(FetchFailure, match="has not shown that it knows the password"):
            await here.fetch(mechanisms=("SCRAM-SHA-256",))
