"""An mbox gets the whole message or nothing, under both locks, and never leads us astray."""

import contextlib
import errno
import fcntl
import mailbox
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from masqmail.delivery import dotlock, mbox
from masqmail.delivery.files import NotUsable
from masqmail.delivery.locks import MailboxBusy

MESSAGE = [b"Subject: one\r\n\r\n", b"From here\r\n>From there\r\nlast"]
STORED = b"From ann@example.org Thu Jan  1 00:00:00 1970\nSubject: one\n\n>From here\n>>From there\nlast\n\n"


def append(path: Path, pieces: list[bytes] = MESSAGE, waits: tuple[float, ...] = ()) -> None:
    mbox.append(str(path), pieces, sender="ann@example.org", now=0, waits=waits)


def messages(path: Path) -> list[mailbox.mboxMessage]:
    """What another program finds in the file."""
    with contextlib.closing(mailbox.mbox(path, create=False)) as found:
        return list(found)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "bob"


def test_a_message_is_stored_in_mboxrd(box: Path) -> None:
    append(box)
    assert box.read_bytes() == STORED
    assert box.stat().st_mode & 0o777 == 0o600


def test_where_no_mailbox_may_be_made_the_reason_says_so(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def open_but_make_nothing(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return really_open(path, flags, mode)

    monkeypatch.setattr("os.open", open_but_make_nothing)
    with pytest.raises(NotUsable) as caught:
        append(box)
    assert str(caught.value) == f"{box} does not exist, and {box.parent} lets us make no files"


def test_the_next_message_follows_and_no_lock_stays(box: Path) -> None:
    append(box)
    append(box)
    assert box.read_bytes() == STORED * 2
    assert os.listdir(box.parent) == ["bob"]
    assert [message["Subject"] for message in messages(box)] == ["one", "one"]


@pytest.mark.parametrize(("end", "gap"), [(b"x\n\n", b""), (b"x\n", b"\n"), (b"x", b"\n\n"), (b"\n", b"\n")])
def test_an_unfinished_message_before_it_is_closed(box: Path, end: bytes, gap: bytes) -> None:
    box.write_bytes(end)
    append(box)
    assert box.read_bytes() == end + gap + STORED


def test_the_null_sender_is_the_mailer_daemon(box: Path) -> None:
    mbox.append(str(box), [b"\r\n"], sender="", now=0)
    assert box.read_bytes().startswith(b"From MAILER-DAEMON Thu ")


def test_a_sender_with_a_blank_stays_one_word(box: Path) -> None:
    mbox.append(str(box), [b"\r\n"], sender='"a b"@example.org', now=0)
    assert box.read_bytes().startswith(b'From "a_b"@example.org Thu ')


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_a_full_disk_leaves_the_file_as_it_was(box: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    box.write_bytes(b"before\n\n")
    real, calls = getattr(os, function), 0

    def fail_once(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == (3 if function == "write" else 1):  # the first write is the dot-lock's
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, function, fail_once)
    with pytest.raises(OSError, match="No space left"):
        append(box)
    assert box.read_bytes() == b"before\n\n"
    assert os.listdir(box.parent) == ["bob"]


def test_short_writes_lose_nothing(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    append(box)
    assert box.read_bytes() == STORED


def test_a_body_that_cannot_be_read_leaves_the_file_as_it_was(box: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"Subject: one\r\n\r\n"
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        mbox.append(str(box), pieces(), sender="")
    assert box.read_bytes() == b""


def test_a_symbolic_link_is_refused(box: Path) -> None:
    (box.parent / "other").touch()
    box.symlink_to(box.parent / "other")
    with pytest.raises(NotUsable, match="symbolic link"):
        append(box)


def test_a_second_hard_link_is_refused(box: Path) -> None:
    (box.parent / "other").touch()
    box.hardlink_to(box.parent / "other")
    with pytest.raises(NotUsable, match="more than one hard link"):
        append(box)


def test_a_fifo_is_refused(box: Path) -> None:
    os.mkfifo(box)
    with pytest.raises(NotUsable, match="not a regular file"):
        append(box)


def test_a_file_of_somebody_else_is_refused(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box.touch()
    if not os.geteuid():
        os.chown(box, 4711, 4711)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(NotUsable, match="belongs to another user"):
        append(box)


def test_a_mailbox_that_another_process_locked_is_busy(box: Path) -> None:
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", script, box], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(MailboxBusy):
            append(box, waits=(0.001, 0.001))
        holder.communicate()
    append(box)
    assert box.read_bytes() == STORED


def test_a_dot_lock_of_a_running_program_is_respected(box: Path) -> None:
    lock = box.parent / "bob.lock"
    lock.write_text(f"{os.getppid()}\n")
    os.utime(lock, (0, 0))
    with pytest.raises(MailboxBusy):
        append(box, waits=(0.001,))
    assert lock.exists()


def test_a_fresh_dot_lock_without_a_process_is_respected(box: Path) -> None:
    (box.parent / "bob.lock").write_text("0\n")
    with pytest.raises(MailboxBusy):
        append(box, waits=(0.001,))


@pytest.mark.parametrize("content", ["", "0\n", "999999999\n", "no number\n"])
def test_an_old_dot_lock_without_a_process_is_removed(box: Path, content: str) -> None:
    lock = box.parent / "bob.lock"
    lock.write_text(content)
    os.utime(lock, (0, 0))
    append(box, waits=(0.001,))
    assert os.listdir(box.parent) == ["bob"]


def test_what_a_killed_delivery_left_locked_is_free_at_once(box: Path) -> None:
    script = "import os, sys\nfrom masqmail.delivery import dotlock\nassert dotlock.take(sys.argv[1])\nos._exit(0)"
    subprocess.run([sys.executable, "-c", script, box], check=True)
    assert (box.parent / "bob.lock").exists()
    append(box, waits=(0.001,))
    assert os.listdir(box.parent) == ["bob"]


def test_without_room_for_a_dot_lock_the_other_lock_does(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def forbid_locks(path: str, *arguments: int) -> int:
        if path.endswith(".lock"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", forbid_locks)
    append(box)
    assert box.read_bytes() == STORED


def test_a_mailbox_that_was_replaced_meanwhile_is_opened_again(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box.write_bytes(b"old\n\n")
    real = fcntl.lockf

    def replace_then_lock(descriptor: int, command: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", real)
        (box.parent / "new").write_bytes(b"new\n\n")
        (box.parent / "new").rename(box)
        real(descriptor, command)

    monkeypatch.setattr(fcntl, "lockf", replace_then_lock)
    append(box, waits=(0.0,))
    assert box.read_bytes() == b"new\n\n" + STORED


def test_a_wait_for_a_lock_can_be_given_up(box: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(MailboxBusy):
        mbox.append(str(box), MESSAGE, sender="", stop=stop)


def test_a_dot_lock_of_others_is_not_released(box: Path) -> None:
    (box.parent / "bob.lock").write_text("1\n")
    dotlock.release(str(box))
    assert (box.parent / "bob.lock").exists()


@pytest.mark.slow
def test_processes_that_append_at_once_lose_no_message(box: Path) -> None:
    script = (
        "import sys\nfrom masqmail.delivery import mbox\n"
        "for number in range(25):\n"
        "    header = b'Subject: %s-%d\\r\\n\\r\\n' % (sys.argv[2].encode(), number)\n"
        "    pieces = [header] + [b'x' * 70 + b'\\r\\n'] * 500\n"
        "    mbox.append(sys.argv[1], pieces, sender='', waits=[0.01] * 6000)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, box, name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = sorted(message["Subject"] for message in messages(box))
    assert found == sorted(f"{name}-{number}" for name in ("a", "b", "c") for number in range(25))
    assert all(len(message.get_payload()) == 71 * 500 for message in messages(box))


def test_threads_that_append_at_once_lose_no_message(box: Path) -> None:
    threads = [threading.Thread(target=append, args=(box, MESSAGE, (0.01,) * 6000)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert box.read_bytes() == STORED * 8
