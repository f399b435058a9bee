"""Dovecot as a provider's POP3 server: every way to log in, and a route that logs in before it sends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMemory, TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.pop3session import log_in
from masqmail.settings import HostPort
from support.authority import Authority, Certificate
from support.daemon import Daemon, smarthost_route
from support.dovecotpop import DovecotPop, running_dovecot_pop
from support.mail import message, submit
from support.peers import needs, wait_until
from support.postfix import Postfix

pytestmark = [pytest.mark.peer, pytest.mark.anyio]

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def pop(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[DovecotPop]:
    needs("dovecot")
    if not Path("/usr/lib/dovecot/pop3-login").exists():
        needs("Dovecot with POP3")
    users = {"ann": PASSWORD, "first": PASSWORD, "mistyped": PASSWORD}
    with running_dovecot_pop(tmp_path_factory.mktemp("pop"), certificate, users) as pop:
        yield pop


def account(pop: DovecotPop, authority: Authority, mode: TlsMode, *ways: str, password: str = PASSWORD) -> Account:
    return Account(
        name="ann",
        server=HostPort("127.0.0.1", pop.tls_port if mode is TlsMode.IMPLICIT else pop.port),
        tls=mode,
        tls_ca=authority.ca if mode is not TlsMode.NONE else None,
        credentials=Credentials("ann", Secret(password)),
        mechanisms=ways,
        clear_password=mode is TlsMode.NONE,
    )


WAYS = ["USER", "APOP", "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", ""]
MODES = [TlsMode.NONE, TlsMode.STARTTLS, TlsMode.IMPLICIT]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
async def test_dovecot_lets_us_in(pop: DovecotPop, authority: Authority, way: str, mode: TlsMode) -> None:
    before = pop.log.count("Login: user=<ann>")
    await log_in(account(pop, authority, mode, *filter(None, [way])), TlsMemory())
    wait_until(lambda: pop.log.count("Login: user=<ann>") > before, "the login in Dovecot's log")
    line = [line for line in pop.log.splitlines() if "Login: user=<ann>" in line][-1]
    methods = {"USER": "PLAIN", "": "SCRAM-SHA-256" if mode is TlsMode.NONE else "PLAIN"}
    assert f"method={methods.get(way, way)}," in line
    assert (", TLS" in line) is (mode is not TlsMode.NONE)


@pytest.mark.parametrize("way", WAYS)
async def test_dovecot_refuses_a_wrong_password(pop: DovecotPop, authority: Authority, way: str) -> None:
    wrong = account(pop, authority, TlsMode.STARTTLS, *filter(None, [way]), password="open barley")
    with pytest.raises(FetchFailure, match=r"refused the login of ann: \[AUTH\]") as caught:
        await log_in(wrong, TlsMemory())
    assert caught.value.culprit is Culprit.LOGIN


async def test_dovecot_notices_a_goodbye(pop: DovecotPop, authority: Authority) -> None:
    before = pop.log.count("Logged out")
    await log_in(account(pop, authority, TlsMode.STARTTLS), TlsMemory())
    wait_until(lambda: pop.log.count("Logged out") > before, "a clean end in Dovecot's log")


async def test_a_stranger_gets_no_password(pop: DovecotPop, tmp_path: Path) -> None:
    with pytest.raises(FetchFailure, match="certificate"):
        await log_in(account(pop, Authority(tmp_path), TlsMode.STARTTLS, "USER"), TlsMemory())


# --- the whole program


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, pop: DovecotPop, postfix: Postfix, authority: Authority
) -> Iterator[Daemon]:
    """Mail for first.test and mistyped.test goes to Postfix after a login at Dovecot."""
    folder = tmp_path_factory.mktemp("popbefore")
    (folder / "first").write_text(f"{PASSWORD}\n")
    (folder / "mistyped").write_text("open barley\n")
    more = ""
    for name in ("first", "mistyped"):
        more += smarthost_route(name, postfix.doors["afterpop"], 'tls = "none"', f'pop_before_smtp = "{name}"')
        more += (
            f'[fetch.{name}]\nprotocol = "pop3"\nserver = "127.0.0.1:{pop.port}"\ntls = "starttls"\n'
            f'tls_ca = "{authority.ca}"\nusername = "{name}"\npassword_file = "{folder}/{name}"\n'
            'interval = "manual"\n\n'
        )
    daemon = Daemon(folder, more)
    daemon.start()
    yield daemon
    daemon.stop()


def test_mail_goes_out_after_one_login(daemon: Daemon, pop: DovecotPop, postfix: Postfix) -> None:
    for number in (1, 2):
        submit(daemon.port, "ann@first.test", message(f"pop-{number}"))
        postfix.wait_for_copy(f"pop-{number}")
        daemon.wait_for_empty_queue()
    assert pop.log.count("Login: user=<first>") == 1


def test_a_wrong_password_pauses_the_route_until_it_is_corrected(
    daemon: Daemon, pop: DovecotPop, postfix: Postfix
) -> None:
    submit(daemon.port, "ann@mistyped.test", message("pop-mistyped"))
    wait_until(lambda: daemon.route("mistyped")["state"] == "paused", "a pause of the route")
    reason = daemon.route("mistyped")["reason"]
    assert "login to the account mistyped before sending" in reason
    assert "refused the login of mistyped: [AUTH]" in reason
    assert daemon.recipient("ann@mistyped.test")["attempts"] == 0
    (daemon.folder / "mistyped").write_text(f"{PASSWORD}\n")
    wait_until(lambda: daemon.masqmail("flush").returncode == 0 and not daemon.queue(), "an empty queue")
    postfix.wait_for_copy("pop-mistyped")
    assert pop.log.count("Login: user=<mistyped>") == 1


def test_the_status_shows_the_accounts(daemon: Daemon) -> None:
    first, _ = daemon.ask("status")["fetch"]
    assert first == {
        "name": "first",
        "state": "manual",
        "reason": "fetched when told to (`masqmail fetch first`); it is logged in to before mail is sent over first",
        "last_at": None,
        "next_at": None,
    }
