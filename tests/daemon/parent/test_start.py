"""The privileged parent: who runs as whom, what the daemon can have done, and that nothing brings the parent down.

Each test starts the real thing, with invented accounts: `support/parentdaemon.py`. Only root can.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "support" / "parentdaemon.py"
DAEMON, BOB, CAROL, ALIAS = 40000, 40001, 40002, 40003
NOT_READ = "the privileged parent has not read it"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else"),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that other users can reach, with mailboxes, homes and alias files."""
    path = Path(tempfile.mkdtemp(prefix="masqmail-"))
    path.chmod(0o755)
    _make(path / "mail", 0, 8, 0o2775)
    _make(path / "bob", BOB, BOB, 0o700)
    _make(path / "carol", CAROL, CAROL, 0o700)
    _make(path / "files", ALIAS, ALIAS, 0o755)
    _make(path / "mail" / "carol.d", CAROL, CAROL, 0o700)
    (path / "secret").write_text("swordfish")
    (path / "secret").chmod(0o600)
    (path / "included").write_text("|/bin/true\n")
    (path / "aliases").write_text(
        f"""id: "|/bin/sh -c 'id -u; id -G; pwd; echo $HOME $LOCAL_PART; exit 1' ${{sender}}"
regain: "|setpriv --reuid=0 id -u"
file: {path}/files/archive
included: :include:{path}/included
slow: "|/bin/sh -c 'echo $$ > {path}/files/pid; touch {path}/files/pid.done; exec sleep 60'"
orphan: "|/bin/sleep 2"
"""
    )
    yield path
    shutil.rmtree(path)


def _make(path: Path, uid: int, gid: int, mode: int) -> None:
    path.mkdir()
    os.chown(path, uid, gid)
    path.chmod(mode)


def start(directory: Path, scene: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, PROGRAM, directory, scene],
        env={**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def play(directory: Path, scene: str) -> Any:
    """Plays a scene to its end and gives what it printed."""
    with start(directory, scene) as process:
        output, errors = process.communicate()
    assert process.returncode == 7, errors
    return json.loads(output)


def test_the_daemon_has_given_up_root_for_good(directory: Path) -> None:
    assert play(directory, "identity") == {
        "uids": [DAEMON] * 3,
        "gids": [DAEMON] * 3,
        "groups": [DAEMON],
        "no_new_privs": True,
        "capabilities": ["0000000000000000"] * 2,
        "umask": 0o077,
        "home": "/nonexistent",
        "can_become_root": False,
        "can_read_secret": False,
        "can_write_for_bob": False,
        "child": str(DAEMON),
        "spool": [DAEMON, "0o711"],
    }


def test_each_delivery_is_made_by_its_own_user(directory: Path) -> None:
    outcomes = play(directory, "deliveries")
    mail = directory / "mail"
    (letter,) = (mail / "carol.d" / "new").iterdir()
    written = [mail / "bob", letter, mail / "root", directory / "files" / "archive"]
    assert [path.stat().st_uid for path in written] == [BOB, CAROL, 0, ALIAS]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)
    assert letter.read_bytes() == b"Subject: one\n\n" + b"x" * 70 + b"\n"
    assert b"Subject: one\n\nbody\n" in (mail / "bob").read_bytes()
    assert sorted(os.listdir(mail)) == ["bob", "carol.d", "root"]  # no lock is left
    assert {name: outcome.partition(":")[0] for name, outcome in outcomes.items()} == {
        "bob": "Delivered",
        "carol": "Delivered",
        "root": "Delivered",
        "nobody": "Deferred",
        "id": "Failed",
        "regain": "Failed",
        "file": "Delivered",
        "included": "Delivered",
    }
    assert outcomes["nobody"] == "Deferred: there is no account nobody now"


def test_a_program_of_an_alias_runs_as_the_alias_user_and_cannot_be_root_again(directory: Path) -> None:
    outcomes = play(directory, "deliveries")
    assert outcomes["id"] == "Failed: /nonexistent fax+12 (exit code 1)"
    assert outcomes["regain"] == "Failed: setpriv: setresuid failed: Operation not permitted (exit code 127)"


def test_what_the_configuration_does_not_name_is_refused(directory: Path) -> None:
    result = play(directory, "wishes")
    assert all(outcome.startswith("Deferred: ") for outcome in result["refused"])
    assert [outcome.removeprefix("Deferred: ") for outcome in result["refused"][:2]] == [
        f"{directory}/aliases:id does not name |/bin/sh -c 'touch /tmp/owned' now",
        f"{directory}/aliases:nobody does not name |/bin/true now",
    ]
    assert result["opened"] == [
        "cannot listen on 0.0.0.0:25: it is no address of the configuration",
        "/etc/shadow: it is no secret file of the configuration",
        f"{directory}: is not a regular file",
    ]
    assert result["then"].startswith("Delivered")


def test_sockets_and_secrets_of_the_configuration_are_opened(directory: Path) -> None:
    assert play(directory, "opened") == {"greeting": "hello", "port": 7, "secret": "swordfish"}


def test_nothing_the_daemon_sends_brings_the_parent_down(directory: Path) -> None:
    result = play(directory, "garbage")
    assert sorted(result["outcomes"]) == ["Deferred"] * 12 + ["Delivered"]
    assert result["faults"] == [
        ["\ufffd: it is no address of the configuration", []],
        ["/etc/shadow\0: it is no secret file of the configuration", []],
    ]
    assert (directory / "mail" / "bob").read_bytes().count(b"Subject: one") == 1


def test_many_requests_find_their_own_replies(directory: Path) -> None:
    result = play(directory, "many")
    assert result["delivered"] == 60 - 9
    assert result["leaked"] == 0
    assert result["last"].startswith("Delivered")


@pytest.mark.parametrize(
    ("marker", "steps"),
    [
        ("moved", [NOT_READ, "", "", "", "cannot listen on 127.0.0.1: it is no address of the configuration"]),
        ("broken", [NOT_READ, "the privileged parent cannot use it", "", NOT_READ, ""]),
    ],
)
def test_signals_are_passed_on_and_a_new_configuration_counts_when_the_daemon_has_taken_it(
    directory: Path, marker: str, steps: list[str]
) -> None:
    with start(directory, "signals") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (directory / marker).touch()
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "reloaded\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert json.loads(output) == {"seen": ["SIGHUP", "SIGTERM"], "before": 1, "steps": steps}
    assert process.returncode == 7
    assert ("the configuration is broken" in errors) == (marker == "broken")


def test_what_still_runs_when_the_daemon_ends_is_stopped(directory: Path) -> None:
    play(directory, "slow")
    program = int((directory / "files" / "pid").read_text())
    assert not Path(f"/proc/{program}").exists()


def test_when_the_parent_dies_everything_is_deferred(directory: Path) -> None:
    with start(directory, "orphaned") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        output, _ = process.communicate()
    assert json.loads(output) == {
        "outcome": "Deferred: the privileged parent has ended",
        "late": "Deferred: the privileged parent has ended",
    }


def test_a_daemon_killed_by_a_signal_gives_its_number(directory: Path) -> None:
    with start(directory, "signals") as process:
        assert process.stdout is not None
        process.stdout.readline()
        (daemon,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(daemon), signal.SIGKILL)
        process.communicate()
    assert process.returncode == 128 + signal.SIGKILL


def test_the_parent_imports_next_to_nothing() -> None:
    script = "import sys, masqmail.daemon.parent.start; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"asyncio", "anyio", "ssl", "sqlite3", "email", "dns", "h11", "http"} & set(done.stdout.split())
