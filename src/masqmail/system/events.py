"""What the program reports while it runs: events, each a constant name with fields.

`emit` is called once per change of state. Protocol lines go through `trace`, a level below debug; whoever
calls it has hidden the secrets. How events look on paper is decided in `logformat`.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, TextIO

from masqmail.frozen import frozen
from masqmail.system import logformat
from masqmail.system.logformat import TRACE, Event

# A message and its recipients
MESSAGE_RECEIVED = "message received"
MESSAGE_REFUSED = "message refused"
RECIPIENT_REFUSED = "recipient refused"
RECIPIENT_DELIVERED = "recipient delivered"
RECIPIENT_DEFERRED = "recipient deferred"
RECIPIENT_FAILED = "recipient failed"
RECIPIENT_FORWARDED = "recipient forwarded"
RECIPIENT_QUEUED = "recipient queued again"
RECIPIENT_IN_DOUBT = "recipient in doubt"
MESSAGE_HELD = "message held"
MESSAGE_RELEASED = "message released"
MESSAGE_REMOVED = "message removed"
REPORT_MADE = "report made"
REPORT_HELD = "report held"
NOTICE_MADE = "notice made"
NOTICE_LOST = "notice lost"
TEMPLATE_FAULTY = "template faulty"
PICKUP_TAKEN = "pickup taken"
PICKUP_REFUSED = "pickup refused"
ALIAS_FAULTY = "alias faulty"
FORWARD_FAULTY = "forward faulty"
# Others who talk to us
SESSION_STARTED = "session started"
SESSION_ENDED = "session ended"
SESSION_REFUSED = "session refused"
LOGIN_SUCCEEDED = "login succeeded"
LOGIN_FAILED = "login failed"
LISTENER_READY = "listener ready"
LISTENER_TROUBLED = "listener troubled"
COMMAND_RECEIVED = "command received"
# Others we talk to
CONNECTION_OPENED = "connection opened"
CONNECTION_CLOSED = "connection closed"
CONNECTION_FAILED = "connection failed"
PROGRAM_SAID = "program said"
NEXT_HOP_PAUSED = "next hop paused"
NEXT_HOP_RESUMED = "next hop resumed"
# Mail that is fetched
MAIL_FETCHED = "mail fetched"
FETCH_FAILED = "fetch failed"
MESSAGE_LEFT = "message left"
UIDS_READ = "uids read"
ACCOUNT_FORGOTTEN = "account forgotten"
# Links
LINK_CHANGED = "link changed"
DETECTOR_FAILED = "detector failed"
# The program itself
DAEMON_STARTED = "daemon started"
DAEMON_READY = "daemon ready"
DAEMON_STAYS_ROOT = "daemon stays root"
DAEMON_STOPPING = "daemon stopping"
DAEMON_STOPPED = "daemon stopped"
CONFIGURATION_LOADED = "configuration loaded"
CONFIGURATION_REFUSED = "configuration refused"
SPOOL_RECOVERED = "spool recovered"
SPOOL_LOW = "spool low"
SPOOL_BROKEN = "spool broken"
CLOCK_SET = "clock set"
INTERNAL_ERROR = "internal error"
PROTOCOL_LINE = "protocol line"

#: What each event means.
EVENTS: dict[str, str] = {
    MESSAGE_RECEIVED: "A message is on stable storage and its sender has been told so.",
    MESSAGE_REFUSED: "A message was not accepted; the reason is what its sender was told.",
    RECIPIENT_REFUSED: "A recipient was refused while its message was being offered.",
    RECIPIENT_DELIVERED: "A next hop or a mailbox has taken responsibility for a recipient.",
    RECIPIENT_DEFERRED: "A recipient could not be delivered now and will be tried again.",
    RECIPIENT_FAILED: "A recipient cannot be delivered; its sender gets a report where one is due.",
    RECIPIENT_FORWARDED: "The .forward of a local user names others, who get the message instead.",
    RECIPIENT_QUEUED: "A recipient was not reached in this attempt, which cost it nothing.",
    RECIPIENT_IN_DOUBT: "We were cut off while sending: the recipient will be tried again and may get it twice.",
    MESSAGE_HELD: "Somebody or a rule keeps a message until it is released.",
    MESSAGE_RELEASED: "A held message may be delivered again.",
    MESSAGE_REMOVED: "Somebody removed a message; nobody gets a report.",
    REPORT_MADE: "A delivery status notification to the sender of a message was queued.",
    REPORT_HELD: "There were too many reports lately: one is held in the queue instead of being sent.",
    NOTICE_MADE: "A notice to the postmaster about the system itself was queued.",
    NOTICE_LOST: "A notice to the postmaster could not be delivered. Nobody else is told, so nothing goes round.",
    TEMPLATE_FAULTY: "A template of [notices] cannot be used; the built-in text is.",
    PICKUP_TAKEN: "A message left in the pickup folder was accepted.",
    PICKUP_REFUSED: "A file in the pickup folder is no message we can take.",
    ALIAS_FAULTY: "An alias file is missing or has a bad entry; its good entries count.",
    FORWARD_FAULTY: "A user's .forward is not safe or cannot be read; the mail goes to the mailbox.",
    SESSION_STARTED: "A client connected.",
    SESSION_ENDED: "A client's connection has ended.",
    SESSION_REFUSED: "A client was sent away because too many are connected.",
    LOGIN_SUCCEEDED: "A client logged in.",
    LOGIN_FAILED: "A client tried to log in with a wrong name or password.",
    LISTENER_READY: "We accept connections at an address.",
    LISTENER_TROUBLED: "An address to listen at is not there yet, or there can be no more connections now; we wait.",
    COMMAND_RECEIVED: "Somebody asked for an action over the control socket.",
    CONNECTION_OPENED: "We are connected to a next hop.",
    CONNECTION_CLOSED: "A connection to a next hop has ended.",
    CONNECTION_FAILED: "A next hop could not be used; the culprit says what failed.",
    PROGRAM_SAID: "A program in place of a connection (`wrapper`) wrote a line to its standard error.",
    NEXT_HOP_PAUSED: "A next hop is left alone for a while after a failure; messages spend nothing.",
    NEXT_HOP_RESUMED: "A paused next hop is used again.",
    MAIL_FETCHED: "Mail was fetched from an account, or it can be fetched again after a failure.",
    FETCH_FAILED: "An account could not be fetched, or not to the end; it will be tried again. The culprit says why.",
    MESSAGE_LEFT: "A message stays on the server of its account for its size; its owner is told how to get it.",
    UIDS_READ: "The list of what another program had fetched from an account was read.",
    ACCOUNT_FORGOTTEN: "What is known of the mail of an account was dropped: it has not been configured for 30 days.",
    LINK_CHANGED: "A link came up or went down, or became unknown.",
    DETECTOR_FAILED: "A link's detector stopped with an error and will be started again.",
    DAEMON_STARTED: "The program has started.",
    DAEMON_READY: "Every listener accepts and the queue is being worked on.",
    DAEMON_STAYS_ROOT: "There is no account for the daemon to become, so it has more rights than it needs.",
    DAEMON_STOPPING: "The program was asked to end and finishes what it is doing.",
    DAEMON_STOPPED: "The program has ended.",
    CONFIGURATION_LOADED: "A configuration was read and counts from now on.",
    CONFIGURATION_REFUSED: "A new configuration has faults; the old one stays in force.",
    SPOOL_RECOVERED: "What an earlier run left unfinished was put back into the queue.",
    SPOOL_LOW: "There is too little space for new messages; they are refused for now.",
    SPOOL_BROKEN: "Writing to the spool failed; the program starts again and reads it anew.",
    CLOCK_SET: "Somebody set the wall clock; due times were mended.",
    INTERNAL_ERROR: "A fault of ours; what was being done is put off, not failed.",
    PROTOCOL_LINE: "One line of a protocol, with secrets hidden (level debug).",
}

_LEVELS = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO, "debug": TRACE}

#: What `[log] level` and `[log] format` may be.
LEVELS = tuple(_LEVELS)
FORMATS = tuple(logformat.FORMATS)

_logger = logging.getLogger("masqmail")


class _Output:
    """Writes events to a stream. What cannot be written is lost: no mail may wait for the log."""

    def __init__(self, level: int, render: Callable[[Event], str], stream: TextIO) -> None:
        self.level = level
        self._render = render
        self._stream = stream
        self._lines: list[str] = []
        self._lock = RLock()
        self._flush_comes = False

    def add(self, event: Event) -> None:
        """Writes an event: later, with others, when it is harmless and told by the thread that gathers."""
        line = self._render(event)
        with self._lock:
            self._lines.append(line)
        if _gatherer is None or event.level >= logging.WARNING or get_ident() != _gatherer.thread:
            self.flush()
        elif not self._flush_comes:
            self._flush_comes = True
            _gatherer.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what has gathered."""
        with self._lock:
            self._flush_comes = False
            if not self._lines:
                return
            text = "\n".join(self._lines) + "\n"
            self._lines.clear()
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                pass


