"""Mail programs of the local network as our clients: swaks, msmtp and Postfix, and `sendmail` on this host."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.authority import Authority, Certificate
from support.daemon import CONFIGURATION, Daemon
from support.mail import SENDER, complete_message, message, submit, without_trace
from support.peers import needs, wait_until
from support.ports import free_port
from support.postfix import Postfix, running_postfix

pytestmark = pytest.mark.peer

USER, PASSWORD = "ann", "open sesame"
#: A host of loopback that is not in `relay_networks`.
ELSEWHERE = "127.0.0.9"

SMTP_SETTINGS = """\
relay_networks = ["127.0.0.1/32"]
tls_listen = ["127.0.0.1:{tls_port}"]
certificate = "{certificate.chain}"
private_key = "{certificate.private_key}"
users = "{folder}/users"

"""

ROUTE = """\
[routes.everything]
links = ["always"]
smarthost = "127.0.0.1:{port}"
tls = "none"
"""


@pytest.fixture(scope="module")
def tls_port() -> int:
    """Where TLS begins at once."""
    return free_port()


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, postfix: Postfix, certificate: Certificate, tls_port: int
) -> Iterator[Daemon]:
    """Relays for 127.0.0.1 and for those who log in, to the Postfix of all tests."""
    folder = tmp_path_factory.mktemp("clients")
    port = free_port()
    server = SMTP_SETTINGS.format(tls_port=tls_port, certificate=certificate, folder=folder)
    text = CONFIGURATION.format(folder=folder, port=port).replace("\n[local]", server + "[local]")
    daemon = Daemon(folder, port=port, text=text + ROUTE.format(port=postfix.port))
    daemon.set_password(USER, PASSWORD)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def letter(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, bytes, Path]:
    """This test's name, a message with that identity, and a file with it for swaks, which adds a line end."""
    name = re.sub(r"\W+", "-", request.node.name)
    content = complete_message(name, b"Hello.\n.\n..dots\n" + "Grüße\n".encode())
    (tmp_path / "letter").write_bytes(content.removesuffix(b"\n"))
    return name, content, tmp_path / "letter"


