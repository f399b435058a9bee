"""The control socket: what the commands ask of the running daemon, as HTTP and JSON.

Anyone may connect; peer credentials decide. Root, the daemon's user and its group see and do everything, others see
and remove only their own messages, and read the status. `docs/reference/control-socket.md` has every document.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import datetime
from http import HTTPStatus

from anyio.to_thread import run_sync

from masqmail.config.values import parse_duration
from masqmail.daemon import views
from masqmail.daemon.groups import user_name
from masqmail.daemon.http import LINES_TYPE, RAW_TYPE, HttpError, Request, Response, json_lines, json_list
from masqmail.daemon.operator import Operator
from masqmail.frozen import frozen
from masqmail.spool.api import QueuedMessage, Selection, Spool
from masqmail.system.clock import Clock
from masqmail.system.events import COMMAND_RECEIVED, emit

#: Messages read from the spool at a time for a long answer.
SLICE = 100
BODY_PIECE_BYTES = 1 << 18
MAX_LOG_LINES = 10_000
DEFAULT_LOG_LINES = 200

#: What messages are selected by, beside their IDs.
CONDITIONS = ("sender", "recipient", "route", "older_than")


@frozen
class Permission:
    """What a peer may do. `owner_uid` is None for those who see everything."""

    owner_uid: int | None

    @property
    def is_full(self) -> bool:
        return self.owner_uid is None

    def require_full(self, what: str) -> None:
        """Raises `HttpError` for those who see only their own messages."""
        if not self.is_full:
            raise HttpError(HTTPStatus.FORBIDDEN, f"only root and the daemon's user and group may {what}")


@frozen
class Masters:
    """Who sees and does everything, beside root."""

    uid: int
    gid: int


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
        permission = await self._permission(request.uid, request.gid)
        if request.method == "POST":
            emit(COMMAND_RECEIVED, uid=request.uid, command="/".join(request.path[1:]))
        match (request.method, *request.path):
            case ("GET", "v1", "status"):
                return await self._status(permission)
            case ("GET", "v1", "queue"):
                slices = self._queue(_number(request, "limit"), request.query.get("after", ""), permission)
                return Response(content=json_list(slices))
            case ("GET", "v1", "queue", queue_id):
                return await self._message(queue_id, permission)
            case ("GET", "v1", "queue", queue_id, "headers"):
                header = (await self._find(queue_id, permission)).message.header
                return Response(content=_pieces(iter([header])), content_type=RAW_TYPE)
            case ("GET", "v1", "queue", queue_id, "body"):
                return await self._body(queue_id, permission)
            case ("POST", "v1", "queue", ("hold" | "release" | "retry" | "remove" | "bounce") as action):
                return await self._act(action, request, permission)
            case ("GET", "v1", "log"):
                return await self._log(request, permission)
            case ("GET", "v1", "link"):
                return Response(self._operator.links())
            case ("POST", "v1", "link", name):
                permission.require_full("declare links")
                _know_keys(request, "state")
                return Response(await self._operator.set_link(name, _text(request, "state")))
            case ("POST", "v1", "flush"):
                permission.require_full("flush the queue")
                _know_keys(request, "link", "route", "assume_up", "wait")
                return Response(content=json_lines(self._flush(request)), content_type=LINES_TYPE)
            case ("POST", "v1", "fetch"):
                permission.require_full("fetch mail")
                _know_keys(request, "accounts", "messages", "link", "online")
                return Response(content=json_lines(self._fetch(request)), content_type=LINES_TYPE)
            case ("GET", "v1", "explain"):
                permission.require_full("ask for the daemon's aliases")
                query = request.query
                return Response(self._operator.explain(query.get("address", ""), query.get("sender", "")))
            case _:
                path = "/".join(request.path)
                raise HttpError(HTTPStatus.NOT_FOUND, f"there is no {request.method} /{path} here")

    async def _permission(self, uid: int | None, gid: int | None) -> Permission:
        if uid in (0, self._masters.uid):
            return Permission(None)
        groups = await run_sync(self._groups_of, uid, gid)
        return Permission(None if self._masters.gid in groups else -1 if uid is None else uid)

    async def _status(self, permission: Permission) -> Response:
        document = await self._operator.status()
        return Response(document if permission.is_full else {**document, "problems": []})

    # --- the queue

    async def _queue(
        self, limit: int | None, after: str, permission: Permission
    ) -> AsyncGenerator[list[object], None]:
        """Everything, or a page; read in slices so that nobody else waits long."""
        view = self._view()
        while limit is None or limit > 0:
            size = SLICE if limit is None else min(SLICE, limit)
            page = await self._spool.listing(after=after, limit=size, owner_uid=permission.owner_uid)
            yield [view.message(queued) for queued in page]
            if len(page) < size:
                return
            after = page[-1].message.queue_id
            limit = None if limit is None else limit - size

    async def _message(self, queue_id: str, permission: Permission) -> Response:
        found = await self._find(queue_id, permission)
        history = await self._spool.history(queue_id, limit=MAX_LOG_LINES)
        return Response(views.message_with_history(found, self._view(), history))

    def _view(self) -> views.QueueView:
        return views.QueueView(self._operator.scheduler, self._clock.now())

    async def _body(self, queue_id: str, permission: Permission) -> Response:
        """The body; its file is open before the answer begins, so that it may be delivered meanwhile."""
        found = await self._find(queue_id, permission, with_body=True)
        pieces = found.message.body_chunks(BODY_PIECE_BYTES)
        try:
            first = await run_sync(next, pieces, b"")
        except FileNotFoundError:
            raise _not_in_queue(queue_id) from None
        return Response(content=_pieces(pieces, first), content_type=RAW_TYPE)

    async def _find(self, queue_id: str, permission: Permission, *, with_body: bool = False) -> QueuedMessage:
        found = await self._spool.find(queue_id, with_body=with_body)
        if found is None:
            if permission.is_full and await self._spool.history(queue_id, limit=1):
                gone = f"message {queue_id} has left the queue; `masqmail log {queue_id}` says what became of it"
                raise HttpError(HTTPStatus.NOT_FOUND, gone)
            raise _not_in_queue(queue_id)
        if not permission.is_full and found.message.owner_uid != permission.owner_uid:
            raise HttpError(HTTPStatus.FORBIDDEN, f"message {queue_id} is not yours")
        return found

    async def _act(self, action: str, request: Request, permission: Permission) -> Response:
        """Does one thing to messages: those with the given IDs, and of these or all those the conditions fit."""
        if action != "remove":
            permission.require_full(f"{action} messages")
        selection = self._selection(request, permission)
        unknown = []
        for queue_id in selection.queue_ids or ():
            try:
                await self._find(queue_id, permission)
            except HttpError as error:
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
                unknown.append(queue_id)
        selected = await self._spool.select(selection)
        if not selected and selection.route:
            self._operator.routes_meant("", selection.route)  # a name that is wrong should not go unnoticed
        who = await run_sync(user_name, request.uid)
        done = await self._operator.act(action, selected, who)
        return Response({"messages": done, "unknown": unknown})

    def _selection(self, request: Request, permission: Permission) -> Selection:
        _know_keys(request, "ids", "all", *CONDITIONS)
        conditions = [_optional(request, name) for name in CONDITIONS]
        sender, recipient, route, older_than = conditions
        queue_ids = _queue_ids(request)
        if queue_ids is None and not any(conditions) and request.document.get("all") is not True:
            raise HttpError(HTTPStatus.BAD_REQUEST, 'say which messages: "ids", a condition, or "all": true')
        return Selection(queue_ids, sender, recipient, route, self._before(older_than), permission.owner_uid)

    def _before(self, older_than: str) -> datetime | None:
        if not older_than:
            return None
        try:
            return self._clock.now() - parse_duration(older_than)
        except (ValueError, OverflowError) as error:
            text = f"{older_than!r} is no time span such as 30m, 4h or 2d: {error}"
            raise HttpError(HTTPStatus.BAD_REQUEST, text) from error

    # --- the rest

    async def _log(self, request: Request, permission: Permission) -> Response:
        queue_id = request.query.get("id", "")
        if not permission.is_full:
            if not queue_id:
                permission.require_full("read the whole log")
            await self._find(queue_id, permission)
        limit = _number(request, "limit")
        if limit == 0:
            raise HttpError(HTTPStatus.BAD_REQUEST, "limit is a number above 0")
        entries = await self._spool.history(queue_id, limit=min(limit or DEFAULT_LOG_LINES, MAX_LOG_LINES))
        if queue_id and not entries:
            raise HttpError(HTTPStatus.NOT_FOUND, f"nothing is known of a message {queue_id}")
        return Response([views.history_entry(entry) for entry in entries])

    def _flush(self, request: Request) -> AsyncGenerator[object, None]:
        assume_up = _optional(request, "assume_up")
        routes = self._operator.routes_meant(_optional(request, "link") or assume_up, _optional(request, "route"))
        return self._operator.flush(routes, assume_up=assume_up, wait=_is_set(request, "wait"))

    def _fetch(self, request: Request) -> AsyncGenerator[object, None]:
        accounts, messages = _texts(request, "accounts"), _texts(request, "messages")
        if messages and len(accounts) != 1:
            raise HttpError(HTTPStatus.BAD_REQUEST, "say in which account the messages are")
        link, online = _optional(request, "link"), _is_set(request, "online")
        meant = self._operator.accounts_meant(accounts, link=link, online=online)
        return self._operator.fetch(meant, messages)


async def _pieces(chunks: Iterator[bytes], first: bytes = b"") -> AsyncGenerator[bytes, None]:
    """What an iterator gives that may read a file, which a thread does."""
    piece: bytes | None = first
    while piece is not None:
        if piece:
            yield piece
        piece = await run_sync(next, chunks, None)


def _not_in_queue(queue_id: str) -> HttpError:
    return HttpError(HTTPStatus.NOT_FOUND, f"there is no message {queue_id} in the queue")


def _know_keys(request: Request, *names: str) -> None:
    """Refuses any other key: a condition with a slip in its name must not select everything."""
    for name in request.document:
        if name not in names:
            known = ", ".join(f'"{known}"' for known in names)
            raise HttpError(HTTPStatus.BAD_REQUEST, f'nothing is known of "{name}" here; there are {known}')


def _queue_ids(request: Request) -> tuple[str, ...] | None:
    return None if request.document.get("ids") is None else _texts(request, "ids")


def _texts(request: Request, name: str) -> tuple[str, ...]:
    """A list of texts, each once; it may be missing."""
    found = request.document.get(name, [])
    if not (isinstance(found, list) and all(isinstance(item, str) and item for item in found)):
        raise HttpError(HTTPStatus.BAD_REQUEST, f'"{name}" is a list of texts that are not empty')
    return tuple(dict.fromkeys(found))


def _optional(request: Request, name: str) -> str:
    """A text, or an empty one where there is none. One that was given is not empty."""
    if name not in request.document:
        return ""
    value = request.document[name]
    if not (isinstance(value, str) and value):
        raise HttpError(HTTPStatus.BAD_REQUEST, f'"{name}" is a text that is not empty')
    return value


def _text(request: Request, name: str) -> str:
    value = _optional(request, name)
    if not value:
        raise HttpError(HTTPStatus.BAD_REQUEST, f'"{name}" is missing')
    return value


def _is_set(request: Request, name: str) -> bool:
    value = request.document.get(name, False)
    if not isinstance(value, bool):
        raise HttpError(HTTPStatus.BAD_REQUEST, f'"{name}" is true or false')
    return value


def _number(request: Request, name: str) -> int | None:
    text = request.query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HttpError(HTTPStatus.BAD_REQUEST, f"{name} is a number, not {text!r}")
    return int(text)
