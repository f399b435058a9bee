"""A message that something on the way does not let pass cannot keep the others back."""

from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.routing.link import LinkState
from masqmail.spool.states import State
from support.inprocess import House
from support.mail import complete_message, identity, message
from support.scripted_server import ALL_KEYWORDS, DROP, ContentFilter, ScriptedServer, listening

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MINUTE = timedelta(minutes=1)


async def test_what_a_filter_cuts_off_twice_waits_and_what_is_behind_it_is_delivered(tmp_path: Path) -> None:
    offensive = complete_message("offensive", b"This offends somebody on the way.\n" * 200_000)
    async with listening(ContentFilter) as listener:
        house = House(tmp_path, listener.address)
        async with house.daemon() as tenant:
            await tenant.submit(["bob@far.test"], offensive)
            await tenant.submit(["eve@far.test"], message("harmless"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            await tenant.until(lambda found: "provider" in tenant.daemon.scheduler.paused_routes())
            waiting = await tenant.recipients()
            assert {item.state for item in waiting.values()} == {State.QUEUED}, "one drop is the connection's fault"
            assert {item.attempts for item in waiting.values()} == {0}

            await tenant.advance(MINUTE, MINUTE)
            waiting = await tenant.until(lambda found: found.keys() == {"bob@far.test"})
            assert [identity(taken.content) for server in listener.servers for taken in server.taken] == ["harmless"]
            bob = waiting["bob@far.test"]
            assert (bob.state, bob.attempts) == (State.DEFERRED, 1)
            assert "broke again in the middle of this message" in bob.reason
            assert tenant.daemon.scheduler.paused_routes() == {}


@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",), ()], ids=["stream", "group", "lock-step"])
async def test_a_recipient_at_whom_the_server_hangs_up_twice_lets_the_others_go(
    tmp_path: Path, keywords: tuple[str, ...]
) -> None:
    def drop(step: str, subject: str) -> str | None:
        return DROP if (step, subject) == ("RCPT", "bob@far.test") else None

    async with listening(lambda: ScriptedServer(keywords, drop)) as listener:
        house = House(tmp_path, listener.address)
        async with house.daemon() as tenant:
            await tenant.submit(["bob@far.test"], message("offensive"))
            await tenant.submit(["eve@far.test"], message("harmless"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            for _ in range(4):  # what was on the way behind it may be in doubt, and waits as well
                await tenant.until(lambda found: not tenant.daemon.scheduler.is_sending())
                await tenant.advance(5 * MINUTE, MINUTE)
            waiting = await tenant.until(lambda found: found.keys() == {"bob@far.test"})
            assert waiting["bob@far.test"].state is State.DEFERRED


async def test_what_is_twice_left_without_an_answer_after_its_last_byte_lets_the_others_go(tmp_path: Path) -> None:
    def drop(step: str, subject: str) -> str | None:
        return DROP if (step, subject) == ("CONTENT", "offensive@laptop.example.org") else None

    async with listening(lambda: ScriptedServer(("PIPELINING", "8BITMIME"), drop)) as listener:
        house = House(tmp_path, listener.address)
        async with house.daemon() as tenant:
            await tenant.submit(["bob@far.test"], message("offensive"), "offensive@laptop.example.org")
            await tenant.submit(["eve@far.test"], message("harmless"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            await tenant.until(lambda found: "provider" in tenant.daemon.scheduler.paused_routes())

            await tenant.advance(MINUTE, MINUTE)
            waiting = await tenant.until(lambda found: found.keys() == {"bob@far.test"})
            assert waiting["bob@far.test"].state is State.DEFERRED
            assert tenant.daemon.scheduler.paused_routes() == {}
