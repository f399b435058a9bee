"""The whole daemon in the process of the test: real spool, real sockets, a clock of the test's."""

import os
import pwd
import smtplib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread

from masqmail.config.model import Configuration
from masqmail.daemon.views import QueueView
from masqmail.daemon.wiring import Daemon
from masqmail.spool.api import StoredRecipient
from masqmail.system.clock import FakeClock
from support.configuration import AS_USER, configuration
from support.ports import free_port

USER = pwd.getpwuid(os.geteuid()).pw_name

TEXT = """
[host]
name = "laptop.example.org"
postmaster = "{user}"
[paths]
spool = "{folder}/spool"
runtime = "{folder}/run"
[smtp]
listen = ["127.0.0.1:{port}"]
[local]
delivery = "maildir"
maildir = "{folder}/mail"
aliases = []
[links.line]
detect = "manual"
[routes.provider]
links = ["line"]
smarthost = "{next_hop}"
tls = "none"
"""

#: Real seconds after which something that should happen does not.
PATIENCE_SECONDS = 20


class House:
    """A folder, a configuration and a clock that outlive the daemons of a test."""

    def __init__(self, folder: Path, next_hop: object, more: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.clock = FakeClock()
        for name in ("spool/pickup", "run"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._text = TEXT.format(user=USER, folder=folder, port=self.port, next_hop=next_hop) + more

    def configuration(self) -> Configuration:
        return configuration(self._text, AS_USER, self.folder / "masqmail.toml")

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator["Tenant"]:
        """A daemon that runs for the length of the block, and ends cleanly."""
        daemon = Daemon(self.configuration(), None, self.clock)
        ready = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(daemon.run, ready.set)
            with anyio.fail_after(PATIENCE_SECONDS):
                await ready.wait()
            yield Tenant(self, daemon)
            daemon.stop()

    def mailbox(self) -> list[bytes]:
        """What was delivered to us."""
        return [path.read_bytes() for path in sorted((self.folder / "mail/new").glob("*"))]


class Tenant:
    """A running daemon of a house."""

    def __init__(self, house: House, daemon: Daemon) -> None:
        self.house = house
        self.daemon = daemon

    async def submit(self, recipients: Sequence[str], content: bytes, sender: str = "") -> None:
        """Hands a message in over SMTP. A sender of nothing is our own user."""

        def work() -> None:
            with smtplib.SMTP("127.0.0.1", self.house.port) as client:
                client.sendmail(sender or f"{USER}@laptop.example.org", recipients, content.replace(b"\n", b"\r\n"))

        await anyio.to_thread.run_sync(work)

    async def advance(self, time: timedelta, step: timedelta) -> None:
        """Lets time pass in steps; each time everybody has the chance to see it."""
        while time > timedelta(0):
            self.house.clock.advance(min(step, time))
            time -= step
            await self.catch_up()

    async def catch_up(self) -> None:
        """Lets what has become due happen, as far as it does not wait for a peer."""
        for _ in range(3):
            await anyio.sleep(0.001)
            await self.daemon.spool.counts()

    async def recipients(self) -> dict[str, StoredRecipient]:
        """All that are in the queue or of messages in it, by address."""
        return {
            recipient.target: recipient
            for queued in await self.daemon.spool.listing()
            for recipient in queued.recipients
        }

    async def reasons(self) -> dict[str, str]:
        """What a person reads about each of them."""
        view = QueueView(self.daemon.scheduler, self.house.clock.now())
        documents = [view.message(queued) for queued in await self.daemon.spool.listing()]
        return {item["address"]: item["reason"] for one in documents for item in one["recipients"]}  # type: ignore[index,attr-defined]

    async def until(self, condition: Callable[[dict[str, StoredRecipient]], bool]) -> dict[str, StoredRecipient]:
        """Waits for what the recipients in the queue must come to."""
        found: dict[str, StoredRecipient] = {}
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                while not condition(found := await self.recipients()):
                    await anyio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"still {found}") from None
        return found
