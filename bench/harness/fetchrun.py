"""One run of fetching, as a program: a mailbox at the far end of a slow link is emptied by one fetcher.

    python bench/harness/fetchrun.py PEER LINK --protocol pop3 --sizes 200x3072

prints what the run took as a line of JSON. Each run has namespaces, a server, a fetcher and a queue of its own.
"""

import argparse
import json
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # as a script its own folder is the path, and not `bench`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness.fetchers import FETCHERS, Fetcher, make_fetcher
from harness.limit import Letter
from harness.line import LINKS, Counts, LinkKind
from harness.mailserver import PORTS, Mailbox, serving
from harness.namespace import missing, slow_link
from harness.peers.base import RECIPIENT, SENDER
from harness.sandbox import sandbox
from harness.slowrun import wait_until_quiet
from harness.submit import letter

_LOOK_SECONDS = 0.01
_LONGEST_SECONDS = 1800.0
_DELIVERY_SECONDS = 60.0  # from the end of the command; whatever is not in the Maildir then is missing

_IDENTITY = re.compile(rb"^Message-ID: (<bench-\d+@[^>]+>)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took. `seconds` is from the command until it has ended and every message is in the Maildir.

    Bytes are those of the whole sessions, up to the last packet.
    """

    seconds: float
    messages: int
    repeated: int
    missing: int
    left: int  # on the server
    round_trips: float  # without the time that the bytes take on the line
    connections: int
    up_bytes: int
    down_bytes: int
    dropped: int  # packets, because the line's queue was full
    cpu_seconds: float


def parse_sizes(text: str) -> list[int]:
    """How big each message is: `200x3072` or `180x3072,2x1000000`, mixed with each other. Raises ValueError."""
    places = [((index + 0.5) / count, size) for count, size in _groups(text) for index in range(count)]
    return [size for _, size in sorted(places)]


def in_words(text: str) -> str:
    """The same for people: "200 messages of 3 KB, 5 of 50 KB"."""
    (count, size), *others = _groups(text)
    return ", ".join(
        [f"{count} messages of {size // 1000} KB", *(f"{count} of {size // 1000} KB" for count, size in others)]
    )


def _groups(text: str) -> list[tuple[int, int]]:
    return [(int(count), int(size)) for count, _, size in (part.partition("x") for part in text.split(","))]


def letters_of(sizes: Sequence[int]) -> list[Letter]:
    return [letter(number, size, SENDER, RECIPIENT) for number, size in enumerate(sizes)]


def run(
    peer: str,
    kind: LinkKind,
    protocol: str,
    sizes: Sequence[int],
    *,
    seed: int,
    packets: Path | None,
    output: Path | None,
) -> Run:
    """One run, in a view of the file system of its own, which this process never leaves."""
    letters = letters_of(sizes)
    with (
        sandbox([peer]) as folder,
        slow_link(kind, seed=seed, packets=packets) as link,
        serving(link, folder) as server,
        make_fetcher(peer, folder, Mailbox(protocol, folder / "ca.pem"), link.in_near([])) as fetcher,
    ):
        server.fill(letters)
        link.reset()
        cpu = fetcher.group.cpu_seconds()
        try:
            seconds = _clocked(fetcher, len(letters))
            up, down = wait_until_quiet(link)
            cpu = fetcher.group.cpu_seconds() - cpu
        finally:
            if output is not None:
                shutil.copy(fetcher.folder / "output", output)
        return judge(seconds, letters, fetcher.contents(), server.left(), kind, up, down, cpu)


def _clocked(fetcher: Fetcher, messages: int) -> float:
    """How long the command takes, and everything to be in the Maildir. Raises OSError when it fails."""
    began_at = time.monotonic()
    ends_at = began_at + _LONGEST_SECONDS
    process = fetcher.fetch()
    while process.poll() is None and time.monotonic() < ends_at:
        time.sleep(_LOOK_SECONDS)
    if process.poll() is None:
        process.kill()
    if process.wait():
        words = (fetcher.folder / "output").read_text(errors="replace")[-2000:]
        raise OSError(f"{fetcher.name} failed with {process.returncode}: {words}")
    ends_at = time.monotonic() + _DELIVERY_SECONDS
    while fetcher.count() < messages and time.monotonic() < ends_at:
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - began_at


def judge(
    seconds: float,
    letters: Sequence[Letter],
    contents: Sequence[bytes],
    left: int,
    kind: LinkKind,
    up: Counts,
    down: Counts,
    cpu_seconds: float,
) -> Run:
    """Counts together what happened."""
    sent = {_identity(letter.content) for letter in letters}
    came = Counter(map(_identity, contents))
    return Run(
        seconds=seconds,
        messages=len(sent & came.keys()),
        repeated=came.total() - len(came),
        missing=len(sent - came.keys()),
        left=left,
        round_trips=(seconds - kind.seconds_for(down.bytes)) / kind.round_trip_seconds,
        connections=up.syns,
        up_bytes=up.bytes,
        down_bytes=down.bytes,
        dropped=up.dropped + down.dropped,
        cpu_seconds=cpu_seconds,
    )


def _identity(content: bytes) -> bytes:
    found = _IDENTITY.search(content)
    return found[1] if found else b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peer", choices=FETCHERS)
    parser.add_argument("link", choices=LINKS)
    parser.add_argument("--protocol", choices=PORTS, default="pop3")
    parser.add_argument("--sizes", type=parse_sizes, default="200x3072", help="such as 180x3072,2x1000000")
    parser.add_argument("--seed", type=int, default=0, help="for the losses")
    parser.add_argument("--packets", type=Path, help="writes a line for each packet to this file")
    parser.add_argument("--output", type=Path, help="keeps what the fetcher printed in this file")
    arguments = parser.parse_args()
    if trouble := missing():
        sys.exit(trouble)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    found = run(
        arguments.peer,
        LINKS[arguments.link],
        arguments.protocol,
        arguments.sizes,
        seed=arguments.seed,
        packets=arguments.packets,
        output=arguments.output,
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
