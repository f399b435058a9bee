"""A session with a POP3 server over real connections on loopback, and everything that can go wrong with it."""

import socket
import ssl
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from masqmail.mail.outcome import Culprit
from masqmail.net import session
from masqmail.net.session import TlsMemory, TlsMode
from masqmail.proto.pop3.session import REPLY_TIMES, Phase
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.pop3session import Visit, log_in
from masqmail.settings import HostPort
from masqmail.system import events
from support.popserver import PopServer
from support.scripted_server import DROP, Listener, listening

pytestmark = pytest.mark.anyio

ANN = Credentials("ann", Secret("sesame"))
NOWHERE = HostPort("nowhere.invalid", 110)
CLEAR = Account(
    name="ann", server=NOWHERE, credentials=ANN, tls=TlsMode.NONE, clear_password=True, mechanisms=("USER",)
)
SECURE = replace(CLEAR, tls=TlsMode.STARTTLS, clear_password=False)


def answering(**replies: str) -> PopServer:
    """A server with these replies at these steps."""
    return PopServer(policy=lambda step, _: replies.get(step.lower()), capabilities=("USER", "STLS"))


async def visit(listener: Listener, account: Account = CLEAR) -> list[str]:
    """What the server was told in a log-in that went well."""
    await log_in(replace(account, server=listener.address), TlsMemory())
    return listener.servers[-1].commands


async def failure(listener: Listener, account: Account = CLEAR) -> FetchFailure:
    with pytest.raises(FetchFailure) as caught:
        await log_in(replace(account, server=listener.address), TlsMemory())
    return caught.value


async def test_it_logs_in_and_says_goodbye() -> None:
    async with listening(answering) as listener:
        assert await visit(listener) == ["CAPA", "USER ann", "PASS sesame", "QUIT"]


async def test_it_tells_where_it_went_and_from_which_address() -> None:
    async with listening(answering) as listener:
        assert await log_in(replace(CLEAR, server=listener.address), TlsMemory()) == Visit(
            listener.address, "127.0.0.1"
        )


async def test_answers_may_come_byte_by_byte() -> None:
    async with listening(answering, slice_bytes=1) as listener:
        assert (await visit(listener))[-1] == "QUIT"


@pytest.mark.parametrize("reply", [DROP, "-ERR Busy", "220 What?", "+"])
async def test_what_happens_at_quit_does_not_matter(reply: str) -> None:
    async with listening(lambda: answering(quit=reply)) as listener:
        assert (await visit(listener))[-1] == "QUIT"


@pytest.mark.parametrize(
    ("step", "reply", "is_refused", "reason"),
    [
        ("pass", "-ERR Wrong", True, "refused the login of ann: Wrong"),
        ("pass", "-ERR [AUTH] Wrong", True, "refused the login of ann: [AUTH] Wrong"),
        ("pass", "-ERR [IN-USE] Busy", False, "cannot log ann in now: [IN-USE] Busy"),
        ("connect", "-ERR Go away", False, "refused the session: Go away"),
        ("pass", "250 Fine", False, "broke the protocol: its answer to the login is no reply"),
        ("connect", DROP, False, ": closed the connection"),
        ("pass", DROP, False, ": closed the connection"),
    ],
)
async def test_a_failure_says_why_and_whether_the_password_is_to_blame(
    step: str, reply: str, is_refused: bool, reason: str
) -> None:
    async with listening(lambda: answering(**{step: reply})) as listener:
        found = await failure(listener)
    assert str(found) == f"{listener.address}{'' if reason.startswith(':') else ' '}{reason}"
    assert (found.culprit is Culprit.LOGIN) is is_refused


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = HostPort("127.0.0.1", unused.getsockname()[1])
        with pytest.raises(FetchFailure, match="connection refused") as caught:
            await log_in(replace(CLEAR, server=nobody), TlsMemory())
    assert caught.value.culprit is Culprit.CONNECTION


async def test_a_server_that_says_nothing_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_TIME", timedelta(days=1))
    monkeypatch.setitem(REPLY_TIMES, Phase.GREETING, timedelta(days=1))
    async with listening(lambda: answering(capa="+OK")) as listener:  # and no end of the listing
        found = await failure(listener, replace(CLEAR, time_scale=0.001))
    assert str(found) == f"{listener.address}: no answer within 0.06 s (CAPA)"


async def test_the_trace_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(events.TRACE, "masqmail")
    async with listening(answering) as listener:
        await visit(listener)
    shown = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert any("CAPA" in line for line in shown)
    assert not any("sesame" in line or "ann" in line for line in shown)


async def test_a_password_that_the_server_repeats_is_in_no_reason_and_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(events.TRACE, "masqmail")
    async with listening(lambda: answering(**{"pass": "-ERR No sesame"})) as listener:
        found = await failure(listener)
    assert str(found) == f"{listener.address} refused the login of ann: No (hidden)"
    shown = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert any("-ERR No (hidden)" in line for line in shown)
    assert not any("sesame" in line for line in shown)


# --- a program in place of a connection

#: Says the lines of a server that knows everybody.
SERVER = """
import sys
print("+OK", flush=True, end="\\r\\n")
for line in sys.stdin:
    print("-ERR" if line.startswith("CAPA") else "+OK", flush=True, end="\\r\\n")
    if line.startswith("QUIT"):
        break
"""


async def test_a_wrapper_is_spoken_to_in_place_of_the_server() -> None:
    account = replace(CLEAR, wrapper=(sys.executable, "-c", SERVER))
    assert await log_in(account, TlsMemory()) is None


async def test_a_wrapper_that_fails_has_its_say() -> None:
    words = "import sys; sys.exit('no route to shore')"
    with pytest.raises(FetchFailure, match=r"ended with exit code 1: no route to shore$"):
        await log_in(replace(CLEAR, wrapper=(sys.executable, "-c", words)), TlsMemory())


async def test_a_wrapper_that_cannot_be_run_says_so() -> None:
    with pytest.raises(FetchFailure, match="cannot run /nowhere/nc: No such file or directory"):
        await log_in(replace(CLEAR, wrapper=("/nowhere/nc",)), TlsMemory())


# --- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_stls_is_verified_before_anybody_logs_in(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    async with listening(answering, tls=server_tls) as listener:
        told = await visit(listener, replace(SECURE, tls_ca=ca_file))
    assert told == ["CAPA", "STLS", "CAPA", "USER ann", "PASS sesame", "QUIT"]


async def test_implicit_tls_comes_before_the_greeting(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    account = replace(SECURE, tls=TlsMode.IMPLICIT, tls_ca=ca_file)
    async with listening(answering, tls=server_tls, implicit_tls=True) as listener:
        assert await visit(listener, account) == ["CAPA", "USER ann", "PASS sesame", "QUIT"]


@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_server_nobody_vouches_for_gets_no_password(server_tls: ssl.SSLContext, mode: TlsMode) -> None:
    async with listening(answering, tls=server_tls, implicit_tls=mode is TlsMode.IMPLICIT) as listener:
        found = await failure(listener, replace(SECURE, tls=mode))
    assert "certificate" in str(found) and found.culprit is Culprit.TLS
    assert all("ann" not in command for server in listener.servers for command in server.commands)


async def test_a_server_without_tls_gets_no_password() -> None:
    async with listening(PopServer) as listener:
        found = await failure(listener, SECURE)
    assert str(found) == f"{listener.address} does not offer STLS"
    assert listener.servers[0].commands == ["CAPA"]
