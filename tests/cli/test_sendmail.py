"""The installed sendmail, run as a process: what it says to the daemon, what it leaves without one, how it exits."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.cli import sendmail, sendmail_places
from masqmail.cli.sendmail import main
from masqmail.cli.sendmail_handover import hand_over, is_this_host, peer_of
from masqmail.cli.sendmail_places import Place, Unavailable
from support.inetddoor import InetdDoor
from support.submitserver import SubmitServer

ROOT = Path(__file__).parents[2]
SENDMAIL = ROOT / "scripts" / "sendmail"
TEXT = b"To: ann@example.org\n\nhello\n"


def install(prefix: Path, name: str = "sendmail") -> Path:
    """The command as an installer places it: beside the interpreter that runs these tests."""
    (prefix / "bin").mkdir(parents=True)
    (prefix / "src").symlink_to(ROOT / "src")
    (prefix / "bin" / "python3").symlink_to(sys.executable)
    return Path(shutil.copy(SENDMAIL, prefix / "bin" / name))


class Host:
    """A configuration with its folders, and a way to run sendmail there."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "masqmail.toml"
        self.config.write_text('[paths]\nspool = "spool"\nruntime = "."\n')
        self.socket = folder / "submit.sock"
        self.pickup = folder / "spool" / "pickup"
        self.pickup.mkdir(parents=True)
        self.starter = install(folder / "prefix")

    def run(
        self, *words: str, text: bytes = TEXT, umask: int = 0o022, output: int = subprocess.PIPE, shell: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """With `shell` that is run, with the command in "$@"."""
        return subprocess.run(
            [*(["sh", "-c", shell, "sh"] if shell else []), self.starter, *words],
            input=text,
            stdout=output,
            stderr=output,
            env={"MASQMAIL_CONFIG": str(self.config), "PATH": os.environ["PATH"]},
            umask=umask,
            check=False,
        )

    def left(self) -> bytes:
        """The one file in the pickup folder."""
        (file,) = self.pickup.iterdir()
        return file.read_bytes()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_message_is_handed_over_in_one_conversation(host: Host) -> None:
    with SubmitServer(host.socket) as server:
        done = host.run("-f", "bob@example.org", "ann@example.org", "eve@example.org")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert server.commands == [
        "EHLO localhost",
        "MAIL FROM:<bob@example.org> BODY=8BITMIME",
        "RCPT TO:<ann@example.org>",
        "RCPT TO:<eve@example.org>",
        "BDAT 30 LAST",
        "QUIT",
    ]
    assert server.message == TEXT.replace(b"\n", b"\r\n")
    assert list(host.pickup.iterdir()) == []


def test_every_wish_becomes_a_parameter(host: Host) -> None:
    with SubmitServer(host.socket) as server:
        done = host.run(
            "-t", "-odq", "-F", "Jörg B", "-N", "success,delay", "-R", "hdrs", "-V", "a=b", "-B", "7bit", "bob"
        )
    assert done.returncode == 0
    assert server.commands[1:3] == [
        "MAIL FROM:<> BODY=7BIT XSELF XHEADERRCPTS=SUCCESS,DELAY XFULLNAME=J+C3+B6rg+20B XQUEUEONLY"
        " RET=HDRS ENVID=a+3Db",
        "RCPT TO:<bob> NOTIFY=SUCCESS,DELAY",
    ]


def test_an_address_beyond_ascii_declares_nothing_of_the_header(host: Host) -> None:
    with SubmitServer(host.socket) as server:
        assert host.run("-f", "<>", "jörg@example.org").returncode == 0
    assert server.commands[1] == "MAIL FROM:<> BODY=8BITMIME"


def test_a_big_message_goes_in_chunks(host: Host) -> None:
    text = b"A: b\n\n" + b"0123456789abcde\n" * 20_000
    with SubmitServer(host.socket) as server:
        assert host.run("ann", text=text).returncode == 0
    assert server.message == text.replace(b"\n", b"\r\n")
    assert len([command for command in server.commands if command.startswith("BDAT")]) > 3


def test_the_message_ends_at_a_lone_dot_unless_told_otherwise(host: Host) -> None:
    with SubmitServer(host.socket) as server:
        host.run("ann", text=b"a\n.\nb\n")
        host.run("-i", "ann", text=b"a\n.\nb\n")
    assert server.message == b"a\r\n" + b"a\r\n.\r\nb\r\n"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("451 4.3.0 Later", os.EX_TEMPFAIL),
        ("452 4.3.1 Full", os.EX_TEMPFAIL),
        ("550 5.1.1 Nobody", os.EX_NOUSER),
        ("501 5.1.7 No reverse-path", os.EX_DATAERR),
        ("554 5.1.0 No recipients", os.EX_DATAERR),
        ("552 5.3.4 Too big", os.EX_DATAERR),
        ("554 5.6.0 Odd", os.EX_DATAERR),
        ("550 5.7.1 Forbidden", os.EX_NOPERM),
        ("554 No", os.EX_UNAVAILABLE),
        ("354 What?", os.EX_TEMPFAIL),
    ],
)
@pytest.mark.parametrize("command", ["MAIL", "RCPT", "BDAT"])
def test_a_refusal_is_told_and_sets_the_exit_code(host: Host, command: str, reply: str, code: int) -> None:
    with SubmitServer(host.socket, {command: reply}) as server:
        done = host.run("ann@example.org")
    assert done.returncode == code
    assert reply.encode() in done.stderr
    assert list(host.pickup.iterdir()) == []
    assert command == "BDAT" or not any(line.startswith("BDAT") for line in server.commands)


