"""`masqmail import`: what it prints, which files it writes, and that old mail goes on once."""

import hashlib
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from masqmail.cli.run import run
from masqmail.reception.pickupfile import parse_ticket
from support.daemon import Daemon, smarthost_route
from support.imported import TREES
from support.receiver import running_receiver

GATEWAY = str(TREES / "gateway-0.2.20")

HEAD = (
    "MF:<ann@laptop.example.org>\nRT: <bob@good.test>\nRT:X<done@good.test>\nRT: |/bin/fax\nPR:local\nTR:1041379200\n"
)
HEADER = "HD:From: Ann  <ann@laptop.example.org>\nHD:To: bob@good.test\nHD:Subject: =?odd\n\tfolded\n"
HEADER += "HD:Date: Wed, 1 Jan 2003 00:00:00 +0000\nHD:Message-ID: <1@old.example>\nHD:X-Test: old\n"
BODY = b"Hello\n.\n..dots\n\xe4 and no end"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """An old spool with one message that waits, one that is done, and one that is broken."""
    folder = tmp_path / "old"
    (folder / "input").mkdir(parents=True)
    (folder / "popuidl").mkdir()
    (folder / "popuidl/jsmith@pop.fastnet.example").write_text("u1\nu2\n")
    for name, head, header in (("aa", HEAD, HEADER), ("bb", HEAD.replace("RT: ", "RT:X"), HEADER), ("cc", "", "")):
        (folder / f"input/{name}-H").write_text(f"{name}\n{head}\n{header}")
        (folder / f"input/{name}-D").write_bytes(f"{name}\n".encode() + BODY)
    return folder


def state_of(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_it_prints_the_file_and_reports_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["import", GATEWAY]) == 0
    printed = capsys.readouterr()
    assert tomllib.loads(printed.out)["host"]["name"] == "gateway.home.example"
    assert "Has no counterpart" in printed.err
    assert "fastnet.secret is not written without --output" in printed.err
    assert list(tmp_path.iterdir()) == []


