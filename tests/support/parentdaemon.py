"""Starts the privileged parent with a daemon that plays one scene, for `tests/daemon/parent/test_start.py`.

Run as root: `python parentdaemon.py DIRECTORY SCENE`. The accounts are invented (`ACCOUNTS`), so nothing of the
system's is touched. A scene prints one JSON document.
"""

import asyncio
import importlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from masqmail.daemon.agent import ParentAgent
from masqmail.daemon.parent import wire
from masqmail.daemon.parent.payload import decode_outcome, encode_job
from masqmail.daemon.parent.settings import ParentSettings
from masqmail.daemon.parent.start import run_as_root
from masqmail.delivery.job import Content, LocalJob
from masqmail.mail.outcome import Outcome
from masqmail.net.errors import ListenFailure
from masqmail.settings import HostPort
from masqmail.spool.api import TargetKind
from masqmail.system import events
from support import local

DAEMON, BOB, CAROL, ALIAS = 40000, 40001, 40002, 40003
CONTENT = Content(b"Subject: one\r\n", b"body\r\n")
FREE = HostPort("127.0.0.1", 0)
PRIVILEGED = HostPort("127.0.0.1", 7)  # not 1, where other tests expect nobody

directory = Path(sys.argv[1])
ACCOUNTS = {
    "masqmail": local.account("masqmail", DAEMON, DAEMON),
    "bob": local.account("bob", BOB, BOB, directory / "bob"),
    "carol": local.account("carol", CAROL, CAROL, directory / "carol"),
    "alias": local.account("alias", ALIAS, ALIAS),
    "root": local.account("root", 0, 0, "/root"),
}


def load_settings() -> ParentSettings:
    if (directory / "broken").exists():
        raise ValueError("the configuration is broken")
    return ParentSettings(
        user="masqmail",
        group="",
        host_name="gateway.example",
        alias_user="alias",
        mailbox=("mbox", f"{directory}/mail/${{user}}", ()),
        mailboxes={"carol": ("maildir", f"{directory}/mail/${{user}}.d", ())},
        pipe_timeout_seconds=5.0,
        alias_files=(f"{directory}/aliases",),
        listen={str(FREE): (FREE.host, FREE.port), str(PRIVILEGED): (PRIVILEGED.host, PRIVILEGED.port)}
        if not (directory / "moved").exists()
        else {},
        secret_files=(f"{directory}/secret", f"{directory}"),
        directories=((f"{directory}/spool", 0o711),),
    )


def show(outcome: Outcome) -> str:
    return f"{type(outcome).__name__}: {getattr(outcome, 'reason', '') or getattr(outcome, 'status', '')}"


def mailbox(user: str) -> LocalJob:
    return local.job(TargetKind.MAILBOX, user)


def pipe(target: str, name: str) -> LocalJob:
    return local.job(TargetKind.PIPE, target, source=f"{directory}/aliases:{name}")


def file(target: str, name: str) -> LocalJob:
    return local.job(TargetKind.FILE, target, source=f"{directory}/aliases:{name}")


def can(action: Callable[[], object]) -> bool:
    try:
        action()
    except OSError:
        return False
    return True


async def identity(agent: ParentAgent) -> Any:
    """What the daemon is, and what it cannot do."""
    status = Path("/proc/self/status").read_text()
    su = subprocess.run(["/bin/sh", "-c", "id -u"], capture_output=True, text=True)
    return {
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "no_new_privs": "NoNewPrivs:\t1" in status,
        "capabilities": [line.split()[1] for line in status.splitlines() if line.startswith(("CapEff", "CapPrm"))],
        "umask": os.umask(0),
        "home": os.environ["HOME"],
        "can_become_root": can(lambda: os.setresuid(0, 0, 0)),
        "can_read_secret": can((directory / "secret").open),
        "can_write_for_bob": can(lambda: (directory / "mail" / "bob").open("a")),
        "child": su.stdout.strip(),
        "spool": [(directory / "spool").stat().st_uid, oct((directory / "spool").stat().st_mode & 0o7777)],
    }