@pytest.mark.parametrize("reply", ["421 4.3.2 Going", ""])
@pytest.mark.parametrize("command", ["CONNECT", "EHLO", "MAIL", "RCPT"])
def test_a_daemon_that_goes_before_the_message_is_no_daemon(host: Host, command: str, reply: str) -> None:
    with SubmitServer(host.socket, {command: reply}):
        assert host.run("ann@example.org").returncode == 0
    assert b"\r\n\r\nhello\r\n" in host.left()


@pytest.mark.parametrize("reply", ["421 4.3.2 Going", ""])
def test_a_daemon_that_goes_during_the_message_is_a_temporary_failure(host: Host, reply: str) -> None:
    with SubmitServer(host.socket, {"BDAT": reply}):
        done = host.run("ann@example.org")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"may not be sent" in done.stderr


def test_a_daemon_that_goes_while_the_message_is_handed_over_is_no_daemon(host: Host) -> None:
    with SubmitServer(host.socket, deaf_from="RCPT"):
        assert host.run("ann@example.org").returncode == 0
    assert b"\r\n\r\nhello\r\n" in host.left()


#: For a `main` in this process; one of its own closes nothing when it ends.
ENDS_WITHOUT_CLOSING = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def two_daemons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Place]]:
    """The system's places and a user's own, for a `main` in this process, with TEXT on its standard input."""
    places = [Place(str(tmp_path / name), str(tmp_path / name)) for name in ("system", "own")]
    for place in places:
        Path(place.pickup).mkdir(parents=True)
    monkeypatch.setattr(sendmail, "find_places", lambda config: places)
    before = os.dup(0)
    (tmp_path / "text").write_bytes(TEXT)
    with (tmp_path / "text").open() as file:
        os.dup2(file.fileno(), 0)
    yield places
    os.dup2(before, 0)
    os.close(before)


@ENDS_WITHOUT_CLOSING
def test_the_message_survives_two_daemons_that_go_away(two_daemons: list[Place]) -> None:
    system, own = two_daemons
    with (
        SubmitServer(Path(system.socket), deaf_from="RCPT") as first,
        SubmitServer(Path(own.socket), {"CONNECT": "421 4.3.2 Going"}) as second,
    ):
        assert main("sendmail", ["-f", "bob@example.org", "ann@example.org"]) == 0
    assert first.connections and second.connections
    (file,) = (file for place in two_daemons for file in Path(place.pickup).iterdir())
    assert b"\r\n\r\nhello\r\n" in file.read_bytes()


