"""How fast mail goes through: `python bench/relay.py [--quick] [--save]`, as root.

Each server takes messages from `smtp-source -d` as in `accept.py`, makes them safe, and sends them to an smtp-sink on
loopback over its default number of connections. The clock runs until the sink has the last one. Exim gets fewer
messages, and OpenSMTPD, which paces itself, a hundred at most. "no mail server": smtp-source straight into the sink.
"""

from harness.load import Load, Sink
from harness.peers import Peer, submit
from harness.throughput import Benchmark, main

LOADS = [
    Load(4096, 1, 500, {"exim": 250, "opensmtpd": 100}),
    Load(4096, 10, 2000, {"exim": 500, "opensmtpd": 100}),
    Load(4096, 50, 2000, {"exim": 500, "opensmtpd": 100}),
    Load(100_000, 1, 150, {"exim": 75, "opensmtpd": 75}),
    Load(100_000, 10, 400, {"exim": 200, "opensmtpd": 100}),
    Load(100_000, 50, 400, {"exim": 200, "opensmtpd": 100}),
]
SYNC_LOADS = [
    Load(4096, 1, 100, {"opensmtpd": 20}),
    Load(4096, 10, 300, {"exim": 100, "opensmtpd": 20}),
    Load(100_000, 10, 100, {"opensmtpd": 20}),
]


def relay(peer: Peer, load: Load, sink: Sink) -> None:
    before = sink.received()
    submit(peer.address, load.count, load.size_bytes, load.sessions)
    sink.wait_for(before + load.count)


if __name__ == "__main__":
    main(
        Benchmark(
            "relay",
            "Mail taken and sent on",
            ("masqmail", "postfix", "exim", "opensmtpd"),
            LOADS,
            SYNC_LOADS,
            online=True,
            run=relay,
        )
    )
