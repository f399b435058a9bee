"""How each route speaks to its next hops."""

from typing import Any

import pytest

from masqmail.daemon.secrets import SecretError, SecretSource
from masqmail.daemon.transport import Transports
from masqmail.delivery.direct import Source
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import CLIENT_MECHANISMS, Secret
from masqmail.settings import HostPort
from support.configuration import configuration

pytestmark = pytest.mark.anyio

HOP = HostPort("mail.isp.example", 587)


def transports(settings: str, answer: Any = None) -> tuple[Transports, list[SecretSource]]:
    asked: list[SecretSource] = []

    async def read(source: SecretSource) -> Secret:
        asked.append(source)
        if isinstance(answer, Exception):
            raise answer
        return Secret("sesame")

    routes = configuration(f'[host]\nname = "gw.home.example"\n[routes.isp]\n{settings}').routes
    return Transports(routes, "gw.home.example", read), asked


@pytest.mark.parametrize(
    ("settings", "port", "mode"),
    [
        ("", 587, TlsMode.STARTTLS),
        ("", 465, TlsMode.IMPLICIT),
        ('tls = "none"', 465, TlsMode.NONE),
        ('tls = "opportunistic"', 25, TlsMode.OPPORTUNISTIC),
    ],
)
async def test_tls_is_what_was_written_or_what_the_port_says(settings: str, port: int, mode: TlsMode) -> None:
    found, _ = transports(f'smarthost = "mail.isp.example:{port}"\n{settings}')
    assert (await found.options("isp", HostPort("mail.isp.example", port))).tls is mode


async def test_a_password_is_read_once_and_kept_until_it_is_refused() -> None:
    found, asked = transports('smarthost = "mail.isp.example"\nusername = "ann"\npassword_file = "/etc/secret"')
    for _ in range(2):
        credentials = (await found.options("isp", HOP)).credentials
        assert credentials is not None and credentials.username == "ann"
    assert [str(source.file) for source in asked] == ["/etc/secret"]
    found.forget_secret("isp")
    await found.options("isp", HOP)
    assert len(asked) == 2


async def test_without_a_username_no_password_is_asked_for() -> None:
    found, asked = transports('smarthost = "mail.isp.example"')
    assert (await found.options("isp", HOP)).credentials is None
    assert asked == []


async def test_a_password_that_cannot_be_read_is_an_error_and_is_asked_for_again() -> None:
    found, asked = transports(
        'smarthost = "mail.isp.example"\nusername = "ann"\npassword_file = "/x"', SecretError("no")
    )
    for _ in range(2):
        with pytest.raises(SecretError):
            await found.options("isp", HOP)
    assert len(asked) == 2


@pytest.mark.parametrize(("settings", "is_clear"), [("", False), ('tls = "none"', True), ('tls = "starttls"', False)])
async def test_only_a_written_none_lets_a_password_go_in_clear(settings: str, is_clear: bool) -> None:
    found, _ = transports(f'smarthost = "mail.isp.example"\n{settings}')
    assert (await found.options("isp", HOP)).clear_password is is_clear


@pytest.mark.parametrize(
    ("settings", "sources"),
    [("", (Source.MX, Source.A)), ('resolve = ["hosts", "mx"]', (Source.HOSTS, Source.MX))],
)
async def test_hosts_are_looked_for_where_resolve_says(settings: str, sources: tuple[Source, ...]) -> None:
    found, _ = transports(f'deliver = "direct"\n{settings}')
    direct = found.direct("isp")
    assert direct.sources == sources
    assert direct.options.tls is TlsMode.OPPORTUNISTIC
    assert direct.options.credentials is None


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("", "gw.home.example"),
        ('helo = "other.example"', "other.example"),
        ('helo = "address"', None),
        ('helo = "address"\nwrapper = "nc shore 25"', "gw.home.example"),  # nobody knows the address behind it
    ],
)
async def test_the_name_to_greet_with(settings: str, name: str | None) -> None:
    found, _ = transports(f'smarthost = "mail.isp.example"\n{settings}')
    assert (await found.options("isp", HOP)).helo_name == name


async def test_a_wrapper_has_its_arguments_and_the_security_of_any_smarthost() -> None:
    found, _ = transports('smarthost = "shore.example"\nwrapper = "ssh -C \'two words\' $HOME"\nsend_first = true')
    options = await found.options("isp", HOP)
    assert options.wrapper == ("ssh", "-C", "two words", "$HOME")
    assert (options.tls, options.clear_password, options.send_first) == (TlsMode.STARTTLS, False, True)


@pytest.mark.parametrize(
    ("settings", "mechanisms"),
    [("", tuple(CLIENT_MECHANISMS)), ('auth = ["login", "cram-md5"]', ("LOGIN", "CRAM-MD5"))],
)
async def test_the_ways_to_log_in_are_those_written_in_the_order_written(
    settings: str, mechanisms: tuple[str, ...]
) -> None:
    found, _ = transports(f'smarthost = "mail.isp.example"\n{settings}')
    assert (await found.options("isp", HOP)).mechanisms == mechanisms
    assert set(mechanisms) <= set(CLIENT_MECHANISMS)