@frozen
class _Gatherer:
    """The event loop in whose turns events gather, and its thread."""

    call_soon: Callable[[Callable[[], None]], object]
    thread: int


_gatherer: _Gatherer | None = None

#: Where events go; None until `configure`: then they are records of `logging`, for who brings handlers of his own.
_output: _Output | None = None


def emit(event: str, *, level: int = logging.INFO, exception: BaseException | None = None, **fields: object) -> None:
    """Reports an event. Fields that are None are left out; an `exception` adds its traceback."""
    if _output is not None:
        if level >= _output.level:
            _output.add(Event(time.time(), level, event, fields, exception))
    elif _logger.isEnabledFor(level):
        _logger.log(level, "%s", event, extra={"event": event, "fields": fields}, exc_info=exception)


def is_tracing() -> bool:
    """Whether `trace` does anything, for callers with work to do before they call it."""
    return _logger.isEnabledFor(TRACE) if _output is None else _output.level <= TRACE


def trace(direction: str, line: bytes, **fields: Any) -> None:
    """Reports one protocol line, for example `trace("C:", b"QUIT", session_id=7)`. The caller hid the secrets."""
    if is_tracing():
        emit(PROTOCOL_LINE, level=TRACE, **fields, direction=direction, line=line.rstrip(b"\r\n"))


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Sends events of `level` and above to `stream` (standard error) in a `format` of `FORMATS`.

    What libraries tell `logging` is not touched.
    """
    global _output
    _flush()
    _output = _Output(_LEVELS[level], logformat.FORMATS[format], stream or sys.stderr)


@contextmanager
def gathering(call_soon: Callable[[Callable[[], None]], object]) -> Iterator[None]:
    """Meanwhile all that is told in one turn of an event loop goes out in one write; warnings and worse at once."""
    global _gatherer
    _gatherer = _Gatherer(call_soon, get_ident())
    try:
        yield
    finally:
        _gatherer = None
        _flush()


def _flush() -> None:
    if _output is not None:
        _output.flush()
