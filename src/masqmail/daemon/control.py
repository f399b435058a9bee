"""The control socket: what the commands ask of the running daemon, as HTTP and JSON.

Anyone may connect; peer credentials decide. Root, the daemon's user and its group see and do everything, others see
and remove only their own messages.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from masqmail.daemon import views
from masqmail.daemon.http import HttpError, Json, Request, Response
from masqmail.daemon.operator import Operator
from masqmail.spool.api import QueuedMessage, Selection, Spool
from masqmail.system.clock import Clock
from masqmail.system.events import COMMAND_RECEIVED, emit

Action = Callable[[Request, "Permission"], Awaitable[Response]]

#: How many messages are read from the spool at a time for a long answer.
SLICE = 500


@dataclass(frozen=True, slots=True)
class Permission:
    """What a peer may do. `owner_uid` is None for those who see everything."""

    owner_uid: int | None

    @property
    def is_full(self) -> bool:
        return self.owner_uid is None


@dataclass(frozen=True, slots=True)
class Masters:
    """Who sees and does everything, beside root."""

    uid: int
    gid: int

    def permission(self, uid: int | None, groups: frozenset[int]) -> Permission:
        return Permission(None if uid in (0, self.uid) or self.gid in groups else (-1 if uid is None else uid))


class Control:
    """Answers requests. The path's first part after `v1` names the thing, the next ones say which and what."""

    def __init__(
        self,
        operator: Operator,
        spool: Spool,
        masters: Masters,
        groups_of: Callable[[int | None, int | None], frozenset[int]],
        clock: Clock,
    ) -> None:
        self._operator = operator
        self._spool = spool
        self._masters = masters
        self._groups_of = groups_of
        self._clock = clock

    async def handle(self, request: Request) -> Response:
        """The answer to one request. Raises `HttpError` for what cannot be done."""
        permission = self._masters.permission(request.uid, self._groups_of(request.uid, request.gid))
        if request.method == "POST":
            emit(COMMAND_RECEIVED, uid=request.uid, command="/".join(request.path[1:]))
        match (request.method, *request.path):
            case ("GET", "v1", "status"):
                return Response(document=await self._operator.status())
            case ("GET", "v1", "queue"):
                return await self._queue(request, permission)
            case ("GET", "v1", "queue", queue_id):
                return await self._message(queue_id, permission)
            case ("GET", "v1", "queue", queue_id, "headers"):
                return Response(raw=(await self._find(queue_id, permission)).message.header)
            case ("GET", "v1", "queue", queue_id, "body"):
                found = await self._find(queue_id, permission)
                return Response(raw=b"".join(found.message.body_chunks()))
            case ("POST", "v1", "queue", ("hold" | "release" | "retry" | "remove" | "bounce") as action):
                return await self._act(action, request, permission)
            case ("GET", "v1", "log"):
                return await self._log(request, permission)
            case ("GET", "v1", "link"):
                return Response(document=self._operator.links())
            case ("POST", "v1", "link", name):
                self._require_full(permission)
                return Response(document=await self._operator.set_link(name, _text(request, "state")))
            case ("POST", "v1", "flush"):
                self._require_full(permission)
                return Response(series=self._flush(request))
            case ("GET", "v1", "explain"):
                address, sender = request.query.get("address", ""), request.query.get("sender", "")
                return Response(document=self._operator.explain(address, sender))
            case _:
                raise HttpError(404, f"there is no {request.method} /{'/'.join(request.path)} here")

    # --- the queue

    async def _queue(self, request: Request, permission: Permission) -> Response:
        """Everything, or a page by `limit` and `after`; read in slices so that nobody else waits long."""
        limit = _number(request, "limit")
        after = request.query.get("after", "")
        view = views.QueueView(self._operator.scheduler)
        found: list[Json] = []
        while limit is None or len(found) < limit:
            size = SLICE if limit is None else min(SLICE, limit - len(found))
            page = await self._spool.listing(after=after, limit=size, owner_uid=permission.owner_uid)
            found += [view.message(queued) for queued in page]
            if len(page) < size:
                break
            after = page[-1].message.queue_id
        return Response(document=found)

    async def _message(self, queue_id: str, permission: Permission) -> Response:
        found = await self._find(queue_id, permission)
        history = await self._spool.history(queue_id, limit=1000)
        return Response(
            document=views.message_with_history(found, views.QueueView(self._operator.scheduler), history)
        )

    async def _find(self, queue_id: str, permission: Permission) -> QueuedMessage:
        found = await self._spool.find(queue_id)
        if found is None:
            raise HttpError(404, f"there is no message {queue_id} in the queue")
        if not permission.is_full and found.message.owner_uid != permission.owner_uid:
            raise HttpError(403, f"message {queue_id} is not yours")
        return found

    async def _act(self, action: str, request: Request, permission: Permission) -> Response:
        document = request.document
        ids = document.get("ids")
        if ids is not None and not (isinstance(ids, list) and all(isinstance(item, str) for item in ids)):
            raise HttpError(400, '"ids" is a list of queue IDs')
        if not permission.is_full and action != "remove":
            raise HttpError(403, f"only root and MasqMail's own user and group may {action} messages")
        unknown = []
        if isinstance(ids, list):
            for queue_id in list(ids):
                try:
                    await self._find(str(queue_id), permission)
                except HttpError as error:
                    if error.status == 403:
                        raise
                    unknown.append(queue_id)
        selected = await self._spool.select(self._selection(document, permission))
        done = await self._operator.act(action, selected, _who(request))
        return Response(document={"messages": done, "unknown": unknown})

    def _selection(self, document: dict[str, object], permission: Permission) -> Selection:
        ids = document.get("ids")
        return Selection(
            queue_ids=tuple(map(str, ids)) if isinstance(ids, list) else None,
            sender=str(document.get("sender", "")),
            recipient=str(document.get("recipient", "")),
            route=str(document.get("route", "")),
            received_before=self._before(str(document.get("older_than", ""))),
            owner_uid=permission.owner_uid,
        )

    def _before(self, older_than: str) -> datetime | None:
        try:
            return self._clock.now() - self._operator.parse_duration(older_than) if older_than else None
        except ValueError as error:
            raise HttpError(400, f"--older-than: {error}") from error

    # --- the rest

    async def _log(self, request: Request, permission: Permission) -> Response:
        queue_id = request.query.get("id", "")
        if queue_id and not permission.is_full:
            await self._find(queue_id, permission)
        elif not permission.is_full:
            raise HttpError(403, "only root and MasqMail's own user and group may read the whole log")
        entries = await self._spool.history(queue_id, limit=_number(request, "limit") or 200)
        return Response(document=[views.history_entry(entry) for entry in entries])

    def _flush(self, request: Request) -> AsyncIterator[Json]:
        document = request.document
        assume_up = str(document.get("assume_up", ""))
        routes = self._operator.routes_meant(
            str(document.get("link", "")) or assume_up, str(document.get("route", ""))
        )
        return self._operator.flush(routes, assume_up=assume_up, wait=bool(document.get("wait")))

    @staticmethod
    def _require_full(permission: Permission) -> None:
        if not permission.is_full:
            raise HttpError(403, "only root and MasqMail's own user and group may do that")


def _who(request: Request) -> str:
    return f"uid {request.uid}" if request.uid is not None else "somebody"


def _text(request: Request, name: str) -> str:
    value = request.document.get(name)
    if not isinstance(value, str):
        raise HttpError(400, f'"{name}" is missing')
    return value


def _number(request: Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    if not text.isdigit():
        raise HttpError(400, f"{name} is a number, not {text!r}")
    return int(text)
