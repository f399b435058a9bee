"""A real daemon fetches mail from a server into the mailboxes of this host, whatever happens on the way."""

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.inprocess import USER
from support.peers import wait_until
from support.popmailbox import Mail, PopMailbox, mail
from support.poppost import PopPost, running_pop

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("MASQMAIL_FETCH_KILLS", "30"))

SUBJECT = re.compile(rb"^Subject: (.*)$", re.MULTILINE)


@pytest.fixture
def mailbox() -> PopMailbox:
    return PopMailbox()


@pytest.fixture
def post(mailbox: PopMailbox) -> Iterator[PopPost]:
    with running_pop(mailbox) as post:
        yield post


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """Starts a daemon with more in its configuration; it is stopped in the end."""
    daemons = []

    def start(more: str) -> Daemon:
        daemon = Daemon(tmp_path / "daemon", more)
        daemon.start()
        daemons.append(daemon)
        return daemon

    yield start
    for daemon in daemons:
        if daemon.process is not None:
            daemon.stop()


def subjects(daemon: Daemon) -> list[str]:
    """The subjects of all that was delivered, but for notices."""
    found = [content for content in daemon.mailbox() if b"\nAuto-Submitted:" not in content]
    return sorted(match[1].decode() for content in found if (match := SUBJECT.search(content)))


def fetch(daemon: Daemon, *arguments: str, exit_code: int = 0) -> list[dict[str, object]]:
    done = daemon.masqmail("fetch", *arguments, "--json")
    assert done.returncode == exit_code, (done.stdout, done.stderr, daemon.log.read_text()[-3000:])
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


def wait_for(daemon: Daemon, *expected: str) -> None:
    wait_until(lambda: subjects(daemon) == sorted(expected), f"{expected} in the mailbox", 20)