def swaks(daemon: Daemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """One run of swaks, with its transcript in stdout."""
    needs("swaks")
    command = ["swaks", "--server", f"127.0.0.1:{daemon.port}", "--from", SENDER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def run_swaks(daemon: Daemon, letter: Path, *arguments: str) -> str:
    done = swaks(daemon, "--to", "ann@example.net", "--data", f"@{letter}", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [[], ["--pipeline"]], ids=["lockstep", "pipelined"])
def test_swaks_sends(daemon: Daemon, postfix: Postfix, letter: tuple[str, bytes, Path], options: list[str]) -> None:
    name, content, file = letter
    transcript = run_swaks(daemon, file, *options)
    assert re.search(r"^ *<-  250 2\.0\.0 Safe on disk, id=\w+", transcript, re.MULTILINE)
    assert without_trace(postfix.wait_for_copy(name)) == content


def test_swaks_sends_to_several_recipients_in_a_pipeline(daemon: Daemon, postfix: Postfix) -> None:
    content = "Subject: pipeline\\nX-Test: swaks-several\\n\\ntext\\n"
    done = swaks(daemon, "--pipeline", "--to", "a@example.net,b@example.net,c@example.net", "--data", content)
    assert done.returncode == 0, done.stdout
    wait_until(lambda: len(postfix.copies("swaks-several")) == 3, "all three copies")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_logs_in_over_starttls_from_elsewhere(
    daemon: Daemon, postfix: Postfix, authority: Authority, letter: tuple[str, bytes, Path], mechanism: str
) -> None:
    name, content, file = letter
    tls = ["--tls", "--tls-verify", "--tls-ca-path", str(authority.ca)]
    login = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD]
    run_swaks(daemon, file, *tls, *login, "--local-interface", ELSEWHERE)
    arrived = postfix.wait_for_copy(name)
    assert without_trace(arrived) == content
    assert b"with ESMTPSA" in arrived


def test_swaks_speaks_tls_from_the_first_byte(
    daemon: Daemon, postfix: Postfix, authority: Authority, letter: tuple[str, bytes, Path], tls_port: int
) -> None:
    name, content, file = letter
    tls = ["--tls-on-connect", "--tls-verify", "--tls-ca-path", str(authority.ca)]
    run_swaks(daemon, file, "--server", f"127.0.0.1:{tls_port}", *tls)
    arrived = postfix.wait_for_copy(name)
    assert without_trace(arrived) == content
    assert b"with ESMTPS\n" in arrived


def test_swaks_is_not_let_in_with_a_wrong_password(daemon: Daemon) -> None:
    done = swaks(
        daemon, "--to", "ann@example.net", "--auth", "PLAIN", "--auth-user", USER, "--auth-password", "guess"
    )
    assert done.returncode == 28  # swaks: authentication failed
    assert "535 5.7.8" in done.stdout


def test_nobody_relays_from_elsewhere_without_a_login(daemon: Daemon) -> None:
    done = swaks(daemon, "--to", "ann@example.net", "--local-interface", ELSEWHERE)
    assert done.returncode == 24  # swaks: no recipient was accepted
    assert re.search(r"<\*\* 55\d 5\.7\.1", done.stdout), done.stdout


def test_everybody_may_write_to_this_host(daemon: Daemon) -> None:
    done = swaks(
        daemon, "--to", "root@laptop.example.org", "--local-interface", ELSEWHERE, "--h-Subject", "from afar"
    )
    assert done.returncode == 0, done.stdout
    wait_until(lambda: [mail for mail in daemon.mailbox() if b"Subject: from afar" in mail], "the message")
    unknown = swaks(daemon, "--to", "nobody-at-all@laptop.example.org", "--local-interface", ELSEWHERE)
    assert "550 5.1.1" in unknown.stdout


def msmtp(daemon: Daemon, letter: bytes, *arguments: str) -> None:
    needs("msmtp")
    place = ["--host=127.0.0.1", f"--port={daemon.port}", "--file=/dev/null", f"--from={SENDER}"]
    command = ["msmtp", *place, *arguments, "ann@example.net"]
    done = subprocess.run(command, input=letter, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_msmtp_sends_in_clear(daemon: Daemon, postfix: Postfix, letter: tuple[str, bytes, Path]) -> None:
    name, content, _ = letter
    msmtp(daemon, content, "--tls=off", "--auth=off")
    assert without_trace(postfix.wait_for_copy(name)) == content


@pytest.mark.parametrize("mechanism", ["plain", "login"])
def test_msmtp_logs_in_over_starttls(
    daemon: Daemon, postfix: Postfix, authority: Authority, letter: tuple[str, bytes, Path], mechanism: str
) -> None:
    name, content, _ = letter
    tls = ["--tls=on", "--tls-starttls=on", f"--tls-trust-file={authority.ca}"]
    login = [f"--auth={mechanism}", f"--user={USER}", f"--passwordeval=echo {PASSWORD}", f"--source-ip={ELSEWHERE}"]
    msmtp(daemon, content, *tls, *login)
    arrived = postfix.wait_for_copy(name)
    assert without_trace(arrived) == content
    assert b"with ESMTPSA" in arrived


@pytest.mark.parametrize("tls", ["none", "verify"])
def test_postfix_relays_through_us(
    daemon: Daemon, postfix: Postfix, authority: Authority, tmp_path: Path, tls: str
) -> None:
    settings = (
        f"virtual_mailbox_domains =\nrelayhost = [localhost]:{daemon.port}\n"
        "mynetworks = 127.0.0.0/8\nsmtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n"
        f"smtp_host_lookup = native\nsmtp_tls_security_level = {tls}\nsmtp_tls_CAfile = {authority.ca}\n"
    )
    names = [f"relayed-{tls}-{number}" for number in range(20)]
    with running_postfix(tmp_path, settings=settings) as client:
        submit(client.port, ["ann@example.net", "bob@example.net"], *map(complete_message, names))
        for name in names:
            wait_until(lambda name=name: len(postfix.copies(name)) == 2, f"both copies of {name}")
    for name in names:
        copies = postfix.copies(name)
        assert [without_trace(copy) for copy in copies] == [complete_message(name)] * 2
        assert all((b"with ESMTPS\n" in copy) == (tls == "verify") for copy in copies)


def test_sendmail_sends(daemon: Daemon, postfix: Postfix, letter: tuple[str, bytes, Path]) -> None:
    name, content, _ = letter
    done = daemon.sendmail("-i", "-f", SENDER, "ann@example.net", message=content)
    assert done.returncode == 0, done.stderr
    assert without_trace(postfix.wait_for_copy(name)) == content


def test_sendmail_takes_recipients_from_the_header_and_hides_blind_copies(daemon: Daemon, postfix: Postfix) -> None:
    done = daemon.sendmail("-t", "-i", message=b"Bcc: bob@example.net\n" + message("sendmail-t"))
    assert done.returncode == 0, done.stderr
    copies = wait_until(
        lambda: found if len(found := postfix.copies("sendmail-t")) == 2 else None, "the copies for ann and bob"
    )
    assert not any(b"\nBcc:" in copy for copy in copies)
