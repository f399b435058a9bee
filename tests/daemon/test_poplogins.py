"""Routes with `pop_before_smtp`: when an account is logged in to, and what a failure of that does."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from masqmail.config.fetch import FetchSection
from masqmail.daemon.poplogins import FAILURE_SECONDS, LOGIN_SECONDS, PopLogins, account_before, address_towards_peer
from masqmail.daemon.secrets import SecretError
from masqmail.daemon.serve import parent_settings_of
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account, FetchFailure
from masqmail.retrieval.pop3session import Visit
from masqmail.settings import HostPort
from masqmail.spool.states import State
from support.assembly import BACKUP_HOP, HOP, MINUTE, Assembly, rules, smarthost
from support.configuration import configuration

pytestmark = pytest.mark.anyio

ACCOUNT = '[fetch.isp]\nprotocol = "pop3"\nserver = "pop.isp.example"\nusername = "ann"\npassword_file = "/secret"\n'
POP = HostPort("pop.isp.example", 995)
ANN = Credentials("ann", Secret("sesame"))
OPTIONS = Options("gw.home.example")
PREFIX = "login to the account isp before sending: "


def account(more: str = "") -> FetchSection:
    return configuration(ACCOUNT + more).fetch["isp"]


class Provider:
    """A POP3 server as `PopLogins` sees it, with a clock and an address that the test sets."""

    def __init__(self) -> None:
        self.visits: list[Account] = []
        self.failure: FetchFailure | None = None
        self.now = 0.0
        self.address = "192.0.2.1"

    async def log_in(self, account: Account, memory: Memory) -> Visit | None:
        assert account.server == POP
        self.visits.append(account)
        await anyio.lowlevel.checkpoint()
        if self.failure:
            raise self.failure
        return Visit(HostPort("198.51.100.7", 995), self.address) if self.address else None

    def logins(self, read_secret: Any, **changes: Any) -> PopLogins:
        values = {"boottime": lambda: self.now, "address_towards": lambda peer: self.address, **changes}
        return PopLogins({"isp": account()}, read_secret, Memory(), log_in=self.log_in, **values)


class Passwords:
    """Reads a password as often as it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def read(self, source: object) -> Secret:
        self.asked += 1
        return Secret(f"password {self.asked}")


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def passwords() -> Passwords:
    return Passwords()


async def test_a_login_counts_for_a_while(provider: Provider, passwords: Passwords) -> None:
    logins = provider.logins(passwords.read)
    for provider.now in (0.0, LOGIN_SECONDS - 1):
        await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 1
    provider.now = LOGIN_SECONDS
    await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 2
    assert passwords.asked == 1


async def test_a_token_is_asked_for_at_each_login(provider: Provider, passwords: Passwords) -> None:
    section = configuration(ACCOUNT.replace("password_file", "token_command")).fetch["isp"]
    logins = PopLogins(
        {"isp": section}, passwords.read, Memory(), log_in=provider.log_in, boottime=lambda: provider.now
    )
    for provider.now in (0.0, LOGIN_SECONDS):
        await logins.ensure("isp", OPTIONS)
    assert [visit.credentials.password.reveal() for visit in provider.visits] == ["password 1", "password 2"]
    assert provider.visits[0].mechanisms == ("OAUTHBEARER", "XOAUTH2")


async def test_lanes_that_come_together_log_in_once(provider: Provider, passwords: Passwords) -> None:
    logins = provider.logins(passwords.read)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(logins.ensure, "isp", OPTIONS)
    assert len(provider.visits) == 1


async def test_another_address_of_ours_needs_another_login(provider: Provider, passwords: Passwords) -> None:
    logins = provider.logins(passwords.read)
    await logins.ensure("isp", OPTIONS)
    provider.address = "192.0.2.2"
    await logins.ensure("isp", OPTIONS)
    await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 2


async def test_a_login_through_a_wrapper_counts_as_long(provider: Provider, passwords: Passwords) -> None:
    provider.address = ""
    logins = provider.logins(passwords.read)
    await logins.ensure("isp", OPTIONS)
    await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 1


async def test_a_login_that_the_smarthost_does_not_believe_is_done_anew(
    provider: Provider, passwords: Passwords
) -> None:
    logins = provider.logins(passwords.read)
    logins.forget("isp")
    await logins.ensure("isp", OPTIONS)
    logins.forget("isp")
    await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 2


@pytest.mark.parametrize(("culprit", "passwords_read"), [(Culprit.LOGIN, 2), (Culprit.SESSION, 1)])
async def test_only_a_refused_password_is_read_again(
    provider: Provider, passwords: Passwords, culprit: Culprit, passwords_read: int
) -> None:
    logins = provider.logins(passwords.read)
    provider.failure = FetchFailure("no", culprit)
    with pytest.raises(FetchFailure, match=f"^{PREFIX}no$"):
        await logins.ensure("isp", OPTIONS)
    provider.failure = None
    provider.now = FAILURE_SECONDS
    await logins.ensure("isp", OPTIONS)
    assert passwords.asked == passwords_read


async def test_a_failure_is_not_repeated_at_once(provider: Provider, passwords: Passwords) -> None:
    logins = provider.logins(passwords.read)
    provider.failure = FetchFailure("no", Culprit.LOGIN)
    for _ in range(2):
        with pytest.raises(FetchFailure):
            await logins.ensure("isp", OPTIONS)
    assert len(provider.visits) == 1


