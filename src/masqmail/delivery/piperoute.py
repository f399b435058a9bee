"""What the program of a pipe route is told: a fax or SMS gateway, UUCP. `local.plan_for` says who runs it."""

import time
from collections.abc import Iterable, Iterator

from masqmail.delivery.mbox import from_line
from masqmail.delivery.text import with_quoted_from
from masqmail.frozen import frozen


@frozen
class PipeProgram:
    """The program of a route, with its `${…}` still to be filled in, and how it wants its message."""

    command: tuple[str, ...]
    from_line: bool = False
    escape_from: bool = False


def as_wanted(program: PipeProgram, pieces: Iterable[bytes], sender: str) -> Iterator[bytes]:
    """The message in the form that the route asks for."""
    if program.from_line:
        yield from_line(sender, time.time())
    yield from with_quoted_from(pieces) if program.escape_from else pieces