@ENDS_WITHOUT_CLOSING
def test_what_a_silent_daemon_may_still_read_is_not_left_for_later_as_well(
    two_daemons: list[Place], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sendmail_places, "TIMEOUT_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(two_daemons[0].socket)
        listener.listen()
        assert main("sendmail", ["-t", "-f", "bob@example.org"]) == os.EX_TEMPFAIL
        connection, _ = listener.accept()  # now it is back
        with connection, connection.makefile("rb") as file:
            assert file.read().endswith(b"\r\n\r\nhello\r\nQUIT\r\n")
    assert "may be sent or not" in capfd.readouterr().err
    assert not any(list(Path(place.pickup).iterdir()) for place in two_daemons)


@ENDS_WITHOUT_CLOSING
def test_a_silent_daemon_that_has_only_heard_of_recipients_is_no_daemon(
    two_daemons: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sendmail_places, "TIMEOUT_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(two_daemons[0].socket)
        listener.listen()
        assert main("sendmail", ["ann"]) == 0
    (file,) = Path(two_daemons[0].pickup).iterdir()
    assert b"\r\n\r\nhello\r\n" in file.read_bytes()


def test_many_recipients_do_not_block_both_sides(host: Host) -> None:
    names = [f"user{number}@example.org" for number in range(3000)]
    with SubmitServer(host.socket, {"RCPT": "250 2.1.5 " + "x" * 400}) as server:
        assert host.run(*names).returncode == 0
    assert len(server.commands) == 3000 + 4


def test_verbose_shows_the_conversation_but_not_the_message(host: Host) -> None:
    with SubmitServer(host.socket):
        done = host.run("-v", "ann")
    assert done.stdout.startswith(
        b">>> EHLO localhost\n>>> MAIL FROM:<> BODY=8BITMIME XSELF\n>>> RCPT TO:<ann>\n<<< 220"
    )
    assert done.stdout.endswith(b">>> BDAT 30 LAST\n>>> QUIT\n<<< 250 2.0.0 OK\n<<< 250 2.0.0 OK\n")
    assert b"hello" not in done.stdout


@pytest.mark.parametrize("words", ["-v ann", "-v -t"])
def test_nobody_has_to_read_what_verbose_shows(host: Host, words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        with SubmitServer(host.socket) as server:
            assert host.run(*words.split(), output=pipe.fileno()).returncode == 0
        assert list(host.pickup.iterdir()) == []
        host.socket.unlink()
        assert host.run(*words.split(), output=pipe.fileno()).returncode == 0
    assert server.message == TEXT.replace(b"\n", b"\r\n")
    assert b"\r\n\r\nhello\r\n" in host.left()


@pytest.mark.parametrize("words", ["ann", "-v -t"])
@pytest.mark.parametrize("is_running", [True, False])
def test_a_closed_input_is_no_empty_message(host: Host, is_running: bool, words: str) -> None:
    with SubmitServer(host.socket if is_running else host.socket.with_name("other")) as server:
        done = host.run(*words.split(), shell='"$@" <&-')
    assert done.returncode == os.EX_NOINPUT
    assert done.stderr.endswith(b"sendmail: cannot read the message: Bad file descriptor\n")
    assert server.message == b""
    assert list(host.pickup.iterdir()) == []


@pytest.mark.parametrize("name", ["sendmail", "rmail"])
@pytest.mark.parametrize("words", ["ann", "-v -t", "-bs", "-bp"])
def test_a_folder_as_input_is_no_message(host: Host, tmp_path: Path, name: str, words: str) -> None:
    host.starter = install(tmp_path / "other", name)
    with SubmitServer(host.socket) as server:
        done = host.run(*words.split(), shell=f'"$@" <{tmp_path}')
    assert (done.returncode, done.stdout) == (os.EX_NOINPUT, b"")
    assert done.stderr == b"sendmail: standard input is a directory\n"
    assert server.message == b""
    assert list(host.pickup.iterdir()) == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("is_running", [True, False])
def test_closed_outputs_take_nothing_from_a_message(host: Host, is_running: bool, closed: str) -> None:
    with SubmitServer(host.socket if is_running else host.socket.with_name("other")) as server:
        assert host.run("-v", "ann", shell=f'"$@" {closed}').returncode == 0
    assert b"\r\n\r\nhello\r\n" in (server.message if is_running else host.left())


def test_without_a_daemon_a_complete_file_is_left(host: Host) -> None:
    done = host.run(
        "-t", "-f", "bob@x", "-F", "Jörg", "-odq", "-N", "never", "-R", "full", "-V", "1=2", "ann", umask=0o077
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (file,) = host.pickup.iterdir()
    assert re.fullmatch("[0-9a-f]{32}", file.name)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    envelope = (
        "MasqMail-Pickup: 1\nBody: 8BITMIME\nSender: <bob@x>\nRecipient: <ann>\nHeader-Recipients: yes\n"
        "Queue-Only: yes\nFull-Name: Jörg\nNotify: NEVER\nRet: FULL\nEnvelope-ID: 1=2\n\n"
    ).encode()
    content = envelope + TEXT.replace(b"\n", b"\r\n")
    assert file.read_bytes() == content + b"MasqMail-End: %018d\n" % len(content)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_nul_byte_is_refused_with_a_daemon_and_without(host: Host, is_running: bool) -> None:
    with SubmitServer(host.socket if is_running else host.socket.with_name("other")) as server:
        done = host.run("ann", text=b"A: b\n\na\0b\n")
    assert done.returncode == os.EX_DATAERR
    assert b"NUL byte" in done.stderr
    assert list(host.pickup.iterdir()) == []
    assert server.message == b""


def test_without_a_sender_the_file_names_none(host: Host) -> None:
    host.run("ann")
    assert b"Sender" not in host.left()


def test_the_null_sender_is_written_down(host: Host) -> None:
    host.run("-f", "", "ann")
    assert b"\nSender: <>\n" in host.left()


def test_without_daemon_and_folder_the_caller_is_told(host: Host) -> None:
    host.pickup.rmdir()
    done = host.run("ann")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"is not running, and there is no " in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [(("-Z",), os.EX_USAGE), ((), os.EX_USAGE), (("a b@x",), os.EX_DATAERR), (("-C", "/none", "a"), os.EX_CONFIG)],
)
def test_a_wrong_call_has_its_exit_code_and_a_sentence(host: Host, words: tuple[str, ...], code: int) -> None:
    done = host.run(*words)
    assert done.returncode == code
    assert done.stderr.startswith(b"sendmail: ")
    assert list(host.pickup.iterdir()) == []


@pytest.mark.parametrize("words", [("-bi",), ("--help",), ("--version",)])
def test_what_needs_no_daemon_succeeds_without_one(host: Host, words: tuple[str, ...]) -> None:
    assert host.run(*words).returncode == 0


def test_bs_joins_standard_input_and_output_with_the_daemon(host: Host) -> None:
    with SubmitServer(host.socket) as server:
        done = host.run("-bs", text=b"EHLO me\r\nQUIT\r\n")
    assert done.returncode == 0
    assert done.stdout == b"220 gw ESMTP\r\n250-gw\r\n250 XSUBMIT\r\n250 2.0.0 OK\r\n"
    assert server.commands == ["EHLO me", "QUIT"]


def test_bs_without_a_daemon_speaks_smtp_too(host: Host) -> None:
    done = host.run("-bs", text=b"EHLO me\r\n")
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stdout.startswith(b"421 4.3.2 ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-bp", "queue list"),
        ("-q", "flush"),
        ("-qo dsl", "flush --assume-up dsl"),
        ("-bd", "serve"),
        ("-bd -q30m", "serve"),
        ("-q30m", "serve"),
        ("-q -v", "flush --wait"),
        ("-Mrm 1 2", "queue remove -- 1 2"),
        ("-C /x -bp", "--config /x queue list"),
    ],
)
def test_other_jobs_are_done_by_the_program_beside_us(host: Host, tmp_path: Path, words: str, expected: str) -> None:
    starter = install(tmp_path)
    program = starter.with_name("masqmail")
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    done = subprocess.run([starter, *words.split()], capture_output=True, check=False)
    assert done.stdout.decode() == f"{expected}\n"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("mailrm", "1 2", "queue remove -- 1 2"),
        ("runq", "", "flush"),
        ("runq", "-v", "flush --wait"),
        ("smtpd", "-bp", "queue list"),
        ("in.smtpd", "-bd", "serve"),
        ("anything", "-q", "flush"),
    ],
)
def test_other_names_do_other_jobs(tmp_path: Path, name: str, words: str, expected: str) -> None:
    starter = install(tmp_path, name)
    program = starter.with_name("masqmail")
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    done = subprocess.run([starter, *words.split()], capture_output=True, check=False)
    assert done.stdout.decode() == f"{expected}\n"


