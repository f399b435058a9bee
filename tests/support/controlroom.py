"""The parts behind the control socket, put together without a disk, a network or a running daemon."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from masqmail.daemon.aliasfiles import AliasFiles
from masqmail.daemon.control import Control, Masters
from masqmail.daemon.desk import Desk
from masqmail.daemon.directory import Directory
from masqmail.daemon.http import Request
from masqmail.daemon.manual import ManualLinks
from masqmail.daemon.operator import Operator
from masqmail.daemon.pauses import Pauses
from masqmail.daemon.reports import Reporter
from masqmail.daemon.scheduler import Scheduler
from masqmail.daemon.wiring import rules_of
from masqmail.links import DETECTORS
from masqmail.links.board import LinkBoard
from masqmail.mail.address import parse_mailbox
from masqmail.routing.route import RouteClass
from masqmail.spool.api import NewMessage, NewRecipient, TargetKind
from masqmail.spool.memory import MemorySpool
from masqmail.spool.queueid import QueueIds
from masqmail.system.accounts import Account, SingleAccount
from masqmail.system.clock import FakeClock
from support.configuration import configuration

TEXT = """
[host]
name = "home.example"
[local]
aliases = []
[links.dsl]
detect = "manual"
[links.wifi]
detect = "manual"
[routes.gmx]
links = ["dsl"]
smarthost = "mail.gmx.example:587"
recipients = ["*@net.example"]
[routes.backup]
links = ["wifi"]
smarthost = "mail.backup.example:587"
recipients = ["*@net.example"]
"""

DAEMON_UID, DAEMON_GID = 900, 901
JOHN, ANN, HELPER = 1000, 1001, 1002  # HELPER is in the daemon's group


class ControlRoom:
    """A control socket's handler with all it works on."""

    def __init__(self, board: LinkBoard, clock: FakeClock, text: str) -> None:
        found = configuration(text)
        self.clock, self.board = clock, board
        self.spool = MemorySpool(clock.now)
        rules = rules_of(found)
        accounts = SingleAccount(Account("john", JOHN, JOHN, "/home/john", "/bin/sh"))
        self.directory = Directory(rules, AliasFiles(found.local.aliases), accounts)
        self.desk = Desk(self.directory, Reporter(self.directory, clock, QueueIds()), self.spool, clock, _fail)
        self.pauses = Pauses(clock, rules.schedule)
        self.scheduler = Scheduler(rules, self.spool, board, self.pauses, clock)
        self.desk.ways = self.scheduler
        manual = ManualLinks(board, self.spool, "this boot")
        self.operator = Operator(
            self.scheduler, self.spool, board, manual, self.pauses, self.directory, self.desk, clock
        )
        masters = Masters(DAEMON_UID, DAEMON_GID)
        self.control = Control(self.operator, self.spool, masters, _groups_of, clock)
        self.generation = rules.generation

    async def accept(self, queue_id: str, *recipients: str, sender: str = "john@home.example", **more: Any) -> None:
        """Puts a message into the queue; `mark`, `owner_uid`, `body` and `header` are as one likes."""
        mark = more.pop("mark", "")
        routes = more.pop("routes", ("gmx", "backup"))
        values = {"header": b"Subject: test\r\n", "body": b"Hello\r\n", "owner_uid": None, **more}
        message = NewMessage(
            queue_id=queue_id,
            reverse_path=None if sender == "<>" else parse_mailbox(sender),
            recipients=[
                NewRecipient(
                    address,
                    address,
                    TargetKind.REMOTE,
                    RouteClass(routes, mark=mark, generation=self.generation),
                    address.partition("@")[2],
                )
                for address in recipients or ("ann@net.example",)
            ],
            received_at=self.clock.now(),
            received_from="john (uid 1000)",
            **values,
        )
        await self.spool.accept([message])

    async def ask(self, method: str, path: str, uid: int | None = 0, **document: object) -> Any:
        """The document of an answer, whole pieces joined."""
        path, _, query = path.partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        parts = tuple(path.strip("/").split("/"))
        response = await self.control.handle(Request(method, parts, pairs, document, uid, uid))
        if response.content is None:
            return response.document
        return b"".join([piece async for piece in response.content])


@asynccontextmanager
async def control_room(text: str = TEXT) -> AsyncIterator[ControlRoom]:
    """A control room whose detectors run."""
    clock = FakeClock()
    async with anyio.create_task_group() as tasks:
        board = LinkBoard(tasks, clock, lambda verdict: None)
        room = ControlRoom(board, clock, text)
        links = configuration(text).links
        board.watch({name: DETECTORS["manual"](name, link.options, clock) for name, link in links.items()})
        await anyio.wait_all_tasks_blocked()
        yield room
        tasks.cancel_scope.cancel()


def _groups_of(uid: int | None, gid: int | None) -> frozenset[int]:
    return frozenset({DAEMON_GID} if uid == HELPER else set())


def _fail(error: BaseException) -> None:
    raise AssertionError("a commit failed") from error
