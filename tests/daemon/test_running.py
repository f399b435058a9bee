"""Signals reach a daemon that is busy with one of them."""

import os
import signal
import subprocess
import sys
import threading

import anyio
import pytest

from masqmail.config.model import Configuration
from masqmail.daemon import running
from masqmail.daemon.running import _watch_signals
from masqmail.system.notify import Notifier

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def leave_log_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload sets up the log of the process, in which other tests look for theirs."""
    monkeypatch.setattr(running.events, "configure", lambda *_: None)


class SlowDaemon:
    """Takes a new configuration only when `may_take_it` is set."""

    def __init__(self) -> None:
        self.configuration = Configuration()
        self.reloads = 0
        self.may_take_it = anyio.Event()
        self.is_ready = anyio.Event()
        self.is_stopped = anyio.Event()

    async def reconfigure(self, configuration: Configuration) -> None:
        self.reloads += 1
        await self.may_take_it.wait()
        self.configuration = configuration

    def stop(self) -> None:
        self.is_stopped.set()


async def _send(*numbers: signal.Signals) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)
        await anyio.sleep(0.01)


async def test_many_wishes_for_a_reload_while_one_is_under_way_are_one() -> None:
    daemon = SlowDaemon()
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, Configuration, Notifier())
        daemon.is_ready.set()
        await _send(*[signal.SIGHUP] * 20)
        assert daemon.reloads == 1
        daemon.may_take_it.set()
        with anyio.move_on_after(5):
            while daemon.reloads < 2:
                await anyio.sleep(0.01)
        await anyio.wait_all_tasks_blocked()
        assert daemon.reloads == 2
        tasks.cancel_scope.cancel()


async def test_who_is_to_stop_does_so_in_the_middle_of_a_reload_and_ends_that() -> None:
    daemon = SlowDaemon()
    before = daemon.configuration
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, Configuration, Notifier())
        daemon.is_ready.set()
        await _send(signal.SIGHUP, signal.SIGTERM)
        with anyio.fail_after(5):
            await daemon.is_stopped.wait()
        daemon.may_take_it.set()
        await _send(signal.SIGHUP)
        await anyio.wait_all_tasks_blocked()
        assert (daemon.reloads, daemon.configuration) == (1, before)  # it would open what is being closed
        tasks.cancel_scope.cancel()


async def test_a_wish_for_a_reload_that_comes_too_early_waits_until_the_daemon_is_ready() -> None:
    daemon = SlowDaemon()
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, Configuration, Notifier())
        await _send(signal.SIGHUP)
        await anyio.wait_all_tasks_blocked()
        assert daemon.reloads == 0
        daemon.is_ready.set()
        with anyio.fail_after(5):
            while not daemon.reloads:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_a_wish_for_a_reload_from_before_anybody_listened_is_heard() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # as `serve` does
    signal.pthread_kill(threading.get_ident(), signal.SIGHUP)  # and to no other thread, which does not hold it back
    daemon = SlowDaemon()
    daemon.is_ready.set()
    async with anyio.create_task_group() as tasks:
        await tasks.start(_watch_signals, daemon, Configuration, Notifier())
        with anyio.fail_after(5):
            while not daemon.reloads:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


def test_a_wish_for_a_reload_does_not_end_a_daemon_that_starts() -> None:
    script = """if True:
        import os, signal
        from masqmail.daemon.serve import serve
        def load():
            os.kill(os.getpid(), signal.SIGHUP)
            os._exit(7)
        raise SystemExit(serve(load))
    """
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