def test_mail_that_waits_is_in_the_mailbox_soon_after_the_start(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    content = b"Return-Path: <bob@far.example>\r\nSubject: odd lines\r\n\r\n.\r\n..\r\n\xe9" + b"x" * 5000 + b"\r\n"
    mailbox.mails += [mail("one"), mail("two", size=50_000), Mail("three", content)]
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"'))
    wait_for(daemon, "one", "two", "odd lines")
    wait_until(lambda: mailbox.uids == [], "an empty mailbox on the server")
    (odd,) = [one for one in daemon.mailbox() if b"odd lines" in one]
    assert odd.endswith(content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"))
    assert odd.startswith(b"Return-Path: <bob@far.example>\n")
    assert b"(account isp)" in odd.partition(b"\nReceived: ")[2][:100], odd[:500]
    wait_until(lambda: daemon.ask("status")["fetch"][0]["last_at"], "the end of the fetch")
    (account,) = daemon.ask("status")["fetch"]
    assert (account["name"], account["state"]) == ("isp", "ready")
    assert account["reason"].startswith("3 messages taken (5")
    assert account["last_at"] < account["next_at"]


def test_fetch_brings_what_is_there_when_it_is_said(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', 'interval = "manual"', "keep = true"))
    assert daemon.ask("status")["fetch"][0]["state"] == "manual"
    (nothing,) = fetch(daemon)
    assert (nothing["state"], nothing["taken"]) == ("done", 0)
    mailbox.mails.append(mail("one"))
    (one,) = fetch(daemon, "isp")
    assert (one["account"], one["state"], one["taken"], one["bytes"]) == ("isp", "done", 1, mailbox.mails[0].size)
    wait_for(daemon, "one")
    assert mailbox.uids == ["one"], "it is kept on the server"
    (again,) = fetch(daemon)
    assert (again["taken"], again["reason"]) == (0, "nothing new")
    assert daemon.masqmail("fetch", "nobody").returncode == os.EX_DATAERR


def test_a_server_that_is_not_there_fails_with_its_reason_and_others_go_on(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails.append(mail("one"))
    lost = post.account(tmp_path, "lost").replace(f":{post.port}", ":1")
    daemon = run(lost + post.account(tmp_path, "isp", f'deliver_to = "{USER}"'))
    wait_for(daemon, "one")
    lost_end, isp_end = sorted(fetch(daemon, exit_code=os.EX_TEMPFAIL), key=lambda end: end["account"] == "isp")
    assert (lost_end["account"], lost_end["state"], isp_end["state"]) == ("lost", "failed", "done")
    assert "127.0.0.1:1" in str(lost_end["reason"])
    lost_status = daemon.ask("status")["fetch"][0]
    assert lost_status["state"] == "failed"
    assert str(lost_end["reason"]) in lost_status["reason"]
    shown = daemon.masqmail("fetch").stdout
    assert f"lost: failed: {lost_end['reason']}\n" in shown
    assert "isp: nothing new\n" in shown


def test_a_link_that_comes_up_has_mail_fetched(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails.append(mail("one"))
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', links='"line"'))
    daemon.masqmail("link", "down", "line")
    (end,) = fetch(daemon, exit_code=os.EX_TEMPFAIL)
    assert str(end["reason"]).startswith("link line is down: declared down by hand")
    assert mailbox.sessions == []
    daemon.masqmail("link", "up", "line")
    wait_for(daemon, "one")


def test_a_big_message_waits_on_the_server_until_somebody_gets_it(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails += [mail("small"), mail("big", size=200_000)]
    settings = (f'deliver_to = "{USER}"', 'max_size = "100KB"', 'interval = "manual"')
    daemon = run(post.account(tmp_path, "isp", *settings))
    (end,) = fetch(daemon)
    assert (end["taken"], end["left"]) == (1, 1)
    fetch(daemon)
    wait_until(lambda: len(daemon.mailbox()) == 2 and daemon.queue() == [], "the small one and a notice", 20)
    assert subjects(daemon) == ["small"]
    (notice,) = [one for one in daemon.mailbox() if b"\nAuto-Submitted:" in one]
    assert b"\n  masqmail fetch isp --message big\n" in notice
    assert b"\n  Subject: big\n" in notice
    (end,) = fetch(daemon, "isp", "--message", "big")
    assert (end["state"], end["taken"]) == ("done", 1)
    wait_for(daemon, "small", "big")
    assert mailbox.uids == []
    (end,) = fetch(daemon, "isp", "--message", "nothing", exit_code=os.EX_TEMPFAIL)
    assert "nothing" in str(end["reason"])


def test_a_reply_to_the_notice_brings_the_big_message(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails.append(mail("big", size=200_000))
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', 'max_size = "100KB"'))
    wait_until(lambda: len(daemon.mailbox()) == 1, "a notice", 20)
    (notice,) = daemon.mailbox()
    found = re.search(rb"^Reply-To: (.*)$", notice, re.MULTILINE)
    assert found is not None
    answer = b"To: %s\nSubject: Re: big\n\nplease\n" % found[1]
    assert daemon.sendmail("-t", message=answer).returncode == 0
    wait_for(daemon, "big")
    daemon.wait_for_empty_queue()
    history = daemon.ask("log")
    assert any("what it is about is fetched" in entry["text"] for entry in history)


def test_a_reply_that_was_written_while_no_daemon_ran_is_understood_at_its_start(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails.append(mail("big", size=200_000))
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', 'max_size = "100KB"'))
    wait_until(lambda: len(daemon.mailbox()) == 1, "a notice", 20)
    found = re.search(rb"^Reply-To: (.*)$", daemon.mailbox()[0], re.MULTILINE)
    assert found is not None
    daemon.stop()
    (daemon.folder / "spool/pickup").mkdir(exist_ok=True)
    assert daemon.sendmail("-t", message=b"To: %s\nSubject: Re: big\n\nplease\n" % found[1]).returncode == 0
    daemon.start()
    wait_for(daemon, "big")
    daemon.wait_for_empty_queue()


def test_what_another_program_has_fetched_is_not_fetched_again(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails += [mail("old"), mail("new")]
    uids = tmp_path / "daemon" / "uids"
    uids.mkdir(parents=True)
    (uids / "isp").write_text("old\n")
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', "keep = true"))
    wait_for(daemon, "new")


def test_check_says_that_a_provider_records_no_envelope(mailbox: PopMailbox, post: PopPost, tmp_path: Path) -> None:
    mailbox.capabilities = ("TOP", "UIDL", "USER")  # with USER and PASS it looks at the password
    mailbox.mails += [mail("one"), mail("two")]
    multidrop = ('auth = ["plain"]', 'envelope_header = "Delivered-To"', 'multidrop_domains = ["home.example"]')
    daemon = Daemon(tmp_path / "daemon", post.account(tmp_path, "isp", *multidrop))
    done = daemon.masqmail("check", "--connect")
    assert done.returncode == 0, done.stderr
    told = "none of 2 messages there has a recipient in Delivered-To; all mail goes to postmaster"
    assert f"fetch.isp: 127.0.0.1:{post.port}: fine; {told}\n" in done.stdout
    assert mailbox.uids == ["one", "two"]
    (tmp_path / "isp.secret").write_text("wrong\n")
    done = daemon.masqmail("check", "--connect")
    assert done.returncode == os.EX_UNAVAILABLE
    assert "refused the login of ann" in done.stdout


def test_a_daemon_that_is_stopped_in_a_fetch_says_quit_and_goes_on_with_the_rest_later(tmp_path: Path) -> None:
    mailbox = PopMailbox([mail(f"m{number:03}", size=3_000) for number in range(400)])
    sent = mailbox.uids
    with running_pop(mailbox, bytes_per_second=400_000) as post:
        daemon = Daemon(tmp_path / "daemon", post.account(tmp_path, "isp", f'deliver_to = "{USER}"'))
        daemon.start()
        wait_until(lambda: len(daemon.mailbox()) > 5, "some mail in the mailbox")
        began = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - began < 8, "it waits for the server, but not for long"
        assert mailbox.sessions[-1].has_quit
        assert 0 < len(mailbox.uids) < 400, "what was taken is deleted"
        left = len(mailbox.uids)
        daemon.start()
        wait_until(lambda: len(subjects(daemon)) >= 400, "all mail in the mailbox", 60)
        daemon.stop()
    assert subjects(daemon) == sent
    assert left > 100, "it did not go on to the end"


def test_a_server_that_falls_silent_does_not_hold_up_the_end(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails += [mail("one"), mail("two")]
    mailbox.rewrite = lambda line, reply: b"" if line.startswith("RETR") else reply
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"'))
    wait_until(lambda: mailbox.sessions and "RETR 1" in mailbox.sessions[-1].commands, "a fetch")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert 4 < time.monotonic() - began < 15


def test_who_waits_for_a_fetch_may_go_away(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    daemon = run(post.account(tmp_path, "isp", f'deliver_to = "{USER}"', 'interval = "manual"'))
    mailbox.mails.append(mail("one"))
    is_asked, goes_on = threading.Event(), threading.Event()

    def hold(line: str, reply: bytes) -> bytes:
        if line.startswith("RETR"):
            is_asked.set()
            goes_on.wait(20)
        return reply

    mailbox.rewrite = hold
    command = [sys.executable, "-m", "masqmail.cli.main", "fetch"]
    client = subprocess.Popen(command, env=daemon.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert is_asked.wait(20)
    client.kill()
    client.wait()
    goes_on.set()
    wait_for(daemon, "one")
    assert fetch(daemon)[0]["reason"] == "nothing new"


def test_an_account_comes_with_a_reload(
    mailbox: PopMailbox, post: PopPost, run: Callable[[str], Daemon], tmp_path: Path
) -> None:
    mailbox.mails.append(mail("one"))
    daemon = run("")
    assert daemon.ask("status")["fetch"] == []
    text = daemon.config.read_text()
    daemon.configure(text + post.account(tmp_path, "isp", f'deliver_to = "{USER}"'))
    daemon.reload()
    wait_for(daemon, "one")
    daemon.configure(text)
    daemon.reload()
    wait_until(lambda: daemon.ask("status")["fetch"] == [], "no account any more")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("keep", ["false", "true"])
def test_a_kill_at_any_moment_of_a_fetch_loses_nothing_and_doubles_nothing(tmp_path: Path, keep: str) -> None:
    chance, mailbox = random.Random(keep), PopMailbox()
    sent: list[str] = []
    with running_pop(mailbox, bytes_per_second=500_000) as post:
        daemon = Daemon(
            tmp_path / "daemon", post.account(tmp_path, "isp", f'deliver_to = "{USER}"', f"keep = {keep}")
        )
        for _ in range(max(1, KILLS // 2)):
            while len(sent) - len(subjects(daemon)) < 10:
                name = f"m{len(sent)}"
                sent.append(name)
                mailbox.mails.append(mail(name, size=chance.choice((0, 3_000, 3_000, 100_000))))
            _fetch_and_die(daemon, mailbox, chance)
        kills_on_the_way = sum(not session.has_quit for session in mailbox.sessions)
        daemon.start()
        try:
            wait_until(lambda: len(subjects(daemon)) >= len(sent), "all mail in the mailbox", 120)
            fetch(daemon)
            daemon.wait_for_empty_queue()
        finally:
            daemon.stop()
    found = Counter(subjects(daemon))
    assert set(sent) - set(found) == set(), "lost"
    assert {name: count for name, count in found.items() if count > 1} == {}, "came twice"
    assert mailbox.uids == (sent if keep == "true" else [])
    bodies = [path for path in (tmp_path / "daemon/spool/bodies").rglob("*") if path.is_file()]
    assert bodies == [], "a body without its message is left"
    assert kills_on_the_way > KILLS // 4, "most of them came too late to mean anything"


def _fetch_and_die(daemon: Daemon, mailbox: PopMailbox, chance: random.Random) -> None:
    """A daemon that fetches by itself as soon as it runs, and is killed at some moment of that."""
    before = len(mailbox.sessions)
    daemon.start(wait=False)
    wait_until(lambda: len(mailbox.sessions) > before, "a connection to the server", 20)
    time.sleep(chance.random() * 0.6)
    daemon.kill()