async def deliveries(agent: ParentAgent) -> Any:
    """Every kind of delivery, all at once."""
    big = directory / "spool" / "body"
    big.write_bytes(b"x" * 70 + b"\r\n")
    jobs = {
        "bob": (mailbox("bob"), CONTENT),
        "carol": (mailbox("carol"), Content(CONTENT.header, big)),
        "root": (mailbox("root"), CONTENT),
        "nobody": (mailbox("nobody"), CONTENT),
        "id": (pipe("|/bin/sh -c 'id -u; id -G; pwd; echo $HOME $LOCAL_PART; exit 1' ${sender}", "id"), CONTENT),
        "regain": (
            pipe("|setpriv --reuid=0 id -u", "regain"),
            CONTENT,
        ),
        "file": (file(f"{directory}/files/archive", "file"), CONTENT),
        "included": (pipe("|/bin/true", "included"), CONTENT),
    }
    outcomes = await asyncio.gather(*(agent.deliver(job, content) for job, content in jobs.values()))
    return dict(zip(jobs, map(show, outcomes), strict=True))


async def wishes(agent: ParentAgent) -> Any:
    """What the configuration does not name is refused; afterwards all is as before."""
    bob = mailbox("bob")
    jobs = [
        pipe("|/bin/sh -c 'touch /tmp/owned'", "id"),
        pipe("|/bin/true", "nobody"),
        local.job(TargetKind.PIPE, "|/bin/true"),
        local.job(TargetKind.PIPE, "|/bin/true", source="/etc/passwd:root"),
        local.job(TargetKind.PIPE, "|/bin/true", source=f"{directory}/spool/aliases:x"),
        file("/etc/passwd", "file"),
        local.job(TargetKind.PIPE, "|/bin/sh -c 'touch /tmp/owned'", source="~bob/.forward"),
        local.job(TargetKind.PIPE, "|/bin/true", source="~root/.forward"),
        local.job(TargetKind.FILE, f"{directory}/owned", source="~bob/.forward ~root/.forward"),
        local.job(TargetKind.USER, "bob"),
        mailbox("../bob"),
        local.job(TargetKind.REMOTE, "a@b.example"),
        local.job(TargetKind.MAILBOX, "bob", identity="x" * 5000),
    ]
    refused = [show(await agent.deliver(job, CONTENT)) for job in jobs]
    opened = []
    for attempt in (
        agent.listen(HostPort("0.0.0.0", 25)),
        agent.open_secret("/etc/shadow"),
        agent.open_secret(f"{directory}"),
    ):
        try:
            opened.append(str(await attempt))
        except ListenFailure as failure:
            opened.append(failure.reason)
        except OSError as error:
            opened.append(str(error.strerror))
    return {"refused": refused, "opened": opened, "then": show(await agent.deliver(bob, CONTENT))}


async def opened(agent: ParentAgent) -> Any:
    """Sockets and secrets of the configuration come as descriptors."""
    (listener,) = await agent.listen(FREE)
    privileged = await agent.listen(PRIVILEGED)
    secret = await agent.open_secret(f"{directory}/secret")
    with socket.create_connection(listener.getsockname()) as client:
        accepted, _ = listener.accept()
        accepted.sendall(b"hello")
        greeting = client.recv(10).decode()
    return {"greeting": greeting, "port": privileged[0].getsockname()[1], "secret": os.read(secret, 100).decode()}


def garbage(channel: socket.socket) -> Any:
    """A daemon that somebody took over sends whatever it likes; the parent goes on."""
    memfd = os.memfd_create("x")
    read_end, _ = os.pipe()
    os.write(memfd, b"Subject: one\r\n\r\nbody\r\n")
    deliver = struct.pack("!QB", 1, wire.Verb.DELIVER)
    good = encode_job(mailbox("bob"))
    variables = json.loads(good)["variables"]
    for packet, descriptors in [
        (b"x", []),
        (b"\0" * 20000, []),
        (struct.pack("!QB", 1, 99) + b"{}", []),
        (deliver + b"[" * 20000, [memfd]),
        (deliver + b"\xff\xfe", [memfd]),
        (deliver + b"[1, 2]", [memfd]),
        (deliver + b'{"kind": "mailbox"}', [memfd]),
        (deliver + good.replace(b'"bob"', b'"b\\u0000b"', 1), [memfd]),
        (deliver + good.replace(b'"bob"', b'{"a": 1}', 1), [memfd]),
        (deliver + good.replace(b'"bob"', b'"\\ud800"', 1), [memfd]),
        (deliver + good.replace(json.dumps(variables).encode(), b"7"), [memfd]),
        (deliver + good, []),
        (deliver + good, [read_end]),
        (deliver + good, [os.open("/dev/zero", os.O_RDONLY)]),
        (deliver + good, [os.open("/", os.O_RDONLY)]),
        (deliver + good, [memfd] * 50),
        (struct.pack("!QB", 2, wire.Verb.LISTEN) + b"\xff", []),
        (struct.pack("!QB", 2, wire.Verb.OPEN) + b"/etc/shadow\0", [memfd]),
        (deliver + b"x" * 100_000, []),
    ]:
        socket.send_fds(channel, [packet], descriptors)
    socket.send_fds(channel, [struct.pack("!QB", 2**64 - 1, wire.Verb.DELIVER) + good], [memfd])
    outcomes, faults = [], []
    while len(outcomes) < 13 or len(faults) < 2:  # in the order in which the workers finish
        reply, opened, _, _ = socket.recv_fds(channel, wire.MAX_PACKET_BYTES, 8)
        number, payload = wire.unpack_reply(reply)
        if number == 2:
            faults.append([payload.decode("utf-8", "replace"), opened])
        else:
            outcomes.append(show(decode_outcome(payload)).partition(":")[0])
    return {"outcomes": outcomes, "faults": faults}


