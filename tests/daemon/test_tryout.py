"""What `masqmail check --connect` finds out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from masqmail.config.fetch import FetchProtocol
from masqmail.daemon import tryout
from masqmail.daemon.tryout import Visit, try_all
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import Account, FetchFailure
from support.configuration import AS_USER, configuration

pytestmark = pytest.mark.anyio

ACCOUNT = """
[fetch.{name}]
protocol = "{protocol}"
server = "pop.{name}.example"
username = "ann"
password_file = "{folder}/secret"
"""
MULTIDROP = 'envelope_header = "Delivered-To"\nmultidrop_domains = ["home.example"]\ndeliver_to = "joe"\n'
NAMED, UNNAMED = b"Delivered-To: ann@home.example\r\n", b"To: ann@home.example\r\n"


class Server:
    """A server that lets in whoever knows its password, and has these messages."""

    def __init__(self, *headers: bytes, failure: str = "") -> None:
        self.headers = headers
        self.failure = failure
        self.is_closed = False

    async def probe(self, account: Account) -> Sequence[bytes]:
        assert account.credentials.password.reveal() == "sesame"
        if self.failure:
            raise FetchFailure(self.failure, Culprit.LOGIN)
        return self.headers

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[FetchProtocol, Any]:
    (tmp_path / "secret").write_text("sesame\n")
    found: dict[FetchProtocol, Any] = {}
    monkeypatch.setattr(tryout, "make_retriever", found.__getitem__)
    return found


async def tried(folder: Path, *settings: str, protocol: str = "pop3", name: str = "isp") -> Visit:
    text = ACCOUNT.format(name=name, protocol=protocol, folder=folder) + "".join(settings)
    (visit,) = await try_all(configuration(text, AS_USER))
    return visit


async def test_an_account_that_lets_us_in_is_fine(servers: Any, tmp_path: Path) -> None:
    servers[FetchProtocol.POP3] = Server()
    assert await tried(tmp_path) == Visit("fetch.isp", "pop.isp.example:995")
    assert servers[FetchProtocol.POP3].is_closed


async def test_a_refused_login_has_its_reason(servers: Any, tmp_path: Path) -> None:
    servers[FetchProtocol.IMAP] = Server(failure="refused the login")
    assert (await tried(tmp_path, protocol="imap")).reason == "refused the login"
    assert servers[FetchProtocol.IMAP].is_closed


async def test_a_password_that_is_not_there_has_its_reason(servers: Any, tmp_path: Path) -> None:
    servers[FetchProtocol.POP3] = Server()
    (tmp_path / "secret").unlink()
    assert "cannot read the password" in (await tried(tmp_path)).reason


async def test_what_cannot_be_tried_is_said(servers: Any, tmp_path: Path) -> None:
    servers[FetchProtocol.ODMR] = object()
    visit = await tried(tmp_path, 'multidrop_domains = ["home.example"]\n', protocol="odmr")
    assert (visit.reason, visit.advice, visit.was_tried) == ("", "only a fetch can show whether it works", False)


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        ((), "there is no message that could be looked at for Delivered-To"),
        ((NAMED, NAMED), ""),
        (
            (UNNAMED, UNNAMED),
            "none of 2 messages there has a recipient in Delivered-To; all mail goes to joe",
        ),
        (
            (UNNAMED, NAMED, UNNAMED),
            "only 1 of 3 messages there has a recipient in Delivered-To; the other mail goes to joe",
        ),
    ],
)
async def test_a_provider_that_records_no_envelope_is_noticed(
    servers: Any, tmp_path: Path, headers: tuple[bytes, ...], advice: str
) -> None:
    servers[FetchProtocol.POP3] = Server(*headers)
    visit = await tried(tmp_path, MULTIDROP)
    assert (visit.reason, visit.advice) == ("", advice)


async def test_a_server_that_says_nothing_is_not_waited_for_as_long_as_mail_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(stream: SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    monkeypatch.setattr(tryout, "PATIENCE_SECONDS", 0.05)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, say_nothing)
        port = listener.extra(SocketAttribute.local_port)
        text = f'[routes.isp]\nsmarthost = "127.0.0.1:{port}"\ntls = "none"\n'
        (visit,) = await try_all(configuration(text, AS_USER))
        tasks.cancel_scope.cancel()
    assert (visit.section, visit.server) == ("routes.isp", f"127.0.0.1:{port}")
    assert visit.reason.startswith("it did not let us in within ")


async def test_a_smarthost_that_nobody_can_reach_has_its_reason() -> None:
    text = '[routes.gmx]\nsmarthost = ["127.0.0.1:1", "127.0.0.1:2"]\ntls = "none"\n'
    found = await try_all(configuration(text, AS_USER))
    assert [(visit.section, visit.server) for visit in found] == [
        ("routes.gmx", "127.0.0.1:1"),
        ("routes.gmx", "127.0.0.1:2"),
    ]
    assert all("refused" in visit.reason for visit in found)