def test_output_has_the_secrets_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "masqmail.toml"
    assert run(["import", GATEWAY, "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in file.parent.iterdir()}
    assert modes["masqmail.toml"] == "0o644"
    assert {mode for name, mode in modes.items() if name.endswith(".secret")} == {"0o600"}
    assert (file.parent / "fastnet.secret").read_text() == "fast secret\n"


def test_what_is_there_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "masqmail.toml"
    assert run(["import", GATEWAY, "--output", str(file)]) == 0
    before = state_of(tmp_path)
    assert run(["import", GATEWAY, "--output", str(file)]) == 0, "the same once more changes nothing"
    file.write_text("# mine\n")
    (tmp_path / "fastnet.secret").unlink()
    assert run(["import", GATEWAY, "--output", str(file)]) == os.EX_CANTCREAT
    assert "says something else" in capsys.readouterr().err
    assert file.read_text() == "# mine\n"
    assert sorted(before) != sorted(state_of(tmp_path)), "not even a part was written"


def test_what_cannot_be_imported_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", str(tmp_path)]) == os.EX_NOINPUT
    assert "no configuration" in capsys.readouterr().err


def test_the_dialect_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", GATEWAY, "--dialect", "0.3"]) == 0
    assert "MasqMail 0.3: you said so" in capsys.readouterr().err


def configuration_in(folder: Path) -> Path:
    """A configuration of ours with an empty pickup folder, and no daemon."""
    (folder / "spool/pickup").mkdir(parents=True)
    file = folder / "masqmail.toml"
    file.write_text(f'[paths]\nspool = "{folder}/spool"\nruntime = "{folder}/run"\n')
    return file


def test_old_mail_waits_in_the_pickup_folder_once(
    tmp_path: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, before = configuration_in(tmp_path / "ours"), state_of(spool)
    words = ["import", GATEWAY, "--queue", str(spool), "--config", str(config)]
    assert run(words) == 0
    told = capsys.readouterr().err
    [file] = (tmp_path / "ours/spool/pickup").iterdir()
    envelope, _, message = file.read_bytes().partition(b"\n\n")
    ticket = parse_ticket(envelope)
    assert str(ticket.sender) == "ann@laptop.example.org"
    assert [str(mailbox) for mailbox in ticket.recipients] == ["bob@good.test"]
    header = HEADER.replace("HD:", "").replace("\n", "\r\n").encode()
    assert message.startswith(header + b"\r\n" + BODY.replace(b"\n", b"\r\n") + b"\r\n")
    for part in (
        "delivered before: <done@good.test>",
        "no address, so left out: |/bin/fax",
        "bb: waits for nobody",
        "cc-H",
    ):
        assert part in told
    assert run(words) == 0
    assert "was handed over before" in capsys.readouterr().err
    assert len(list((tmp_path / "ours/spool/pickup").iterdir())) == 1
    assert state_of(spool) == before


def test_another_message_of_the_same_name_is_another_one(tmp_path: Path, spool: Path) -> None:
    config = configuration_in(tmp_path / "ours")
    words = ["import", GATEWAY, "--queue", str(spool), "--config", str(config)]
    assert run(words) == 0
    head = spool / "input/aa-H"
    head.write_text(head.read_text().replace("Subject: ", "Subject: another "))
    assert run(words) == 0
    assert len(list((tmp_path / "ours/spool/pickup").iterdir())) == 2


def test_without_daemon_and_pickup_folder_nothing_is_noted(
    tmp_path: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration_in(tmp_path / "ours")
    (tmp_path / "ours/spool/pickup").rmdir()
    assert run(["import", GATEWAY, "--queue", str(spool), "--config", str(config)]) == os.EX_TEMPFAIL
    assert "the mail system is not running" in capsys.readouterr().err
    assert (tmp_path / "ours/imported-queue").read_text().splitlines()[-1].startswith("! aa ")


def test_a_message_at_which_the_import_was_cut_off_may_arrive_twice(
    tmp_path: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration_in(tmp_path / "ours")
    words = ["import", GATEWAY, "--queue", str(spool), "--config", str(config)]
    assert run(words) == 0
    assert "may arrive twice" not in capsys.readouterr().err
    notes = tmp_path / "ours/imported-queue"
    begun, _ = notes.read_text().splitlines()
    notes.write_text(f"{begun}\n")
    assert run(words) == 0
    assert "aa: handed over for bob@good.test (may arrive twice: the import" in capsys.readouterr().err


def test_the_lists_of_fetched_mail_are_kept(tmp_path: Path, spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new/masqmail.toml"
    run(["import", GATEWAY, "--output", str(file), "--queue", str(spool)])
    assert (tmp_path / "new/uids/fastnet").read_text() == "u1\nu2\n"
    assert "2 messages that were fetched already" in capsys.readouterr().err


def test_several_lists_of_one_account_are_put_together(tmp_path: Path, spool: Path) -> None:
    (spool / "popuidl/jsmith@pop7.fastnet.example").write_text("u2\nu3\n")  # the server's own name, that day
    run(["import", GATEWAY, "--output", str(tmp_path / "new/masqmail.toml"), "--queue", str(spool)])
    assert (tmp_path / "new/uids/fastnet").read_text() == "u1\nu2\nu3\n"


def test_the_lists_of_a_copied_system_are_found_in_the_copy(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(GATEWAY, copy)
    lists = copy / "var/spool/masqmail/popuidl"
    lists.mkdir(parents=True)
    (lists / "jsmith@pop.fastnet.example").write_text("u1\n")
    run(["import", str(copy), "--output", str(tmp_path / "new/masqmail.toml")])
    assert (tmp_path / "new/uids/fastnet").read_text() == "u1\n"


def test_a_list_that_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spool").mkdir()
    run(["import", GATEWAY, "--queue", str(tmp_path / "spool"), "--output", str(tmp_path / "new/masqmail.toml")])
    assert "[fetch.fastnet]: no list of what it has fetched is in " in capsys.readouterr().err


def test_a_queue_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configuration_in(tmp_path / "ours")
    words = ["import", GATEWAY, "--queue", str(tmp_path / "nowhere"), "--config", str(config)]
    assert run(words) == os.EX_NOINPUT
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_the_running_daemon_takes_old_mail_and_sends_it_on(
    tmp_path: Path, spool: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_receiver() as receiver:
        daemon = Daemon(tmp_path / "daemon", smarthost_route("good", receiver.port, 'tls = "none"'))
        daemon.start()
        try:
            words = ["import", GATEWAY, "--queue", str(spool), "--config", str(daemon.config)]
            assert run(words) == 0
            assert "handed over for bob@good.test" in capsys.readouterr().err
            assert daemon.masqmail("flush", "--wait").returncode == 0
            assert run(words) == 0
        finally:
            daemon.stop()
        [received] = receiver.taken
    header = HEADER.replace("HD:", "").replace("\n", "\r\n").encode()
    assert received.content.endswith(header + b"\r\n" + BODY.replace(b"\n", b"\r\n") + b"\r\n")
    assert received.recipients == ("bob@good.test",)
