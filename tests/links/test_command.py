import sys
from datetime import timedelta

import anyio
import pytest

from masqmail.links import command
from masqmail.links.command import CommandDetector, Options
from masqmail.links.detector import Observation
from masqmail.routing.link import LinkState
from masqmail.settings import Command
from masqmail.system.clock import FakeClock

pytestmark = pytest.mark.anyio


def detector(*words: str, clock: FakeClock | None = None) -> CommandDetector:
    options = Options(Command(words), timedelta(seconds=5))
    return CommandDetector("office", options, clock or FakeClock())


def shell(script: str) -> CommandDetector:
    return detector("/bin/sh", "-c", script)


@pytest.mark.parametrize("script", ["echo office", "printf office", "printf '\\n  office  \\nhome\\n'"])
async def test_a_program_that_names_the_link_brings_it_up(script: str) -> None:
    assert await shell(script).ask() == Observation(LinkState.UP, "sh names it")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo home", 'sh names "home"'),
        ("true", "sh names no link"),
        ("exit 3", "sh exited with status 3"),
        ("echo office; exit 1", "sh exited with status 1"),
        ("echo one >&2; echo no modem >&2; exit 1", "sh exited with status 1: no modem"),
        ("kill -9 $$", "sh was killed by signal 9"),
    ],
)
async def test_any_other_answer_takes_it_down(script: str, reason: str) -> None:
    assert await shell(script).ask() == Observation(LinkState.DOWN, reason)


async def test_a_program_that_is_not_there_tells_nothing() -> None:
    assert await detector("/nowhere/which-link").ask() == Observation(
        LinkState.UNKNOWN, "/nowhere/which-link cannot be run: no such file or directory"
    )


async def test_a_program_that_hangs_is_ended_with_all_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_TIMEOUT_SECONDS", 0.05)
    observation = await shell("echo office; sleep 60 & sleep 60").ask()
    assert observation == Observation(LinkState.UNKNOWN, "sh did not finish within 0.05 s")


async def test_a_child_that_stays_does_not_hold_up_the_answer() -> None:
    with anyio.fail_after(5):
        assert (await shell("setsid sleep 2 & echo office").ask()).state is LinkState.UP


async def test_endless_output_ends_the_program() -> None:
    with anyio.fail_after(5):
        assert (await detector("/usr/bin/yes", "office").ask()).state is LinkState.DOWN


async def test_no_shell_reads_the_arguments() -> None:
    code = "import sys; sys.exit(sys.argv[1])"
    observation = await detector(sys.executable, "-I", "-c", code, "$HOME `id` ; x").ask()
    assert observation.reason.endswith("exited with status 1: $HOME `id` ; x")


async def test_the_environment_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    observation = await shell('[ -z "$SECRET_TOKEN" ] && [ -n "$PATH" ] && echo office').ask()
    assert observation.state is LinkState.UP


async def test_it_is_asked_again_after_the_interval() -> None:
    clock = FakeClock()
    watch = detector("/bin/echo", "office", clock=clock).watch()
    found: list[LinkState] = []

    async def collect() -> None:
        async for observation in watch:
            found.append(observation.state)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        for expected in (1, 2):
            while not clock.sleepers:
                await anyio.sleep(0)
            assert len(found) == expected
            clock.advance(timedelta(seconds=5))
            await anyio.sleep(0)
        group.cancel_scope.cancel()
    await watch.aclose()