@pytest.mark.parametrize(
    ("more", "mode", "ways", "is_clear"),
    [
        ("", TlsMode.IMPLICIT, (), False),
        ('tls = "starttls"', TlsMode.STARTTLS, (), False),
        ('tls = "none"', TlsMode.NONE, (), True),
        (
            'auth = ["apop", "plain", "scram-sha-1"]',
            TlsMode.IMPLICIT,
            ("APOP", "PLAIN", "USER", "SCRAM-SHA-1"),
            False,
        ),
        ('auth = ["cram-md5", "login"]', TlsMode.IMPLICIT, ("CRAM-MD5", "LOGIN"), False),
    ],
)
def test_options_are_those_of_the_account(more: str, mode: TlsMode, ways: tuple[str, ...], is_clear: bool) -> None:
    found = account_before(account(more), ANN.password, OPTIONS)
    assert (found.tls, found.mechanisms, found.clear_password) == (mode, ways, is_clear)
    assert found.credentials == ANN


def test_the_login_goes_the_way_of_the_mail_that_follows() -> None:
    slow = replace(OPTIONS, time_scale=3.0, local_address="192.0.2.9", tls_fingerprint="ab" * 32)
    slow = replace(slow, wrapper=("ssh", "shore"))
    found = account_before(account(), ANN.password, slow)
    assert found.wrapper == ()
    assert account_before(account('wrapper = ["nc", "x", "110"]'), ANN.password, slow).wrapper == ("nc", "x", "110")
    assert (found.time_scale, found.local_address, found.tls_fingerprint) == (3.0, "192.0.2.9", "")


@pytest.mark.parametrize(("peer", "ours"), [("127.0.0.1", "127.0.0.1"), ("no address", "")])
def test_our_own_address_is_asked_of_the_system(peer: str, ours: str) -> None:
    assert address_towards_peer(HostPort(peer, 110)) == ours


def test_the_privileged_parent_may_open_the_password_of_an_account() -> None:
    assert parent_settings_of(configuration(ACCOUNT)).secret_files == ("/secret",)


# --- with scheduler, lanes and pauses


def gateway(provider: Provider, *hops: HostPort) -> Assembly:
    """A daemon whose route logs in first."""
    daemon = Assembly(rules(smarthost(), hops=hops or (HOP,)))
    daemon.lanes.transports = daemon.transports(pop_before_smtp="isp")
    daemon.lanes.transports.pop_logins = provider.logins(daemon._read_secret, boottime=daemon.clock.boottime)
    return daemon


async def test_a_route_logs_in_once_before_it_sends_what_comes_within_minutes(provider: Provider) -> None:
    async with gateway(provider).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        await daemon.accept("m2", "bob@far.example")
        assert (len(provider.visits), len(daemon.peers.taken)) == (1, 2)
        await daemon.advance(6 * MINUTE)
        await daemon.accept("m3", "bob@far.example")
        assert (len(provider.visits), len(daemon.peers.taken)) == (2, 3)


async def test_a_login_that_fails_pauses_the_route_until_it_succeeds_and_no_message_pays(provider: Provider) -> None:
    provider.failure = FetchFailure("pop.isp.example:995 refused the login of ann: Wrong", Culprit.LOGIN)
    async with gateway(provider, HOP, BACKUP_HOP).running() as daemon:
        await daemon.accept("m1", "bob@far.example")
        assert daemon.peers.calls == []
        assert daemon.scheduler.paused_routes()["isp"] == PREFIX + str(provider.failure)
        (recipient,) = daemon.recipients()
        assert (recipient.state, recipient.attempts) == (State.QUEUED, 0)
        assert len(provider.visits) == 1, "the second smarthost would get the same answer"
        provider.failure = None
        await daemon.advance(MINUTE)
        assert len(daemon.peers.taken) == 1
        assert daemon.secrets_read == 2
        assert daemon.scheduler.paused_routes() == {}


async def test_a_server_of_the_account_that_is_away_bounces_nothing(provider: Provider) -> None:
    provider.failure = FetchFailure("cannot connect to pop.isp.example:995: connection refused")
    daemon = gateway(provider)
    daemon.directory.rules = rules(smarthost(fails_on_connect_error=True))
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert daemon.states() == [State.QUEUED]
        assert daemon.reports() == []


async def test_a_password_that_cannot_be_read_pauses_the_route(provider: Provider) -> None:
    daemon = gateway(provider)
    daemon.secret = SecretError("cannot read the password in /secret: Permission denied")
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert provider.visits == []
        assert daemon.scheduler.paused_routes()["isp"] == str(daemon.secret)


async def test_a_smarthost_that_wants_a_login_has_the_account_logged_in_to_again(provider: Provider) -> None:
    daemon = gateway(provider)
    daemon.peers.ends[HOP.host] = SessionEnd(Culprit.LOGIN, "550 log in by POP first")
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        daemon.peers.ends.clear()
        await daemon.advance(MINUTE)
        assert (len(provider.visits), len(daemon.peers.taken)) == (2, 1)


async def test_other_routes_log_in_to_nothing(provider: Provider) -> None:
    daemon = gateway(provider)
    daemon.lanes.transports = daemon.transports()
    async with daemon.running():
        await daemon.accept("m1", "bob@far.example")
        assert provider.visits == []
