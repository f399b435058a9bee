"""Fetches mail from the accounts of [fetch]: one task for each, so that none waits for another's server.

`task` decides when, by what `ledger` knows, `visit` does it, `inbox` is where mail goes. Nothing
of this is in memory while no account is configured.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from http import HTTPStatus

import anyio
from anyio.abc import TaskGroup

from masqmail.config.fetch import FetchSection
from masqmail.daemon.fetch.inbox import FetchInbox
from masqmail.daemon.fetch.request import Request, joined, summary
from masqmail.daemon.fetch.task import AccountTask
from masqmail.daemon.fetch.tools import Tools
from masqmail.daemon.fetch.waits import first_of, within
from masqmail.daemon.http import HttpError
from masqmail.daemon.views import Document, instant
from masqmail.mail.size import in_words
from masqmail.retrieval.account import Order, Tally
from masqmail.routing.link import Verdict

#: How long a fetch may take to say goodbye to its server when it has to end.
GRACE_SECONDS = 5.0

#: How often progress is told, and how often at least, so that whoever waits knows that we are alive.
PROGRESS_SECONDS = 0.25
SILENT_ROUNDS = 80


class Fetcher:
    """The tasks of all accounts, which run in this group and work with these tools."""

    def __init__(self, tasks: TaskGroup, tools: Tools) -> None:
        self._group = tasks
        self._tools = tools
        self._tasks: dict[str, AccountTask] = {}

    def watch(self, sections: Mapping[str, FetchSection]) -> None:
        """Fetches these accounts instead of those before. One that stays as it is goes on, at once if it failed."""
        old, self._tasks = self._tasks, {}
        for name, section in sections.items():
            known = old.get(name)
            if known is not None and known.section == section:
                self._tasks[name] = old.pop(name)
                known.reloaded()
                continue
            self._tools.visitor.secrets.forget(name)
            self._tasks[name] = AccountTask(section, self._tools, known)
        for task in old.values():
            self._group.start_soon(self._end, task)
        for name, task in self._tasks.items():
            if not task.is_started:
                self._group.start_soon(task.run, name=f"fetch {name}")
                task.is_started = True

    async def close(self) -> None:
        """Ends all of them; those that fetch may say goodbye to their servers."""
        async with anyio.create_task_group() as group:
            for task in self._tasks.values():
                group.start_soon(self._end, task)

    async def _end(self, task: AccountTask) -> None:
        task.end()
        await within(self._tools.visitor.clock, GRACE_SECONDS, task.has_ended.wait)
        task.scope.cancel()

    def link_changed(self, verdict: Verdict) -> None:
        """To be told of every change of a link."""
        for task in self._tasks.values():
            if verdict.link in task.section.links:
                task.link_changed(verdict)

    async def want(self, account: str, uid: str) -> None:
        """Has one message fetched as soon as its account can be, whatever its size."""
        if account in self._tasks:
            await self._tasks[account].want(uid)

    # --- what people see and ask

    def documents(self) -> list[Document]:
        """Every account with its state and the reason, for the status."""
        return [self._document(task) for task in self._tasks.values()]

    def names(self, wanted: Sequence[str], *, link: str = "", online: bool = False) -> list[str]:
        """The accounts that are meant: by name, those of a link, those with a link that is up, or all.

        Raises `HttpError` for one that does not exist.
        """
        for name in wanted:
            if name not in self._tasks:
                known = ", ".join(self._tasks) or "none"
                raise HttpError(HTTPStatus.NOT_FOUND, f"there is no fetch account {name!r}; there are {known}")
        return [
            name
            for name, task in self._tasks.items()
            if (not wanted or name in wanted)
            and (not link or link in task.section.links)
            and (not online or (task.up_link() is not None and not task.is_manual))
        ]

    async def fetch(self, names: Collection[str], messages: Sequence[str] = ()) -> AsyncGenerator[object, None]:
        """Fetches these accounts now, or these messages, and tells how far it is.

        The last word on each account is "done" or "failed".
        """
        order = Order(tuple(messages))
        there = [self._tasks[name] for name in names if name in self._tasks]
        pending = {task.section.name: (task, task.ask(order)) for task in there}
        told: dict[str, Document] = {}
        silent = 0
        while pending:
            silent += 1
            for name, (task, request) in list(pending.items()):
                document = _progress(task, request)
                if document != told.get(name) or silent >= SILENT_ROUNDS:
                    told[name], silent = document, 0
                    yield document
                if document["state"] in ("done", "failed"):
                    del pending[name]
            if pending:
                await _wait_for_any([request for _, request in pending.values()])

    def _document(self, task: AccountTask) -> Document:
        state, reason = _state(task)
        return {
            "name": task.section.name,
            "state": state,
            "reason": reason,
            "last_at": instant(task.standing.last_at),
            "next_at": instant(task.next_at()),
        }


def _state(task: AccountTask) -> tuple[str, str]:
    """The state of an account and the reason for it, in words."""
    standing, name = task.standing, task.section.name
    before = f"; before: {standing.reason}" if standing.reason else ""
    if task.inbox is not None:
        return "fetching", _how_far(task, task.inbox)
    if task.is_queued:
        return "ready", f"waits until another account has been fetched over link {task.link}"
    if standing.failures and (task.is_manual or task.up_link() is not None):
        again = f", {standing.failures} times in a row" if standing.failures > 1 else ""
        return "failed", f"{standing.reason}{again}"
    if task.is_manual:
        return "manual", f"fetched when told to (`masqmail fetch {name}`){before}"
    if task.up_link() is None:
        return "waiting", f"{task.links_in_words()}{before}"
    if task.is_waiting_for_mail:
        return "ready", f"the server says when there is mail{before}"
    return "ready", standing.reason or "not fetched yet"


def _how_far(task: AccountTask, inbox: FetchInbox) -> str:
    """How far the fetch is that this account makes now."""
    if not inbox.tally.expected:
        return f"asks the server over link {task.link}"
    tally, size_bytes = _so_far(task, inbox)
    return f"{tally.taken} of {tally.expected} taken over link {task.link}, {in_words(size_bytes)}"


def _so_far(task: AccountTask, inbox: FetchInbox) -> tuple[Tally, int]:
    """What came of it, over connections that died as well, and the octets of all that, begun messages included."""
    before = task.current.before if task.current else Tally()
    return joined(before, inbox.tally), before.taken_bytes + inbox.received_bytes


def _progress(task: AccountTask, request: Request) -> Document:
    """How far a request is, or how it ended."""
    if request.end is not None:
        state, tally = "failed" if request.end.is_failure else "done", request.end.tally
        return _counts(task, state, tally, tally.taken_bytes, request.end.reason or summary(request.end))
    if task.inbox is None or request is not task.current:
        return _counts(task, "waiting", Tally(), 0, _state(task)[1])
    return _counts(task, "fetching", *_so_far(task, task.inbox), _how_far(task, task.inbox))


def _counts(task: AccountTask, state: str, tally: Tally, size_bytes: int, reason: str) -> Document:
    return {
        "account": task.section.name,
        "state": state,
        "taken": tally.taken,
        "expected": tally.expected,
        "bytes": size_bytes,
        "left": tally.left,
        "refused": tally.refused,
        "deleted": tally.deleted,
        "moved": tally.moved,
        "reason": reason,
    }


async def _wait_for_any(requests: Sequence[Request]) -> None:
    """Returns when one of them has ended, or when it is time to tell how far they are."""
    with anyio.move_on_after(PROGRESS_SECONDS):
        await first_of(*(request.wait for request in requests))