async def many(agent: ParentAgent) -> Any:
    """More at once than there are workers, some of them cancelled."""
    tasks = [asyncio.create_task(agent.deliver(mailbox("carol"), CONTENT)) for _ in range(60)]
    await asyncio.sleep(0)
    for task in tasks[::7]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    descriptors = len(os.listdir("/proc/self/fd"))
    last = await agent.deliver(mailbox("bob"), CONTENT)
    return {
        "delivered": sum(
            show(result).startswith("Delivered") for result in results if not isinstance(result, BaseException)
        ),
        "leaked": len(os.listdir("/proc/self/fd")) - descriptors,
        "last": show(last),
    }


async def signals(agent: ParentAgent) -> Any:
    """Sees the signals that the parent gets, and ends when it is asked to."""
    seen: list[str] = []
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, lambda: (seen.append("SIGHUP"), hung_up.set()))
    loop.add_signal_handler(signal.SIGTERM, lambda: (seen.append("SIGTERM"), ended.set()))
    before = len(await agent.listen(FREE))
    print("ready", flush=True)
    await hung_up.wait()
    steps = [await _said_by(agent.adopt_configuration())]
    steps += [await _said_by(agent.read_configuration()), await _said_by(agent.listen(FREE))]
    steps += [await _said_by(agent.adopt_configuration()), await _said_by(agent.listen(FREE))]
    print("reloaded", flush=True)
    await ended.wait()
    return {"seen": seen, "before": before, "steps": steps}


async def _said_by(wish: Awaitable[object]) -> str:
    """What the parent has against it."""
    try:
        await wish
    except ListenFailure as failure:
        return failure.reason
    except OSError as error:
        return error.strerror or str(error)
    return ""


async def slow(agent: ParentAgent) -> Any:
    """Ends while a program still runs for it."""
    task = asyncio.create_task(
        agent.deliver(
            pipe(
                f"|/bin/sh -c 'echo $$ > {directory}/files/pid; touch {directory}/files/pid.done; exec sleep 60'",
                "slow",
            ),
            CONTENT,
        )
    )
    while not task.done() and not (directory / "files" / "pid.done").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    return {}


async def orphaned(agent: ParentAgent) -> Any:
    """Outlives its parent."""
    task = asyncio.create_task(agent.deliver(pipe("|/bin/sleep 2", "orphan"), CONTENT))
    await asyncio.sleep(0.05)
    os.write(1, b"ready\n")
    outcome = await task
    late = await agent.deliver(mailbox("bob"), CONTENT)
    await GONE.wait()
    return {"outcome": show(outcome), "late": show(late)}


GONE = asyncio.Event()
SCENES: dict[str, Callable[[ParentAgent], Awaitable[Any]]] = {
    scene.__name__: scene for scene in (identity, deliveries, wishes, opened, many, signals, slow, orphaned)
}


def load_daemon() -> Callable[[socket.socket], int]:
    """The interpreter's own files may be out of reach for the daemon, where it is installed in root's home."""
    importlib.import_module("anyio._backends._asyncio")
    importlib.import_module("encodings.idna")
    return run_daemon


def run_daemon(channel: socket.socket) -> int:
    async def run() -> Any:
        agent = ParentAgent(channel, GONE.set)
        try:
            return await SCENES[sys.argv[2]](agent)
        finally:
            agent.close()

    result = garbage(channel) if sys.argv[2] == "garbage" else asyncio.run(run())
    print(json.dumps(result), flush=True)
    return 7


if __name__ == "__main__":
    events.configure("info", "text")
    sys.exit(run_as_root(load_daemon, load_settings, ACCOUNTS.get))
