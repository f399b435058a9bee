"""The commands against the real daemon, as people type them."""

import hashlib
import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masqmail.proto.sasl import verify_password
from support.anotheruser import run_as
from support.daemon import CONFIGURATION, Daemon, smarthost_route
from support.mail import message
from support.peers import wait_until
from support.receiver import Receiver, running_receiver

pytestmark = pytest.mark.slow

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that other users of this host may enter."""
    path = Path(tempfile.mkdtemp(prefix="masqmail-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def running(receiver: Receiver, folder: Path) -> Iterator[Daemon]:
    more = smarthost_route("good", receiver.port, 'tls = "none"', link="line")
    more += smarthost_route("bad", 1, 'tls = "none"')
    daemon = Daemon(folder / "daemon", more + '[routes.good.rewrite]\nreturn_path = { "*" = "me@good.test" }\n')
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def daemon(running: Daemon) -> Iterator[Daemon]:
    """The daemon with an empty queue, and its link down."""
    yield running
    running.masqmail("queue", "remove", "--all")
    running.masqmail("link", "auto", "line")


def _send(daemon: Daemon, *recipients: str, body: bytes = b"It works.\n", options: tuple[str, ...] = ()) -> str:
    """Submits a message and returns its queue ID."""
    before = {item["id"] for item in daemon.queue()}
    sent = daemon.sendmail("-i", *options, *recipients, message=message("x", body))
    assert sent.returncode == 0, sent.stderr
    [queue_id] = {item["id"] for item in daemon.queue()} - before
    return str(queue_id)


def _keys(document: Any) -> Any:
    return set(document)


def test_the_status_has_the_keys_of_the_interface(daemon: Daemon) -> None:
    _send(daemon, "ann@good.test")
    status = daemon.ask("status")
    assert {"version", "host", "links", "routes", "queue", "fetch"} <= _keys(status)
    assert {"name", "state", "source", "reason", "since"} <= _keys(status["links"][0])
    assert {"name", "state", "reason", "queued"} <= _keys(status["routes"][0])
    assert {"messages", "recipients", "held", "deferred", "bytes", "oldest_at"} <= _keys(status["queue"])
    assert INSTANT.fullmatch(status["links"][0]["since"])
    assert INSTANT.fullmatch(status["queue"]["oldest_at"])
    routes = {route["name"]: (route["state"], route["queued"]) for route in status["routes"]}
    assert routes["good"] == ("waiting", 1)


def test_the_queue_has_the_keys_of_the_interface(daemon: Daemon) -> None:
    _send(daemon, "ann@good.test")
    [found] = daemon.queue()
    [recipient] = found["recipients"]
    assert {"id", "sender", "size", "received_at", "received_from", "priority"} <= _keys(found)
    assert {"address", "original", "state", "route", "attempts", "last_attempt_at"} <= _keys(recipient)
    assert {"next_attempt_at", "last_status", "reason"} <= _keys(recipient)
    assert (recipient["state"], recipient["route"]) == ("queued", "good")
    assert "link line is down" in recipient["reason"]


def test_json_may_be_asked_for_anywhere(daemon: Daemon) -> None:
    queue_id = _send(daemon, "ann@good.test")
    for line in ("--json queue", "queue --json", "queue --json list", "queue list --json"):
        assert [item["id"] for item in json.loads(daemon.masqmail(*line.split()).stdout)] == [queue_id]
    for words in (("--json", "queue", "show", queue_id), ("queue", "show", queue_id, "--json")):
        shown = json.loads(daemon.masqmail(*words).stdout)
        assert shown["id"] == queue_id
        assert shown["history"][0]["event"] == "received"


def test_what_people_see(daemon: Daemon) -> None:
    assert daemon.masqmail("queue").stdout == "The queue is empty.\n"
    queue_id = _send(daemon, "ann@good.test", "bob@good.test")
    listed = daemon.masqmail("queue").stdout
    assert re.search(rf"^{queue_id}  \d+ B, (now|\d+ s ago), from ", listed)
    assert "    queued  ann@good.test  waits for route good, link line is down: nobody has declared it up" in listed
    assert listed.endswith("1 message, 2 recipients\n")
    assert "\x1b" not in listed
    shown = daemon.masqmail("queue", "show", queue_id).stdout
    assert "bob@good.test: queued" in shown
    assert "What happened" in shown
    assert "Queue: 1 message, 2 recipients" in daemon.masqmail("status").stdout
    since = re.compile(r"^line +down +for \d[\d mins]* +nobody has", re.M)  # in the first second it says "just now"
    wait_until(lambda: since.search(daemon.masqmail("link").stdout), "for how long the link is down")
    assert f"{queue_id}  received  " in daemon.masqmail("log").stdout


def test_mailq_lists_the_queue(daemon: Daemon) -> None:
    queue_id = _send(daemon, "ann@good.test")
    program = Path(sys.executable).parent / "mailq"
    done = subprocess.run([program, "--json"], env=daemon.environment, capture_output=True, check=True)
    assert json.loads(done.stdout)[0]["id"] == queue_id


def test_no_control_character_of_a_stranger_reaches_the_terminal(daemon: Daemon) -> None:
    recipient = "\u009b2J@good.test"
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        client.ehlo()
        client.command_encoding = "utf-8"
        assert client.docmd("MAIL FROM:<> SMTPUTF8")[0] == 250
        assert client.docmd(f"RCPT TO:<{recipient}>")[0] == 250
        assert client.data(message("x").replace(b"\n", b"\r\n"))[0] == 250
    [found] = daemon.queue()
    assert found["recipients"][0]["address"] == recipient
    for words in (("queue",), ("queue", "show", found["id"]), ("queue", "--json")):
        shown = daemon.masqmail(*words).stdout
        assert "2J" in shown
        assert "\u009b" not in shown


def test_headers_and_body_come_whole_whatever_their_size(daemon: Daemon) -> None:
    body = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\n" for n in range(200_000))
    queue_id = _send(daemon, "ann@good.test", body=body)
    environment = daemon.environment
    command = [sys.executable, "-m", "masqmail.cli.main", "queue"]
    shown = subprocess.run([*command, "body", queue_id], env=environment, capture_output=True, check=True)
    assert hashlib.sha256(shown.stdout).digest() == hashlib.sha256(body).digest()
    headers = daemon.masqmail("queue", "headers", queue_id).stdout
    assert headers.startswith("Received: ") and "X-Test: x\n" in headers and "\r" not in headers


def test_messages_are_held_released_and_removed(daemon: Daemon) -> None:
    first, second = _send(daemon, "ann@good.test"), _send(daemon, "bob@good.test")
    held = daemon.masqmail("queue", "hold", first, "nonsense")
    assert (held.returncode, held.stdout) == (os.EX_DATAERR, "1 message held\n")
    assert held.stderr == "masqmail: there is no message nonsense in the queue\n"
    assert [item["recipients"][0]["state"] for item in daemon.queue()] == ["held", "queued"]
    assert daemon.queue()[0]["recipients"][0]["reason"].startswith("held by ")
    assert daemon.masqmail("queue", "hold", "--recipient", "*@good.test").stdout == "1 message held\n"
    assert daemon.masqmail("queue", "release", "--all").stdout == "2 messages released\n"
    assert daemon.masqmail("queue", "retry", "--route", "good").stdout == "2 messages due now\n"
    assert daemon.masqmail("queue", "hold", "--older-than", "1h").stdout == "0 messages held\n"
    assert daemon.ask("queue", "remove", second) == {"messages": 1, "unknown": []}
    assert [item["id"] for item in daemon.queue()] == [first]
    assert "removed" in daemon.masqmail("log", second).stdout


def test_a_message_is_given_back_to_its_sender(daemon: Daemon) -> None:
    before = len(daemon.mailbox())
    queue_id = _send(daemon, "ann@good.test")
    assert daemon.masqmail("queue", "bounce", queue_id).stdout == "1 message given back\n"
    daemon.wait_for_empty_queue()
    [report] = daemon.mailbox()[before:]
    assert b"multipart/report" in report
    assert b"ann@good.test" in report


def test_flush_waits_for_what_can_go_and_says_what_cannot(daemon: Daemon, receiver: Receiver) -> None:
    _send(daemon, "ann@good.test")
    _send(daemon, "bob@bad.test")
    waiting = daemon.masqmail("flush", "--wait")
    assert (waiting.returncode, waiting.stdout) == (os.EX_TEMPFAIL, "0 delivered, 2 waiting\n")
    assert daemon.masqmail("flush").stdout == ""
    assert re.match(r"line  up  .*declared up by hand", daemon.masqmail("link", "up", "line").stdout)
    daemon.masqmail("flush", "--wait", "--route", "good")
    done = daemon.masqmail("flush", "--wait", "--link", "line")
    assert (done.returncode, done.stdout) == (0, "0 delivered, 0 waiting\n")
    assert receiver.taken[-1].recipients == ("ann@good.test",)
    assert [item["recipients"][0]["address"] for item in daemon.queue()] == ["bob@bad.test"]


def test_a_daemon_that_stops_in_the_middle_is_said_to_have(daemon: Daemon, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never greets
        other = Daemon(tmp_path, smarthost_route("slow", silent.getsockname()[1], 'tls = "none"', link="line"))
        other.start()
        other.masqmail("link", "up", "line")
        _send(other, "ann@slow.test")
        command = [sys.executable, "-m", "masqmail.cli.main", "flush", "--wait"]
        with subprocess.Popen(command, env=other.environment, stderr=subprocess.PIPE, text=True) as flush:
            deadline = time.monotonic() + 20
            while other.log.read_text().count("command=flush") == 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            other.kill()
            assert flush.stderr is not None
            said = flush.stderr.read()
        assert flush.returncode == os.EX_TEMPFAIL
        assert said == (
            "masqmail: MasqMail ended the connection before its answer was complete; did it stop just now?\n"
        )


def test_flush_tries_what_was_only_queued(daemon: Daemon) -> None:
    daemon.masqmail("link", "up", "line")
    _send(daemon, "ann@good.test", options=("-odq",))
    assert "flushes the queue" in daemon.queue()[0]["recipients"][0]["reason"]
    flushed = daemon.masqmail("flush", "--wait", "--json")
    assert (flushed.returncode, json.loads(flushed.stdout)) == (0, {"delivered": 1, "failed": 0, "waiting": 0})


def test_sendmail_qo_takes_a_link_as_up_for_once(daemon: Daemon) -> None:
    _send(daemon, "ann@good.test")
    assert daemon.sendmail("-qo", "line", message=b"").returncode == 0
    assert daemon.queue() == []
    assert {link["name"]: link["state"] for link in daemon.ask("link")}["line"] == "down"


def test_explain_tells_what_the_daemon_would_do(daemon: Daemon) -> None:
    waits = daemon.ask("explain", "ann@good.test")
    assert {"address", "local", "expanded", "plan"} <= _keys(waits)
    assert (waits["plan"][0]["action"], waits["plan"][0]["considered"][0]["taken"]) == ("wait", False)
    daemon.masqmail("link", "up", "line")
    [step] = daemon.ask("explain", "ann@good.test")["plan"]
    assert {"recipient", "action", "route", "link", "next_hop", "rewrites", "considered"} <= _keys(step)
    assert (step["action"], step["route"], step["link"]) == ("deliver-remote", "good", "line")
    assert step["rewrites"][0]["to"] == "me@good.test"
    assert daemon.ask("explain", "ann@good.test", "--from", "<>")["plan"][0]["rewrites"] == []
    assert daemon.ask("explain", "ann@good.test", "--link", "internet")["plan"][0]["action"] == "wait"
    assert "is on this host" in daemon.masqmail("explain", "postmaster").stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("explain a@@b", os.EX_DATAERR),
        ("explain ann@good.test --link nonsense", os.EX_DATAERR),
        ("queue show nonsense", os.EX_DATAERR),
        ("queue body nonsense", os.EX_DATAERR),
        ("log nonsense", os.EX_DATAERR),
        ("link up nonsense", os.EX_DATAERR),
        ("link down always", os.EX_USAGE),
        ("flush --link nonsense", os.EX_DATAERR),
        ("flush --route nonsense", os.EX_DATAERR),
        ("queue hold --route nonsense", os.EX_DATAERR),
        ("queue hold --older-than nonsense", os.EX_USAGE),
        ("queue hold", os.EX_USAGE),
        ("log --limit -5", os.EX_USAGE),
        ("log --limit 0", os.EX_USAGE),
        ("", os.EX_USAGE),
    ],
)
def test_what_cannot_be_done_has_a_line_and_a_code(daemon: Daemon, line: str, code: int) -> None:
    done = daemon.masqmail(*line.split())
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1 or code == os.EX_USAGE
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error(daemon: Daemon) -> None:
    _send(daemon, "ann@good.test", body=b"x" * 70 * 10_000 + b"\n")
    queue_id = daemon.queue()[0]["id"]
    line = f"{sys.executable} -m masqmail.cli.main queue body {queue_id} | head -c 1"
    done = subprocess.run(line, shell=True, env=daemon.environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"x", b"")


def test_a_full_disk_behind_the_output_is_one_line(daemon: Daemon) -> None:
    line = f"{sys.executable} -m masqmail.cli.main status > /dev/full"
    done = subprocess.run(line, shell=True, env=daemon.environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (os.EX_CANTCREAT, "masqmail: cannot write: No space left on device\n")


@pytest.mark.parametrize("line", ["-bp", "queue", "queue show nonsense", "status --json"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_are_no_trouble(daemon: Daemon, line: str, closed: str) -> None:
    _send(daemon, "ann@good.test")
    whole = daemon.masqmail(*line.split())
    command = f"{sys.executable} -m masqmail.cli.main {line} {closed}"
    done = subprocess.run(command, shell=True, env=daemon.environment, capture_output=True, text=True)
    assert done.returncode == whole.returncode
    assert done.stderr == ("" if "2" in closed else whole.stderr)
    assert bool(done.stdout) == (closed == "2>&-" and bool(whole.stdout))


# --- another user


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_sees_and_removes_only_his_own_messages(daemon: Daemon) -> None:
    theirs = _send(daemon, "ann@good.test")

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_as("nobody", daemon.config, arguments)

    assert run("queue") == (0, "The queue is empty.\n", "")
    for words in (
        ("queue", "show", theirs),
        ("queue", "body", theirs),
        ("queue", "headers", theirs),
        ("queue", "remove", theirs),
        ("queue", "hold", theirs),
        ("log", theirs),
        ("log",),
        ("flush",),
        ("link", "up", "line"),
    ):
        status, out, err = run(*words)
        assert (status, out) == (os.EX_NOPERM, ""), words
        assert err.startswith("masqmail: "), words
    status, out, _ = run("status", "--json")
    assert (status, json.loads(out)["queue"]["messages"]) == (0, 1)
    assert run("queue", "remove", "--all")[:2] == (0, "0 messages removed\n")
    assert [item["id"] for item in daemon.queue()] == [theirs]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_gets_an_explanation_from_what_he_can_read_himself(daemon: Daemon) -> None:
    daemon.masqmail("link", "up", "line")
    status, out, err = run_as("nobody", daemon.config, ["explain", "ann@good.test", "--json"])
    assert (status, err) == (0, "")
    explained = json.loads(out)
    assert explained["sender"] == "nobody@laptop.example.org"
    assert explained["plan"][0]["route"] == "good"
    assert "declared up by hand" in explained["plan"][0]["considered"][0]["reason"]
    assert json.loads(run_as("nobody", daemon.config, ["explain", "root", "--json"])[1])["local"] is True


# --- without a daemon

COMMANDS = (
    "status", "queue", "queue list", "queue show x", "queue headers x", "queue body x", "queue hold x", "flush",
    "queue remove --all", "link", "link up line", "log", "flush --wait",
)  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_without_a_daemon_there_is_a_clear_line(tmp_path: Path, line: str) -> None:
    done = Daemon(tmp_path).masqmail(*line.split())
    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
    assert re.fullmatch(
        r"masqmail: MasqMail is not running: nobody answers at .*/control\.sock \(.*\)\n", done.stderr
    )


@pytest.mark.parametrize("line", [*COMMANDS, "serve", "check", "check --show", "explain ann@good.test", "passwd ann"])
def test_every_fault_of_the_configuration_is_a_line(tmp_path: Path, line: str) -> None:
    daemon = Daemon(tmp_path, '[smtp2]\n[queue]\nretry = "soon"\n')
    done = daemon.masqmail(*line.split())
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert len(done.stderr.splitlines()) == 2
    for fault in done.stderr.splitlines():
        assert re.fullmatch(rf"{re.escape(str(daemon.config))}:\d+: .+; .+", fault)


@pytest.mark.parametrize("text", ["[host\n", "\xff", "x = 1\n" * 200_000])
@pytest.mark.parametrize("line", ["queue", "check", "serve"])
def test_what_is_no_configuration_at_all_is_a_line_too(tmp_path: Path, text: str, line: str) -> None:
    daemon = Daemon(tmp_path)
    daemon.config.write_bytes(text.encode("latin-1"))
    done = daemon.masqmail(line)
    assert done.returncode == os.EX_CONFIG
    assert "Traceback" not in done.stderr


def test_explain_needs_no_daemon(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, smarthost_route("good", 25, link="line"))
    assert daemon.ask("explain", "ann@good.test")["plan"][0]["action"] == "wait"
    assert daemon.ask("explain", "ann@good.test", "--link", "line")["plan"][0]["route"] == "good"
    refused = daemon.masqmail("explain", "a@@b")
    assert refused.returncode == os.EX_DATAERR
    assert refused.stderr.startswith("masqmail: 'a@@b' is no address: ")


def test_check_says_that_there_are_no_faults_and_gives_advice(tmp_path: Path) -> None:
    text = CONFIGURATION.format(folder=tmp_path, port=2525)
    daemon = Daemon(tmp_path, text=text.replace("[smtp]\n", '[smtp]\nrelay_networks = ["0.0.0.0/0"]\n'))
    done = daemon.masqmail("check")
    assert (done.returncode, done.stdout) == (0, f"{daemon.config}: no faults\n")
    assert re.search(r"open relay: .*; .* \(advice\)$", done.stderr, re.M)
    advice = json.loads(daemon.masqmail("check", "--json").stdout)["advice"]
    assert any(item["key"] == "smtp.relay_networks" for item in advice)
    assert "[smtp]" in daemon.masqmail("check", "--show").stdout
    assert json.loads(daemon.masqmail("check", "--show", "--json").stdout)["smtp"]["relay_networks"] == ["0.0.0.0/0"]


def test_check_tells_programs_of_faults_as_json_too(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, '[smtp2]\n[queue]\nretry = "soon"\n')
    done = daemon.masqmail("check", "--json")
    assert (done.returncode, done.stderr) == (os.EX_CONFIG, "")
    found = json.loads(done.stdout)
    assert [fault["key"] for fault in found["faults"]] == ["smtp2", "queue.retry"]
    assert set(found["faults"][0]) == {"file", "line", "key", "wrong", "instead"}
    assert found["advice"] == []


def test_passwd_writes_a_login_from_standard_input(tmp_path: Path) -> None:
    users = tmp_path / "users"
    text = CONFIGURATION.format(folder=tmp_path, port=2525).replace("[smtp]\n", f'[smtp]\nusers = "{users}"\n')
    daemon = Daemon(tmp_path, text=text)

    def passwd(typed: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "masqmail.cli.main", "passwd", "ann"]
        return subprocess.run(command, env=daemon.environment, input=typed, capture_output=True)

    assert passwd("geheim ü\n".encode()).returncode == 0
    name, _, password_hash = users.read_text().strip().partition(":")
    assert name == "ann"
    assert verify_password(password_hash, "geheim ü")
    for nonsense in (b"", b"\n", b"\xff\n"):
        assert passwd(nonsense).returncode == os.EX_DATAERR
    users.unlink()
    users.mkdir()
    assert passwd(b"x\n").returncode == os.EX_CANTCREAT


# --- a daemon that cannot start


def _serve(daemon: Daemon) -> tuple[int | None, str]:
    """The exit code, and the one line that says why."""
    done = daemon.masqmail("serve")
    assert "Traceback" not in done.stderr
    [reason] = [line for line in done.stderr.splitlines() if "daemon stopped" in line]
    return done.returncode, reason


def test_a_port_that_is_taken(tmp_path: Path, running: Daemon) -> None:
    code, reason = _serve(Daemon(tmp_path, port=running.port))
    assert code == os.EX_UNAVAILABLE
    assert f"127.0.0.1:{running.port}" in reason


def test_a_spool_that_another_daemon_uses(tmp_path: Path, running: Daemon) -> None:
    daemon = Daemon(tmp_path)
    daemon.configure(daemon.config.read_text().replace(f"{tmp_path}/spool", f"{running.folder}/spool"))
    code, reason = _serve(daemon)
    assert code == os.EX_UNAVAILABLE
    assert "another masqmail uses this spool" in reason


def test_a_spool_that_cannot_be_made(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    (tmp_path / "spool").write_text("in the way")
    code, reason = _serve(daemon)
    assert code == os.EX_CANTCREAT
    assert f"cannot make {tmp_path}/spool: File exists" in reason


def test_a_damaged_spool_is_left_as_it_is(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    (tmp_path / "spool").mkdir()
    file = tmp_path / "spool" / "queue.sqlite3"
    file.write_bytes(b"nonsense" * 1000)
    code, reason = _serve(daemon)
    assert code == os.EX_UNAVAILABLE
    assert "is damaged" in reason
    assert file.read_bytes() == b"nonsense" * 1000
