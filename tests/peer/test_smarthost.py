"""Postfix as a provider's smarthost, with TLS and a login that Dovecot checks; and when something is wrong."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.authority import Authority, Certificate
from support.daemon import Daemon, smarthost_route
from support.mail import complete_message, message, submit, without_trace
from support.peers import wait_until
from support.ports import free_port
from support.postfix import Postfix

pytestmark = pytest.mark.peer

USER, PASSWORD, WRONG = "ann", "open sesame", "open barley"

#: A session with nothing but these has betrayed no mail and no password.
HARMLESS = {"ehlo", "starttls", "quit", "commands"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smarthost")
    (folder / "right").write_text(f"{PASSWORD}\n")
    (folder / "wrong").write_text(f"{WRONG}\n")
    return folder


@pytest.fixture(scope="module")
def daemon(
    folder: Path, postfix: Postfix, authority: Authority, certificate: Certificate, other_certificate: Certificate
) -> Iterator[Daemon]:
    """Mail for DOOR.test goes through that door."""
    ours, theirs = f'tls_ca = "{authority.ca}"', f'tls_ca = "{Authority(folder / "stranger").ca}"'
    name = f'username = "{USER}"'
    login = [name, f'password_file = "{folder}/right"']
    routes = {
        "starttls": [ours],
        "clear": [ours, *login],
        "plain": [ours, *login, 'auth = ["plain"]'],
        "login": [ours, *login, 'auth = ["login"]'],
        "crammd5": [ours, *login, 'auth = ["cram-md5"]'],
        "implicit": [ours, *login, 'tls = "implicit"'],
        "mistyped": [ours, name, f'password_file = "{folder}/wrong"'],
        "othername": [ours, *login],
        "stranger": [theirs, *login],
        "pinned": [f'tls_fingerprint = "sha256:{other_certificate.fingerprint}"'],
        "resumed": [ours],
        "mispinned": [f'tls_fingerprint = "{other_certificate.fingerprint}"', *login],
    }
    more = "".join(smarthost_route(door, postfix.doors[door], *settings) for door, settings in routes.items())
    more += smarthost_route("failover", [free_port(), postfix.doors["untrusted"], postfix.doors["failover"]], ours)
    daemon = Daemon(folder, '[log]\nlevel = "debug"\n\n' + more)
    daemon.start()
    yield daemon
    daemon.stop()


def paused(daemon: Daemon, route: str) -> Any:
    """What the status says of a route, once it is paused."""

    def find() -> Any:
        found = daemon.route(route)
        return found if found["state"] == "paused" else None

    return wait_until(find, f"a pause of route {route}")


@pytest.mark.parametrize("door", ["starttls", "pinned"])
def test_mail_goes_through_starttls_to_a_server_with_the_right_certificate(
    daemon: Daemon, postfix: Postfix, door: str
) -> None:
    content = complete_message(f"tls-{door}")
    submit(daemon.port, f"ann@{door}.test", content)
    assert without_trace(postfix.wait_for_copy(f"tls-{door}")) == content
    session = postfix.session(door)
    assert session["starttls"] == 1
    assert session["ehlo"] == 2  # RFC 3207 §4.2


def test_the_next_connection_resumes_the_tls_session(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, "ann@resumed.test", message("resumed-1"))
    postfix.wait_for_copy("resumed-1")
    postfix.session("resumed")
    reused = re.compile(r"postfix/resumed/smtpd.*: Reusing old session")
    assert not reused.search(postfix.log)
    submit(daemon.port, "ann@resumed.test", message("resumed-2"))
    postfix.wait_for_copy("resumed-2")
    wait_until(lambda: reused.search(postfix.log), "a session that was resumed, in Postfix's log")
    assert postfix.connections("resumed") == 2


def test_mail_goes_to_the_first_smarthost_that_is_there_and_can_be_trusted(daemon: Daemon, postfix: Postfix) -> None:
    """Nobody listens at the first of three, and the second is somebody else."""
    for name in ("failover-1", "failover-2"):
        content = complete_message(name)
        submit(daemon.port, "ann@failover.test", content)
        assert without_trace(postfix.wait_for_copy(name)) == content
    assert "postfix/failover/smtpd" in postfix.log
    assert daemon.route("failover")["state"] == "ready"
    assert postfix.session("untrusted").keys() <= HARMLESS, "asked once, and paused"


@pytest.mark.parametrize("door", ["plain", "login", "crammd5"])
def test_each_mechanism_logs_in_under_tls(daemon: Daemon, postfix: Postfix, door: str) -> None:
    submit(daemon.port, f"ann@{door}.test", message(f"auth-{door}"))
    postfix.wait_for_copy(f"auth-{door}")
    (method, user) = wait_until(lambda: logins(postfix, door), "the login in Postfix's log")[0]
    assert method.replace("-", "").lower() == door
    assert user == USER


def logins(postfix: Postfix, door: str) -> list[tuple[str, str]]:
    """Mechanism and user of each message that came in at a door."""
    return re.findall(rf"postfix/{door}/smtpd.* sasl_method=(\S+), sasl_username=(\S+)", postfix.log)


def test_implicit_tls_with_the_best_mechanism_offered(daemon: Daemon, postfix: Postfix) -> None:
    content = complete_message("implicit")
    submit(daemon.port, "ann@implicit.test", content)
    assert without_trace(postfix.wait_for_copy("implicit")) == content
    assert "starttls" not in postfix.session("implicit")
    assert logins(postfix, "implicit")


def test_a_wrong_password_pauses_the_route_until_it_is_corrected(
    daemon: Daemon, postfix: Postfix, folder: Path
) -> None:
    submit(daemon.port, "ann@mistyped.test", message("mistyped"))
    assert "535" in paused(daemon, "mistyped")["reason"]
    waiting = daemon.recipient("ann@mistyped.test")
    assert waiting["state"] == "queued"
    assert waiting["attempts"] == 0
    assert "535" in waiting["reason"]

    (folder / "wrong").write_text(f"{PASSWORD}\n")
    assert daemon.masqmail("flush", "--wait", "--route", "mistyped").returncode == 0
    postfix.wait_for_copy("mistyped")
    assert daemon.route("mistyped")["state"] == "ready"


@pytest.mark.parametrize(
    ("door", "reason"),
    [
        ("othername", "issued for another name than 127.0.0.1"),
        ("stranger", "comes from a CA that is not trusted"),
        ("mispinned", "fingerprint"),
        ("clear", "TLS"),
    ],
)
def test_nothing_is_betrayed_to_a_server_that_may_be_another(
    daemon: Daemon, postfix: Postfix, door: str, reason: str
) -> None:
    submit(daemon.port, f"ann@{door}.test", message(f"tls-{door}"))
    assert reason in paused(daemon, door)["reason"]
    waiting = daemon.recipient(f"ann@{door}.test")
    assert (waiting["state"], waiting["attempts"]) == ("queued", 0)
    assert reason in waiting["reason"]
    assert postfix.session(door).keys() <= HARMLESS
    assert not postfix.copies(f"tls-{door}")


def test_no_password_is_in_the_debug_log(daemon: Daemon, postfix: Postfix) -> None:
    submit(daemon.port, "ann@implicit.test", message("quiet"))
    postfix.wait_for_copy("quiet")
    log = daemon.log.read_text()
    assert "AUTH" in log
    for password in (PASSWORD, WRONG):
        plain = base64.b64encode(f"\0{USER}\0{password}".encode()).decode()
        alone = base64.b64encode(password.encode()).decode()
        assert not any(secret in log for secret in (password, plain, alone))
