"""The configurations of four small senders, which send all mail to smarthosts."""

import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.importing.dma import import_dma
from masqmail.importing.migration import Files, Outcome
from masqmail.importing.msmtp import import_msmtp
from masqmail.importing.nullmailer import import_nullmailer
from masqmail.importing.ssmtp import import_ssmtp
from support.imported import NOT_YET, MemoryFiles, faults_of, lines_about

MSMTPRC = """\
# my accounts
defaults
tls on
tls_trust_file /etc/ssl/certs/ca-certificates.crt
logfile ~/.msmtp.log

account work
host smtp.work.example
port 587
from ann@work.example
auth on
user ann
passwordeval pass show work

account home
host smtp.isp.example
tls_starttls off
from ann@isp.example
auth login
user "ann.b"
password "home secret"
domain laptop.example

account idle : work
host idle.example
from

account default : home
"""

SSMTP = """\
root=admin@isp.example
mailhub=smtp.isp.example:587
hostname=box.home.example
rewriteDomain=isp.example
FromLineOverride=YES
UseTLS=YES
UseSTARTTLS=YES
AuthUser=box
AuthPass=box secret
AuthMethod=LOGIN
"""

REVALIASES = "# who is who\nann:ann.b@isp.example:smtp.isp.example\nroot:admin@isp.example\n"

REMOTES = """\
# two ways
smtp.isp.example smtp --port=465 --ssl --user=box --pass='box secret' --auth-login
backup.example smtp --insecure --starttls --odd=1
"""

DMA = """\
# the smarthost
SMARTHOST smtp.isp.example
PORT 587
ALIASES /etc/aliases
SECURETRANSFER
STARTTLS
AUTHPATH /etc/dma/auth.conf
MAILNAME /etc/mailname
MASQUERADE ann@isp.example
SPOOLDIR /var/spool/dma
"""


def msmtp(text: str = MSMTPRC) -> Outcome:
    return import_msmtp("/etc/msmtprc", MemoryFiles({"/etc/msmtprc": text}))


def ssmtp(text: str = SSMTP) -> Outcome:
    return import_ssmtp(
        "/etc/ssmtp/ssmtp.conf", MemoryFiles({"/etc/ssmtp/ssmtp.conf": text, "/etc/ssmtp/revaliases": REVALIASES})
    )


def nullmailer(text: str = REMOTES, administrators: str = "admin@isp.example") -> Outcome:
    files = {
        "remotes": text,
        "me": "box\n",
        "defaultdomain": "home.example\n",
        "adminaddr": f"{administrators}\n",
        "pausetime": "60\n",
    }
    return import_nullmailer(
        "/etc/nullmailer", MemoryFiles({f"/etc/nullmailer/{name}": content for name, content in files.items()})
    )


def dma(text: str = DMA) -> Outcome:
    files = {"/etc/dma/dma.conf": text, "/etc/mailname": "box.home.example\n"}
    files["/etc/dma/auth.conf"] = "ann|smtp.isp.example:dma secret\nother|h.example:x\n"
    return import_dma("/etc/dma/dma.conf", MemoryFiles(files))


def document(outcome: Outcome) -> dict[str, Any]:
    return tomllib.loads(outcome.toml)


ALL = [msmtp, ssmtp, nullmailer, dma]


@pytest.mark.parametrize("read", ALL)
def test_the_outcome_loads(read: Callable[[], Outcome]) -> None:
    assert [fault for fault in faults_of(read()) if NOT_YET not in fault] == []


@pytest.mark.parametrize("read", ALL)
def test_secrets_are_kept_apart(read: Callable[[], Outcome]) -> None:
    outcome = read()
    [secret] = outcome.secrets.values()
    assert secret.endswith(" secret\n")
    assert secret.strip() not in outcome.toml + "".join(map(str, outcome.notes))


def test_accounts_of_msmtp_become_routes_by_their_senders() -> None:
    routes = document(msmtp())["routes"]
    assert list(routes) == ["work", "home"]
    assert routes["work"] == {
        "smarthost": ["smtp.work.example:587"],
        "tls": "starttls",
        "username": "ann",
        "password_command": ["pass", "show", "work"],
        "senders": ["ann@work.example"],
    }
    assert routes["home"] == {
        "smarthost": ["smtp.isp.example:465"],
        "tls": "implicit",
        "username": "ann.b",
        "password_file": "home.secret",
        "auth": ["login"],
        "helo": "laptop.example",
        "rewrite": {"all": {"*": "ann@isp.example"}},
    }
    assert lines_about(msmtp(), "[routes.idle]")
    assert lines_about(msmtp(), "logfile")


