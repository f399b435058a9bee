"""Two MasqMails: one keeps the mail of a domain, the other fetches it with ATRN. Nothing is lost, or comes twice."""

import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.authority import Authority
from support.daemon import CONFIGURATION, Daemon
from support.mail import identity, message, submit
from support.peers import wait_until
from support.ports import free_port

pytestmark = pytest.mark.slow

DOUBTS = "SELECT queue_id, count(*) FROM history WHERE text LIKE 'may arrive twice%' GROUP BY queue_id"

FROM_PROVIDER = re.compile(rb"by laptop\.example\.org[^;]*?\bid ([^\s;]+)")

KILLS, BATCH, LETTER_BYTES = 12, 20, 50_000

KEPT = """
[routes.customer]
deliver = "odmr"
for = "bob"
recipients = ["*@customer.test"]
"""

ACCOUNT = """
[fetch.provider]
links = ["always"]
protocol = "odmr"
server = "localhost:{port}"
tls = "{tls}"
{ca}
username = "bob"
password_file = "{folder}/secret"
multidrop_domains = ["customer.test"]
deliver_to = "all"
interval = "{interval}"

[queue]
retry = ["1s"]
"""


class Pair:
    """A provider and a customer, in folders beside each other."""

    def __init__(self, folder: Path, *, with_tls: bool = False, interval: str = "manual") -> None:
        smtp, ca = "", ""
        if with_tls:
            authority = Authority(folder / "ca")
            certificate = authority.issue("localhost")
            smtp = f'certificate = "{certificate.chain}"\nprivate_key = "{certificate.private_key}"'
            ca = f'tls_ca = "{authority.ca}"'
        port = free_port()
        text = CONFIGURATION.format(folder=folder / "provider", port=port).replace("[smtp]", f"[smtp]\n{smtp}")
        self.provider = Daemon(folder / "provider", port=port, text=text + KEPT)
        self.provider.set_password("bob", "sesame")
        home = folder / "customer"
        account = ACCOUNT.format(
            port=port, tls="starttls" if with_tls else "none", ca=ca, folder=home, interval=interval
        )
        port = free_port()
        text = CONFIGURATION.format(folder=home, port=port).replace("laptop", "customer")
        text = text.replace('"customer.example.org"]', '"customer.example.org", "customer.test"]')
        self.customer = Daemon(home, port=port, text=text + account)
        (home / "secret").write_text("sesame\n")
        (home / "aliases").write_text("all: root\n")

    def put(self, *names: str, size: int = 100) -> None:
        """Mail for the customer, at his provider."""
        body = b"It works, as far as one can see.\n" * (size // 32)
        letters = [message(name, body, to="all@customer.test") for name in names]
        submit(self.provider.port, "all@customer.test", *letters)

    def begin_fetch(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "masqmail.cli.main", "fetch", "provider"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self.customer.environment, stdout=quiet, stderr=quiet)

    def logins(self) -> int:
        """How often the customer has logged in at his provider."""
        return self.provider.log.read_text().count("login succeeded")

    def arrived(self) -> int:
        return len(list((self.customer.folder / "maildir" / "new").glob("*")))

    def doubts(self) -> Counter[str]:
        """How often the provider could not know whether the customer had a message, by its queue ID there."""
        with closing(sqlite3.connect(self.provider.folder / "spool" / "queue.sqlite3")) as queue:
            return Counter(dict(queue.execute(DOUBTS).fetchall()))

    def twice(self) -> Counter[str]:
        """How often too often messages have come, by their queue ID at the provider."""
        found = (FROM_PROVIDER.search(content) for content in self.customer.mailbox() if b"X-Test:" in content)
        counts = Counter(match[1].decode() for match in found if match)
        return Counter({queue_id: count - 1 for queue_id, count in counts.items() if count > 1})

    def fetched(self) -> Counter[str]:
        return Counter(identity(content) for content in self.customer.mailbox() if b"X-Test:" in content)


@contextmanager
def running(folder: Path, *, with_tls: bool = False) -> Iterator[Pair]:
    pair = Pair(folder, with_tls=with_tls)
    pair.provider.start()
    pair.customer.start()
    try:
        yield pair
    finally:
        for daemon in (pair.provider, pair.customer):
            if daemon.process is not None:
                daemon.stop()


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
def test_what_was_kept_arrives_once(tmp_path: Path, with_tls: bool) -> None:
    with running(tmp_path, with_tls=with_tls) as pair:
        names = [f"m{number}" for number in range(20)]
        pair.put(*names)
        [waiting, *_] = pair.provider.queue()
        assert waiting["recipients"][0]["reason"] == "waits until bob fetches it with ATRN (route customer)"
        done = pair.customer.masqmail("fetch", "provider")
        assert done.returncode == 0, done.stderr
        assert "20" in done.stdout
        pair.provider.wait_for_empty_queue()
        pair.customer.wait_for_empty_queue()
        assert pair.fetched() == Counter(names)
        done = pair.customer.masqmail("fetch", "provider")
        assert done.returncode == 0, "that there is nothing is no failure"
        assert pair.fetched() == Counter(names)
        content = pair.customer.mailbox()[0].decode()
        assert f" with ESMTP{'S' if with_tls else ''}\n" in content


@pytest.mark.timeout(300)
def test_a_kill_of_either_side_loses_nothing_and_doubles_only_what_was_in_doubt(tmp_path: Path) -> None:
    chance, names = random.Random(5), list[str]()
    with running(tmp_path) as pair:
        for moment in range(KILLS):
            batch = [f"k{moment}-{number}" for number in range(BATCH)]
            pair.put(*batch, size=LETTER_BYTES)
            names += batch
            logins, arrived = pair.logins(), pair.arrived()
            fetching = pair.begin_fetch()
            if moment % 4 < 2:  # about the turn
                wait_until(lambda seen=logins: pair.logins() > seen, "a login")  # type: ignore[misc]
            else:  # between the messages
                wait_until(lambda seen=arrived: pair.arrived() > seen, "a message")  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            victim = pair.provider if moment % 2 else pair.customer
            victim.kill()
            fetching.wait(timeout=30)
            victim.start()
        while pair.provider.queue():
            assert pair.customer.masqmail("fetch", "provider").returncode == 0
        pair.customer.wait_for_empty_queue()
        pair.provider.stop()
        assert Counter(names) - pair.fetched() == Counter(), "something was lost"
        assert pair.twice() - pair.doubts() == Counter(), "something came twice without need"
        assert set(pair.fetched()) == set(names)
