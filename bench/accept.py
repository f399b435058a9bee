"""How fast mail is taken while offline: `python bench/accept.py [--quick] [--save]`, as root.

`smtp-source -d` gives each server messages over 1, 10 and 50 sessions that stay open, one command per round trip.
What counts is the rate of 250s, each after the message is safe. The servers take turns within each round, each time
started anew with a queue of its own; ratios compare runs of one round. OpenSMTPD does not sync, so it is shown and is
not the bar. "no mail server" is smtp-source straight into smtp-sink: what the load itself allows.
"""

from harness.load import Load, Sink
from harness.peers import Peer, submit
from harness.throughput import Benchmark, main

LOADS = [
    Load(4096, 1, 1000),
    Load(4096, 10, 4000),
    Load(4096, 50, 4000),
    Load(100_000, 1, 500),
    Load(100_000, 10, 1000),
    Load(100_000, 50, 1000),
]
SYNC_LOADS = [Load(4096, 1, 100), Load(4096, 10, 500), Load(100_000, 10, 100)]


def take(peer: Peer, load: Load, _sink: Sink) -> None:
    submit(peer.address, load.count, load.size_bytes, load.sessions)


if __name__ == "__main__":
    main(
        Benchmark(
            "accept",
            "Mail taken while offline",
            ("masqmail", "postfix", "postfix:hold", "exim", "opensmtpd"),
            LOADS,
            SYNC_LOADS,
            online=False,
            run=take,
        )
    )
