from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import anyio
import pytest

from masqmail.retrieval import imap
from masqmail.retrieval.account import FetchFailure
from support.imapaccount import Post, message, post
from support.imapserver import CAPABILITIES, Box, ImapServer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick_pulse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "PULSE_SECONDS", 0.01)


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.001)


def is_idling(here: Post) -> bool:
    """Whether the server waits, and so do we."""
    connection = here.retriever._connection
    if connection is None or not hasattr(connection, "session") or not here.servers[-1].idles:
        return False
    return connection.session.is_idling and connection.wire.stream._readable.is_awaited


async def wait_while(here: Post, happen: Callable[[], None], **changes: object) -> None:
    """Waits for mail; when the server idles, something happens."""
    async with anyio.create_task_group() as group:
        group.start_soon(here.retriever.wait_for_mail, replace(here.account, **changes))  # type: ignore[arg-type]
        await until(lambda: is_idling(here))
        happen()


def say(here: Post, text: str) -> None:
    here.listener.writers[-1].write(text.encode() + b"\r\n")


async def test_new_mail_ends_the_wait_and_comes_over_the_same_connection() -> None:
    async with post(message(1)) as here:
        await here.retriever.wait_for_mail(here.account)  # nothing was fetched yet: at once
        await here.fetch()

        def arrive() -> None:
            here.box.add(message(2))
            say(here, "* 1 EXISTS")

        await wait_while(here, arrive)
        inbox = await here.fetch()
        assert inbox.contents == [message(1), message(2)]
        assert len(here.servers) == 1


async def test_mail_that_came_after_the_look_ends_the_wait_at_once() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        here.box.add(message(2))
        with anyio.fail_after(5):
            await here.retriever.wait_for_mail(here.account)


async def test_other_news_do_not_end_the_wait() -> None:
    async with post(message(1), message(2)) as here:
        await here.fetch(keep=True)

        def change() -> None:
            for text in ("* 1 FETCH (FLAGS (\\Seen))", "* 2 EXPUNGE", "* 1 EXISTS", "* 0 RECENT", "* OK Still here"):
                say(here, text)

        with anyio.move_on_after(0.1) as scope:
            await wait_while(here, change)
        assert scope.cancelled_caught


async def test_idle_is_renewed_before_the_server_hangs_up() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        async with anyio.create_task_group() as group:
            group.start_soon(here.retriever.wait_for_mail, here.account)
            await until(lambda: is_idling(here))
            for count in (2, 3):
                here.clock.advance(timedelta(minutes=10))
                await until(lambda count=count: here.commands.count("IDLE") == count and is_idling(here))  # type: ignore[misc]
            group.cancel_scope.cancel()
        assert len(here.servers) == 2  # one for the fetch, and one that is kept


@pytest.mark.parametrize("command", ["DONE", "NOOP"])
@pytest.mark.parametrize("news", ["* 2 EXISTS", "* 1 EXPUNGE"])
async def test_what_a_server_tells_only_when_idle_is_renewed_ends_the_wait(command: str, news: str) -> None:
    class Slow(ImapServer):
        def _obey(self, line: str) -> None:
            if line.endswith(command):
                self._say(news)
            super()._obey(line)

    async with post(message(1), make=Slow) as here:
        await here.fetch(keep=True)
        with anyio.fail_after(5):
            await wait_while(here, lambda: here.clock.advance(timedelta(minutes=10)), keep=True)


async def test_after_a_suspend_the_connection_is_not_trusted() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        await wait_while(here, lambda: here.clock.suspend(timedelta(minutes=3)))
        count = len(here.servers)
        await here.fetch()
        assert len(here.servers) == count + 1


async def test_a_wait_that_was_ended_leaves_a_connection_that_can_be_used() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        async with anyio.create_task_group() as group:
            group.start_soon(here.retriever.wait_for_mail, here.account)
            await until(lambda: is_idling(here))
            group.cancel_scope.cancel()
        here.box.add(message(2))
        inbox = await here.fetch()
        assert len(inbox.taken) == 2
        assert len(here.servers) == 2


async def test_a_connection_that_breaks_after_a_while_is_replaced_by_the_next_fetch() -> None:
    async with post(message(1)) as here:
        await here.fetch()

        def breaks() -> None:
            here.clock.advance(timedelta(minutes=5))
            here.listener.writers[-1].transport.abort()

        await wait_while(here, breaks)
        here.box.add(message(2))
        assert len((await here.fetch()).taken) == 2


async def test_a_server_that_hangs_up_on_those_who_wait_is_a_failure() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        with pytest.raises(ExceptionGroup) as caught:
            await wait_while(here, lambda: say(here, "* BYE Not here"))
        (failure,) = caught.value.exceptions
        assert isinstance(failure, FetchFailure) and "said goodbye: Not here" in failure.reason


@pytest.mark.parametrize("text", ["OK too long", "NO go away"])
async def test_a_server_that_ends_idle_itself_is_asked_to_go_on(text: str) -> None:
    async with post(message(1)) as here:
        await here.fetch()
        async with anyio.create_task_group() as group:
            group.start_soon(here.retriever.wait_for_mail, here.account)
            await until(lambda: is_idling(here))
            tag = here.servers[-1]._tag
            here.servers[-1].idles = False
            say(here, f"{tag} {text}")
            await until(lambda: here.commands.count("IDLE") == 2)
            group.cancel_scope.cancel()


async def test_where_the_server_cannot_idle_we_ask_again_after_a_while() -> None:
    make = partial(ImapServer, capabilities=tuple(name for name in CAPABILITIES if name != "IDLE"))
    async with post(message(1), make=make) as here:
        await here.fetch()
        async with anyio.create_task_group() as group:
            group.start_soon(here.retriever.wait_for_mail, here.account)
            await until(lambda: here.clock.sleepers)
            here.clock.advance(timedelta(minutes=5))
        assert "LOGOUT" in here.commands


async def test_with_several_folders_the_others_are_asked_after_a_while() -> None:
    async with post(message(1)) as here:
        here.boxes["Work"] = Box(uid_validity=9)
        await here.fetch(folders=("INBOX", "Work"))
        await wait_while(here, lambda: here.clock.advance(timedelta(minutes=5)), folders=("INBOX", "Work"))


async def test_a_fetch_without_a_wait_keeps_no_connection() -> None:
    async with post(message(1)) as here:
        await here.fetch()
        assert here.commands[-1] == "LOGOUT"


async def test_a_cancelled_fetch_keeps_nothing_and_ends_at_once() -> None:
    make = partial(ImapServer, mangle=lambda command, answer: b"" if "BODY" in command else answer)
    async with post(message(1), make=make) as here:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(here.fetch)
                await until(lambda: here.servers and any("BODY" in line for line in here.commands))
                group.cancel_scope.cancel()
        assert here.inbox.open_parcels == 0
        assert here.retriever._connection is None
