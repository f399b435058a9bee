"""The interface detector against a real kernel, in a network namespace that only the test's thread is in."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest

from masqmail.links import interface as module
from masqmail.links.board import LinkBoard
from masqmail.links.detector import down, up
from masqmail.links.interface import InterfaceDetector, Options
from masqmail.links.rtnetlink import Interface
from masqmail.routing.link import LinkState, Verdict
from masqmail.system import libc
from masqmail.system.clock import FakeClock, SystemClock

_CLONE_NEWNET = 0x40000000


@pytest.mark.anyio
async def test_the_interface_is_judged_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = {"ppp0": Interface("ppp0", is_up=True)}
    monkeypatch.setattr(module, "read_interfaces", lambda: interfaces)
    detector = InterfaceDetector("dsl", Options("ppp0"), FakeClock())
    assert await detector.ask() == down("ppp0 has no carrier")
    interfaces["ppp0"] = Interface("ppp0", is_up=True, has_carrier=True, has_address=True, has_default_route=True)
    assert await detector.ask() == up("ppp0 has a carrier, an address and a default route")
    del interfaces["ppp0"]
    assert await detector.ask() == down("there is no interface ppp0")


def ip(*words: str) -> None:
    """Runs ip(8); a process is in the namespace of the thread that starts it."""
    subprocess.run(["ip", *words], check=True, capture_output=True)


def in_new_namespace(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a coroutine in a thread with a network of its own, which ends with the thread."""
    failures: list[BaseException] = []

    async def run() -> None:
        await main()

    def body() -> None:
        try:
            libc.call("unshare", _CLONE_NEWNET)
            ip("link", "add", "ppp0", "type", "veth", "peer", "name", "far")
            asyncio.run(run())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
@pytest.mark.skipif(not shutil.which("ip"), reason="needs ip(8)")
def test_each_change_of_a_real_interface_is_seen_within_a_second() -> None:
    steps: list[tuple[tuple[str, ...], LinkState, str]] = [
        (("link", "set", "ppp0", "up"), LinkState.DOWN, "ppp0 has no carrier"),
        (("link", "set", "far", "up"), LinkState.DOWN, "ppp0 has no address"),
        (("addr", "add", "192.0.2.1/24", "dev", "ppp0"), LinkState.DOWN, "no default route goes through ppp0"),
        (("route", "add", "default", "via", "192.0.2.254"), LinkState.UP, "ppp0 has a carrier"),
        (("route", "del", "default"), LinkState.DOWN, "no default route goes through ppp0"),
        (("route", "add", "default", "via", "192.0.2.254"), LinkState.UP, "ppp0 has a carrier"),
        (("link", "set", "far", "down"), LinkState.DOWN, "ppp0 has no carrier"),
        (("link", "del", "ppp0"), LinkState.DOWN, "there is no interface ppp0"),
    ]
    changes: list[Verdict] = []

    async def main() -> None:
        clock = SystemClock()
        async with anyio.create_task_group() as group:
            board = LinkBoard(group, clock, changes.append)
            board.watch({"dsl": InterfaceDetector("dsl", Options("ppp0"), clock)})
            await expect(board, LinkState.DOWN, "ppp0 is switched off")
            for command, state, reason in steps:
                ip(*command)
                await expect(board, state, reason)
            group.cancel_scope.cancel()

    async def expect(board: LinkBoard, state: LinkState, reason: str) -> None:
        for _ in range(100):  # a second, or more where the host is busy with something else
            verdict = board.verdicts()["dsl"]
            if verdict.state is state and verdict.reason.startswith(reason):
                return
            await anyio.sleep(0.01)
        raise AssertionError(f"{reason!r} was not seen, but {board.verdicts()['dsl'].reason!r}")

    in_new_namespace(main)
    up_and_down = [change.state for change in changes]
    assert up_and_down == [LinkState.DOWN, *[LinkState.UP, LinkState.DOWN] * 2]