def test_ssmtp_becomes_one_route_with_the_names_of_its_users() -> None:
    outcome = ssmtp()
    found = document(outcome)
    assert found["host"]["name"] == "box.home.example"
    assert found["routes"]["mailhub"] == {
        "smarthost": ["smtp.isp.example:587"],
        "tls": "starttls",
        "username": "box",
        "password_file": "mailhub.secret",
        "auth": ["login"],
        "rewrite": {"all": {"ann": "ann.b@isp.example", "root": "admin@isp.example", "*": "*@isp.example"}},
    }
    assert outcome.files == {"masqmail.aliases": "root: admin@isp.example\npostmaster: admin@isp.example\n"}
    assert lines_about(outcome, "FromLineOverride")


def test_remotes_of_nullmailer_become_routes_in_their_order() -> None:
    outcome = nullmailer()
    found = document(outcome)
    assert found["host"]["name"] == "box.home.example"
    assert found["routes"] == {
        "smtp.isp.example": {
            "smarthost": ["smtp.isp.example:465"],
            "tls": "implicit",
            "username": "box",
            "password_file": "smtp.isp.example.secret",
            "auth": ["login"],
        },
        "backup.example": {"smarthost": ["backup.example:25"], "tls": "starttls"},
    }
    assert outcome.files == {"masqmail.aliases": "*: admin@isp.example\n"}
    for name in ("pausetime", "insecure", "odd", "defaultdomain", "adminaddr"):
        assert lines_about(outcome, name), name


def test_every_administrator_of_nullmailer_gets_the_mail() -> None:
    outcome = nullmailer(administrators="admin@isp.example, nobody,ann@isp.example")
    assert outcome.files == {"masqmail.aliases": "*: admin@isp.example, ann@isp.example\n"}
    assert document(outcome)["host"]["postmaster"] == "admin@isp.example"
    assert '"nobody" is no address with a domain' in "".join(lines_about(outcome, "adminaddr"))


def test_the_name_of_dma_may_stand_in_a_file_that_is_missing() -> None:
    assert "cannot be read" in "".join(lines_about(dma("MAILNAME /etc/other\n"), "MAILNAME"))


def test_dma_finds_its_login_by_the_smarthost() -> None:
    outcome = dma()
    found = document(outcome)
    assert found["host"]["name"] == "box.home.example"
    assert found["routes"]["smarthost"] == {
        "smarthost": ["smtp.isp.example:587"],
        "tls": "starttls",
        "username": "ann",
        "password_file": "smarthost.secret",
        "rewrite": {"all": {"*": "ann@isp.example"}},
    }
    assert lines_about(outcome, "SPOOLDIR")
    assert lines_about(outcome, "h.example")


def test_a_password_never_goes_in_clear_by_itself() -> None:
    text = "account default\nhost smtp.isp.example\nauth on\nuser a\npassword b\n"
    assert document(msmtp(text))["routes"]["default"]["tls"] == "starttls"


def test_a_configuration_without_accounts_is_one_account() -> None:
    assert list(document(msmtp("host h.example\n"))["routes"]) == ["default"]


@settings(deadline=None)
@given(st.text(alphabet='ab=:|# "\n-.\\<@\0ü', max_size=60), st.sampled_from([msmtp, ssmtp, nullmailer, dma]))
def test_any_text_gives_a_file_that_loads(text: str, read: Callable[[str], Outcome]) -> None:
    words = {"msmtp": "account a\nhost ", "ssmtp": "mailhub=", "nullmailer": "", "dma": "SMARTHOST "}
    outcome = read(words[read.__name__] + text)
    assert [fault for fault in faults_of(outcome) if NOT_YET not in fault] == []


@pytest.mark.parametrize(
    "read",
    [
        lambda files: import_msmtp("/x", files),
        lambda files: import_ssmtp("/x", files),
        lambda files: import_nullmailer("/x", files),
        lambda files: import_dma("/x", files),
    ],
)
def test_a_file_that_is_not_there_is_told(read: Callable[[Files], Outcome]) -> None:
    with pytest.raises(FileNotFoundError):
        read(MemoryFiles({}))
