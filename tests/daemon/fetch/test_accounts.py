"""What a section of [fetch] means for those who speak to its server."""

import importlib.util
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from masqmail.config.fetch import FetchMechanism, FetchProtocol, FetchSection
from masqmail.daemon.fetch.accounts import (
    RETRIEVERS,
    Secrets,
    account_of,
    make_retriever,
    mechanisms_of,
    source_of,
)
from masqmail.daemon.secrets import SecretSource
from masqmail.net.session import TlsMemory, TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval.account import Account
from masqmail.settings import HostPort
from support.configuration import configuration

pytestmark = pytest.mark.anyio

SESAME = Secret("sesame")


def section(*settings: str, protocol: str = "pop3", secret: str = 'password_file = "/secret"') -> FetchSection:
    lines = (f'protocol = "{protocol}"', 'server = "pop.isp.example"', 'username = "ann"', secret, *settings)
    return configuration("[fetch.isp]\n" + "\n".join(lines) + "\n").fetch["isp"]


def test_an_account_says_all_that_its_section_does() -> None:
    found = account_of(
        section(
            'tls = "starttls"',
            'tls_ca = "/ca.pem"',
            'auth = ["apop"]',
            'keep = "7d"',
            'max_size = "1MB"',
            "max_messages = 10",
            'wrapper = ["ssh", "shore"]',
        ),
        SESAME,
    )
    assert found == Account(
        name="isp",
        server=HostPort("pop.isp.example", 110),
        credentials=Credentials("ann", SESAME),
        tls=TlsMode.STARTTLS,
        tls_ca=Path("/ca.pem"),
        mechanisms=("APOP",),
        keep=found.keep,
        max_size=1_000_000,
        max_messages=10,
        wrapper=("ssh", "shore"),
    )
    assert str(found.keep) == "7 days, 0:00:00"
    assert account_of(section('tls = "none"'), SESAME).clear_password
    assert account_of(section('folders = ["A", "B"]', protocol="imap"), SESAME).folders == ("A", "B")
    assert account_of(section('move_to = "A"', protocol="imap"), SESAME).move_to == "A"
    assert account_of(section(f'tls_fingerprint = "{"ab" * 32}"'), SESAME).tls_fingerprint == "ab" * 32


def test_each_option_of_an_account_has_its_setting() -> None:
    """A new field of `Account` that nobody fills in would be a setting without an effect."""
    known = {
        "name", "server", "credentials", "tls", "tls_ca", "tls_fingerprint", "mechanisms", "clear_password",
        "folders", "keep", "move_to", "max_size", "max_messages", "wrapper", "domains",
    }  # fmt: skip
    of_links = {"local_address", "time_scale"}
    assert {field.name for field in fields(Account)} - of_links <= known


@pytest.mark.parametrize(
    ("settings", "protocol", "secret", "ways"),
    [
        ((), "pop3", 'password_file = "x"', ()),
        (('auth = ["apop", "plain"]',), "pop3", 'password_file = "x"', ("APOP", "PLAIN", "USER")),
        (('auth = ["plain", "scram-sha-256"]',), "imap", 'password_file = "x"', ("PLAIN", "SCRAM-SHA-256")),
        (('auth = ["xoauth2", "plain"]',), "pop3", 'password_file = "x"', ("PLAIN", "USER")),
        ((), "imap", 'token_command = "token"', ("OAUTHBEARER", "XOAUTH2")),
        (('auth = ["plain", "xoauth2"]',), "imap", 'token_command = "token"', ("XOAUTH2",)),
    ],
)
def test_ways_to_log_in_fit_protocol_and_secret(
    settings: tuple[str, ...], protocol: str, secret: str, ways: tuple[str, ...]
) -> None:
    assert mechanisms_of(section(*settings, protocol=protocol, secret=secret)) == ways


@pytest.mark.parametrize("mechanism", FetchMechanism)
def test_every_word_of_auth_is_some_way_to_log_in(mechanism: FetchMechanism) -> None:
    is_token = mechanism in (FetchMechanism.XOAUTH2, FetchMechanism.OAUTHBEARER)
    secret = 'token_command = "token"' if is_token else 'password_file = "x"'
    assert mechanisms_of(section(f'auth = ["{mechanism.value}"]', secret=secret))


@pytest.mark.parametrize(
    ("secret", "source"),
    [
        ('password_file = "/x"', SecretSource(file=Path("/x"))),
        ('password_command = "pass show x"', SecretSource(command=("pass", "show", "x"))),
        ('password_credential = "x"', SecretSource(credential="x")),
    ],
)
def test_a_password_comes_from_where_the_section_says(secret: str, source: SecretSource) -> None:
    assert source_of(section(secret=secret)) == source


class Reader:
    """Gives another secret each time it is asked."""

    def __init__(self) -> None:
        self.asked: list[SecretSource] = []

    async def read(self, source: SecretSource) -> Secret:
        self.asked.append(source)
        return Secret(str(len(self.asked)))


async def test_a_password_is_kept_until_it_is_forgotten() -> None:
    reader = Reader()
    secrets, one = Secrets(reader.read), section()
    assert not secrets.is_known(one)
    assert [(await secrets.of(one)).reveal() for _ in range(3)] == ["1"] * 3
    assert secrets.is_known(one)
    secrets.forget("isp")
    assert (await secrets.of(one)).reveal() == "2"


async def test_a_token_is_asked_for_each_time() -> None:
    reader = Reader()
    secrets, one = Secrets(reader.read), section(secret='token_command = "token --new"')
    assert [(await secrets.of(one)).reveal() for _ in range(3)] == ["1", "2", "3"]
    assert reader.asked == [SecretSource(command=("token", "--new"))] * 3
    assert not secrets.is_known(one)


def test_every_protocol_has_somebody_who_speaks_it() -> None:
    assert set(RETRIEVERS) == set(FetchProtocol)
    there = {protocol for protocol, (module, _) in RETRIEVERS.items() if importlib.util.find_spec(module)}
    assert FetchProtocol.POP3 in there


def test_all_that_fetching_needs_can_be_loaded_before_root_is_given_up() -> None:
    script = (
        "import sys; from masqmail.config.fetch import FetchProtocol as P;"
        "from masqmail.daemon.fetch.accounts import load_modules; load_modules([P.POP3]); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"masqmail.daemon.fetch.fetcher", "masqmail.daemon.fetch.parcel", "masqmail.retrieval.pop3"} <= loaded
    assert "masqmail.daemon.poplogins" in loaded
    assert "masqmail.retrieval.imap" not in loaded


@pytest.mark.parametrize("protocol", [FetchProtocol.POP3, FetchProtocol.IMAP])
def test_those_who_speak_to_servers_share_what_is_known_of_tls(protocol: FetchProtocol) -> None:
    memory = TlsMemory()
    assert make_retriever(protocol, memory)._memory is memory  # type: ignore[attr-defined]
    assert make_retriever(protocol)._memory is not make_retriever(protocol)._memory  # type: ignore[attr-defined]
