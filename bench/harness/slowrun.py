"""One run on a slow link, as a program: messages wait at a peer, the link comes up, and the server gets them all.

    python bench/harness/slowrun.py PEER LINK --tls starttls --messages 50

prints what the run took as a line of JSON. Each run has namespaces, a server, a peer and a queue of its own.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

if __name__ == "__main__":  # as a script its own folder is the path, and not `bench`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from harness import submit
from harness.limit import Letter, Setting, least_bytes, least_seconds
from harness.line import LINKS, Counts, LinkKind
from harness.namespace import FAR_ADDRESS, SlowLink, missing, slow_link
from harness.peers import Peer, Smarthost, make_peer
from harness.peers.base import RECIPIENT, SENDER
from harness.peers.masqmail import MasqMail
from harness.peers.postfix import Postfix
from harness.receiver import PASSWORD, PORT, USERNAME, Receiver, Server, receiving
from harness.sandbox import sandbox
from harness.submit import letters

SIZE_BYTES = 3072

_QUIET_ROUND_TRIPS = 3
_QUIET_SECONDS = 2.0
_LONGEST_QUIET_SECONDS = 30.0

#: What goes over the link before, where the peer shall know the server already.
_EARLIER_MESSAGES = 20


@dataclass(frozen=True, slots=True)
class Run:
    """What one run took. `seconds` is from the command that lets mail go to the last message accepted.

    `syn_seconds` is how much of that had gone when the first SYN left. Bytes are those of the whole sessions, up to
    the last packet.
    """

    seconds: float
    syn_seconds: float
    limit_seconds: float
    messages: int
    repeated: int
    missing: int
    round_trips: float  # per message, without the time that the bytes take on the line
    connections: int
    up_bytes: int
    down_bytes: int
    least_bytes: int
    lost: int
    cpu_seconds: float


def run(
    peer: str,
    kind: LinkKind,
    server: Server,
    *,
    messages: int,
    again: bool,
    seed: int,
    packets: Path | None,
    output: Path | None,
) -> Run:
    """One run, in a view of the file system of its own, which this process never leaves.

    With `again` the link was up before, and other messages went over it.
    """
    mail = letters(0, messages, SIZE_BYTES, SENDER, RECIPIENT)
    limit = least_seconds(mail, server.setting, kind)
    with (
        sandbox([peer]) as folder,
        slow_link(kind, seed=seed, packets=packets) as link,
        receiving(link, server, folder) as receiver,
        _peer(peer, folder, server, link) as sender,
    ):
        if again:
            _send_others(link, sender, receiver)
        _hand_in(link, sender, 0, messages)
        link.reset()
        if isinstance(sender, MasqMail | Postfix):
            sender.prefix = []  # the command only tells a daemon; entering a namespace is no part of it
        cpu = sender.group.cpu_seconds()
        began_at = time.monotonic()
        sender.flush()
        arrived = receiver.wait_for(messages, 60 + 50 * limit)
        up, down = wait_until_quiet(link)
        cpu = sender.group.cpu_seconds() - cpu
        arrived += receiver.late()
        if output is not None:
            shutil.copy(sender.folder / "output", output)
    return judge(began_at, arrived, mail, server.setting, kind, up, down, cpu)


@contextmanager
def _peer(name: str, folder: Path, server: Server, link: SlowLink) -> Iterator[Peer]:
    """The peer at the near end, offline. `masqmail:4` may have four connections."""
    smarthost = Smarthost(FAR_ADDRESS, PORT, server.tls)
    if server.tls != "none":
        smarthost = Smarthost(FAR_ADDRESS, PORT, server.tls, USERNAME, PASSWORD, folder / "ca.pem")
    peer = make_peer(name, folder, smarthost, prefix=link.in_near([]))
    mode = name.partition(":")[2]
    if isinstance(peer, MasqMail) and mode:
        peer.route_settings = f"max_connections = {int(mode)}\n"
    with peer:
        yield peer


def _send_others(link: SlowLink, sender: Peer, receiver: Receiver) -> None:
    """A first time online; offline again at the end."""
    _hand_in(link, sender, 500_000, _EARLIER_MESSAGES)
    sender.flush()
    receiver.wait_for(_EARLIER_MESSAGES, 600)
    wait_until_quiet(link)
    if isinstance(sender, MasqMail):
        sender.masqmail("link", "down", "line")


def _hand_in(link: SlowLink, sender: Peer, first: int, messages: int) -> None:
    """Everything is in the queue, and nobody works on it any more."""
    shape = [str(first), str(messages), str(SIZE_BYTES), SENDER, RECIPIENT]
    command = [sys.executable, submit.__file__, sender.address, *shape]
    subprocess.run(link.in_near(command), check=True)
    sender.group.wait_until_quiet()
    if (found := sender.queued()) != messages:
        raise OSError(f"{sender.name} has {found} of {messages} messages in its queue")


def wait_until_quiet(link: SlowLink) -> tuple[Counts, Counts]:
    """What passed, when nothing more does."""
    seconds = _QUIET_SECONDS + _QUIET_ROUND_TRIPS * link.kind.round_trip_seconds
    ends_at = time.monotonic() + _LONGEST_QUIET_SECONDS
    before, counts = None, link.counts()
    while before != counts and time.monotonic() < ends_at:
        time.sleep(seconds)
        before, counts = counts, link.counts()
    return counts


def judge(
    began_at: float,
    arrived: Sequence[tuple[float, str]],
    mail: Sequence[Letter],
    setting: Setting,
    kind: LinkKind,
    up: Counts,
    down: Counts,
    cpu_seconds: float,
) -> Run:
    """Counts together what happened."""
    first: dict[str, float] = {}
    for at, name in arrived:
        first.setdefault(name, at)
    seconds = max(first.values(), default=began_at) - began_at
    return Run(
        seconds=seconds,
        syn_seconds=up.first_syn_at - began_at,
        limit_seconds=least_seconds(mail, setting, kind),
        messages=len(first),
        repeated=len(arrived) - len(first),
        missing=len(mail) - len(first),
        round_trips=(seconds - kind.seconds_for(up.bytes)) / kind.round_trip_seconds / len(mail),
        connections=up.syns,
        up_bytes=up.bytes,
        down_bytes=down.bytes,
        least_bytes=least_bytes(mail, setting),
        lost=up.lost + down.lost + up.dropped + down.dropped,
        cpu_seconds=cpu_seconds,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peer")
    parser.add_argument("link", choices=LINKS)
    parser.add_argument("--tls", choices=("none", "starttls", "implicit"), default="starttls")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--work", type=float, default=0.0, help="seconds that the server takes for each message")
    parser.add_argument("--messages", type=int, default=50)
    parser.add_argument("--again", action="store_true", help="the link was up before")
    parser.add_argument("--seed", type=int, default=0, help="for the losses")
    parser.add_argument("--packets", type=Path, help="writes a line for each packet to this file")
    parser.add_argument("--output", type=Path, help="keeps what the peer printed in this file")
    arguments = parser.parse_args()
    if trouble := missing():
        sys.exit(trouble)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    server = Server(arguments.tls, not arguments.no_chunking, arguments.work)
    found = run(
        arguments.peer,
        LINKS[arguments.link],
        server,
        messages=arguments.messages,
        again=arguments.again,
        seed=arguments.seed,
        packets=arguments.packets,
        output=arguments.output,
    )
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