@pytest.mark.parametrize(("name", "words"), [("sendmail", "-bp"), ("mailrm", "1"), ("runq", ""), ("sendmail", "-go")])
@pytest.mark.parametrize(
    ("interpreter", "reason"), [("/dev/null", "Permission denied"), ("/none", "No such file or directory")]
)
def test_a_program_beside_us_that_does_not_start_is_a_sentence(
    tmp_path: Path, name: str, words: str, interpreter: str, reason: str
) -> None:
    starter = install(tmp_path, name)
    program = starter.with_name("masqmail")
    program.write_text(f"#!{interpreter}\n")
    program.chmod(0o755)
    done = subprocess.run([starter, *words.split()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
    assert done.stderr == f"sendmail: cannot start the masqmail program: {reason}\n"


@pytest.mark.parametrize("name", ["sendmail", "newaliases", "rmail", "mailrm", "runq", "smtpd", "in.smtpd"])
@pytest.mark.parametrize("word", ["--help", "--version", "-bV"])
def test_every_name_helps_and_has_a_version(tmp_path: Path, name: str, word: str) -> None:
    done = subprocess.run([install(tmp_path, name), word], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: sendmail " if word == "--help" else "sendmail (MasqMail) ")


@pytest.mark.parametrize(
    ("lines", "words", "sender"),
    [
        ("From ann Fri Nov 21 07:00:00 2026 remote from gate", (), b"ann@gate"),
        ("From ann Fri Nov 21 07:00:00 2026 remote from gate", ("-f", "bob@x"), b"bob@x"),
        (
            "From gate!ann Fri Nov 21 07:00 2026 remote from hub\n>From ann Fri Nov 21 2026 remote from far",
            (),
            b"ann@far",
        ),
        ("From far!gate!ann Fri Nov 21 07:00:00 2026 remote from hub", (), b"ann@gate"),
        ("From ann@far.example Fri Nov 21 07:00:00 2026 remote from hub", (), b"ann@far.example"),
        ("From <> Fri Nov 21 07:00:00 2026 remote from hub", (), b""),
    ],
)
def test_rmail_takes_the_sender_that_uucp_names(
    host: Host, tmp_path: Path, lines: str, words: tuple[str, ...], sender: bytes
) -> None:
    host.starter = install(tmp_path / "other", "rmail")
    assert host.run(*words, "bob", text=f"{lines}\n".encode() + TEXT).returncode == 0
    left = host.left()
    assert b"\nSender: <%s>\n" % sender in left
    assert b"\n\nTo: ann@example.org\r\n\r\nhello\r\n" in left


@pytest.mark.parametrize("text", [TEXT, b"From ann Fri Nov 21 07:00:00 2026\n" + TEXT])
def test_rmail_without_a_remote_sender_sends_as_the_user(host: Host, tmp_path: Path, text: bytes) -> None:
    host.starter = install(tmp_path / "other", "rmail")
    assert host.run("bob", text=text).returncode == 0
    left = host.left()
    assert b"Sender" not in left
    assert b"\n\nTo: ann@example.org\r\n" in left


def test_a_sender_of_uucp_that_is_no_address_is_refused(host: Host, tmp_path: Path) -> None:
    host.starter = install(tmp_path / "other", "rmail")
    done = host.run("bob", text=b"From a>b Fri Nov 21 07:00:00 2026 remote from gate\n" + TEXT)
    assert done.returncode == os.EX_DATAERR


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """A starter beside which a `masqmail` says what it was told, and fails to flush."""
    starter = install(tmp_path)
    program = starter.with_name("masqmail")
    program.write_text('#!/bin/sh\necho "$*"\ntest "$1" != flush || exit 75\n')
    program.chmod(0o755)
    return starter


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("-g", "fetch"),
        ("-g gmx", "fetch -- gmx"),
        ("-go dsl", "fetch --online --link dsl"),
        ("-C /x.toml -go5m", "--config /x.toml fetch --online"),
        ("-bd -go5m", "serve"),
    ],
)
def test_mail_is_fetched_by_the_program_beside_us(echo: Path, words: str, command: str) -> None:
    done = subprocess.run([echo, *words.split()], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"{command}\n", "", 0)


def test_the_queue_is_flushed_and_then_mail_is_fetched_whatever_became_of_the_first(echo: Path) -> None:
    done = subprocess.run([echo, "-go", "dsl", "-qo", "dsl"], capture_output=True, text=True, check=False)
    assert done.stdout == "flush --assume-up dsl\nfetch --online --link dsl\n"
    assert done.returncode == os.EX_TEMPFAIL


@pytest.mark.parametrize("name", ["smtpd", "in.smtpd"])
def test_smtp_for_inetd_over_a_connection_of_this_host(host: Host, tmp_path: Path, name: str) -> None:
    starter = install(tmp_path / "other", name)
    with (
        SubmitServer(host.socket) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        connection, _ = listener.accept()
        with connection:
            environment = {"MASQMAIL_CONFIG": str(host.config), "PATH": os.environ["PATH"]}
            program = subprocess.Popen([starter], stdin=connection, stdout=connection, env=environment)
        client.sendall(b"EHLO me\r\nQUIT\r\n")
        received = b"".join(iter(lambda: client.recv(4096), b""))
        assert program.wait() == 0
    assert received.startswith(b"220 gw ESMTP\r\n")
    assert received.endswith(b"250 2.0.0 OK\r\n")
    assert server.commands == ["EHLO me", "QUIT"]


@pytest.mark.parametrize(
    ("family", "address", "host"),
    [
        (socket.AF_INET, ("192.168.1.7", 4711), "192.168.1.7"),
        (socket.AF_INET6, ("::ffff:192.168.1.7", 4711, 0, 0), "192.168.1.7"),
        (socket.AF_INET6, ("2001:db8::7", 4711, 0, 0), "2001:db8::7"),
        (socket.AF_INET6, ("::ffff:127.0.0.1", 4711, 0, 0), "127.0.0.1"),
        (socket.AF_INET6, ("::1", 4711, 0, 0), "::1"),
        (socket.AF_INET, ("127.0.0.9", 4711), "127.0.0.9"),
        (socket.AF_UNIX, "", ""),
    ],
)
def test_the_other_side_of_a_connection_is_known(
    monkeypatch: pytest.MonkeyPatch, family: int, address: object, host: str
) -> None:
    class Connection:
        def __init__(self, fileno: int) -> None:
            os.close(fileno)  # as a real one does in the end
            self.family = family

        def getpeername(self) -> object:
            return address

        def close(self) -> None: ...

    monkeypatch.setattr("masqmail.cli.sendmail_handover._socket.socket", Connection)
    with open(os.devnull) as file:
        assert peer_of(file.fileno()) == host
    assert is_this_host(host) == host.startswith(("127.", "::1"))


def test_what_is_no_connection_has_no_host(tmp_path: Path) -> None:
    with open(os.devnull) as file, socket.socket() as unconnected:
        assert peer_of(file.fileno()) == ""
        assert peer_of(unconnected.fileno()) == ""


@pytest.mark.parametrize("name", ["smtpd", "in.smtpd"])
def test_a_connection_that_inetd_accepted_is_given_to_the_daemon(host: Host, tmp_path: Path, name: str) -> None:
    starter = install(tmp_path / "other", name)
    with (
        InetdDoor(host.socket.with_name("inetd.sock")) as door,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        connection, peer = listener.accept()
        with connection:
            environment = {"MASQMAIL_CONFIG": str(host.config), "PATH": os.environ["PATH"]}
            program = subprocess.run([starter], stdin=connection, stdout=connection, env=environment, check=False)
        assert program.returncode == 0
        (given,) = door.taken
        assert given.getpeername() == peer
        given.sendall(b"220 here I am\r\n")
        given.close()
        assert b"".join(iter(lambda: client.recv(4096), b"")) == b"220 here I am\r\n"


def test_what_the_daemon_says_instead_of_taking_a_connection_goes_to_the_client(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = socket.socketpair()
    with InetdDoor(host.socket.with_name("inetd.sock"), b"421 4.3.2 Too many connections\r\n"), ours, theirs:
        hand_over(Place(str(host.socket.parent), ""), theirs.fileno())
        assert ours.recv(100) == b"421 4.3.2 Too many connections\r\n"


def test_a_daemon_that_takes_no_connection_is_told_of(host: Host) -> None:
    """It says nothing to others than root and its own user; and there may be no daemon."""
    place = Place(str(host.socket.parent), "")
    with socket.socket() as connection:
        with (
            InetdDoor(host.socket.with_name("inetd.sock"), b""),
            pytest.raises(Unavailable, match=r"inetd\.sock: the daemon did not take the connection"),
        ):
            hand_over(place, connection.fileno())
        with pytest.raises(Unavailable, match=r"inetd\.sock: Connection refused"):
            hand_over(place, connection.fileno())


def test_a_host_of_the_network_is_not_served_as_a_user_of_ours(
    host: Host, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where its connection cannot be given to the daemon."""
    monkeypatch.setenv("MASQMAIL_CONFIG", str(host.config))
    monkeypatch.setattr(
        "masqmail.cli.sendmail_handover.peer_of", lambda descriptor: "" if descriptor else "192.168.1.7"
    )
    with SubmitServer(host.socket) as server:
        assert main("smtpd", []) == os.EX_UNAVAILABLE
    assert server.commands == []
    out, err = capfd.readouterr()
    assert out.startswith("421 4.3.2 ")
    assert "192.168.1.7" in err and "inetd.sock" in err


def test_only_cheap_modules_are_loaded() -> None:
    code = (
        f"import sys; sys.path.append({str(ROOT / 'src')!r}); import os, _socket; before = set(sys.modules)\n"
        "import masqmail.cli.sendmail\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('masqmail')))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_installed_file_starts_by_itself(host: Host) -> None:
    done = subprocess.run([SENDMAIL, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("sendmail (MasqMail) ")


def test_every_classic_name_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    installed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-scripts"]
    assert installed == {f"scripts/{path.name}": path.name for path in SENDMAIL.parent.iterdir()}
    classic = {"sendmail", "rmail", "newaliases", "mailrm", "runq", "smtpd", "in.smtpd", "mailq", "mservdetect"}
    assert {*installed.values(), *project["project"]["scripts"]} == {*classic, "masqmail"}
    assert all(path.resolve() == SENDMAIL for path in SENDMAIL.parent.iterdir())


def test_it_knows_the_name_it_was_called_by(tmp_path: Path) -> None:
    done = subprocess.run([install(tmp_path, "newaliases")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("link", ["../prefix/bin/sendmail", "sendmail-of-masqmail"])
def test_it_finds_the_package_through_links(host: Host, tmp_path: Path, link: str) -> None:
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr" / "sendmail-of-masqmail").symlink_to(host.starter)
    (tmp_path / "usr" / "sendmail").symlink_to(link)
    done = subprocess.run([tmp_path / "usr" / "sendmail", "--version"], capture_output=True, check=False)
    assert done.stdout.startswith(b"sendmail (MasqMail) ")


@pytest.mark.parametrize("end", ["", "\n"])
def test_it_finds_an_editable_install_by_its_pth_file(host: Host, end: str) -> None:
    prefix = host.starter.parent.parent
    (prefix / "src").unlink()
    packages = prefix / "lib" / "python3.99" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "_editable_impl_masqmail.pth").write_text(f"{ROOT / 'src'}{end}")
    assert host.run("--version").stdout.startswith(b"sendmail (MasqMail) ")


def test_it_finds_the_package_of_pip_install_target(host: Host) -> None:
    prefix = host.starter.parent.parent
    (prefix / "src").unlink()
    (prefix / "masqmail").symlink_to(ROOT / "src" / "masqmail")
    assert host.run("--version").stdout.startswith(b"sendmail (MasqMail) ")


def test_a_package_that_is_nowhere_is_a_sentence(host: Host) -> None:
    (host.starter.parent.parent / "src").unlink()
    done = host.run("ann")
    assert done.returncode != 0
    assert done.stderr.startswith(b"sendmail: cannot find the masqmail package near ")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_file_is_on_stable_storage_before_exit_0(host: Host, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=openat,write,fsync,sync,exit_group"]
    subprocess.run(
        [*command, host.starter, "ann"],
        input=TEXT,
        env={"MASQMAIL_CONFIG": str(host.config)},
        check=True,
    )
    calls = trace.read_text().splitlines()
    places = [
        next(index for index, call in enumerate(calls) if re.search(pattern, call))
        for pattern in (
            r"O_CREAT\|O_EXCL",
            r"write\(.*MasqMail-End",
            r"fsync\(\d+\) += 0",
            r" sync\(\)",
            r"exit_group\(0\)",
        )
    ]
    assert places == sorted(places)
