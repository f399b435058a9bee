"""When accounts are fetched, over which link, and what a failure means."""

import re
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest

from masqmail.daemon.fetch.task import MAX_VAIN
from masqmail.daemon.secrets import SecretError
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Envelope, Recipient
from masqmail.mail.outcome import Culprit
from masqmail.retrieval.account import FetchFailure, Order
from masqmail.routing.link import LinkState
from masqmail.spool.api import FetchFate, FetchMark, SpoolBroken, SpoolFull, Uid
from masqmail.spool.intake import HeaderFacts, Origin, Resolution
from masqmail.spool.states import State
from support.assembly import DAY, HOUR, MINUTE
from support.fetchroom import FakeRetriever, FakeServer, Room, account

pytestmark = pytest.mark.anyio

SECOND = timedelta(seconds=1)
LOST = FetchFailure("pop.isp.example: connection lost")
REFUSED = FetchFailure("pop.isp.example refused the login of ann: Wrong", Culprit.LOGIN)


def times(server: FakeServer) -> int:
    """How often an account was fetched."""
    return len(server.orders)


# --- when


async def test_mail_is_fetched_at_the_start_and_then_after_each_interval() -> None:
    async with Room(account("isp", 'interval = "10m"')).fetching() as room:
        assert times(room.server) == 1
        await room.advance(9 * MINUTE)
        assert times(room.server) == 1
        room.server.mail["m1"] = 100
        await room.advance(MINUTE)
        assert times(room.server) == 2
        assert room.taken == [("isp", "m1")]
        assert room.status() == {
            "name": "isp",
            "state": "ready",
            "reason": "1 message taken (100 B)",
            "last_at": "2026-01-01T00:10:00Z",
            "next_at": "2026-01-01T00:20:00Z",
        }


async def test_a_fetch_that_became_due_during_a_suspend_happens_when_the_machine_wakes() -> None:
    async with Room(account("isp", 'interval = "10m"')).fetching() as room:
        await room.suspend(8 * HOUR)
        assert times(room.server) == 2


async def test_a_manual_account_is_fetched_only_when_somebody_says_so() -> None:
    async with Room(account("isp", 'interval = "manual"'), down=["dsl"], up=[]).fetching() as room:
        await room.link("dsl", LinkState.UP)
        await room.advance(DAY, HOUR)
        assert times(room.server) == 0
        assert room.state() == ("manual", "fetched when told to (`masqmail fetch isp`)")
        room.server.mail["m1"] = 100
        assert await room.ended() == {"isp": ("done", "1 message taken (100 B)")}
        assert room.state()[1] == "fetched when told to (`masqmail fetch isp`); before: 1 message taken (100 B)"
        assert room.status()["next_at"] is None


async def test_an_idle_account_is_fetched_when_its_server_announces_mail() -> None:
    async with Room(account("isp", 'interval = "idle"', protocol="imap")).fetching() as room:
        assert (times(room.server), room.server.waits) == (1, 1)
        assert room.state() == ("ready", "the server says when there is mail; before: nothing new")
        await room.advance(HOUR)
        room.server.mail["m1"] = 100
        room.server.announce()
        await room.settle()
        assert room.taken == [("isp", "m1")]
        assert (times(room.server), room.server.waits) == (2, 2)


async def test_a_server_that_announces_nothing_at_once_is_not_asked_all_the_time() -> None:
    async with Room(account("isp", 'interval = "idle"', protocol="imap")).fetching() as room:
        for _ in range(20):
            room.server.announce()
            await room.settle()
        assert times(room.server) == 1 + MAX_VAIN
        await room.advance(10 * SECOND, SECOND)
        assert times(room.server) == 2 + MAX_VAIN


async def test_messages_that_come_shortly_after_each_other_do_not_wait() -> None:
    async with Room(account("isp", 'interval = "idle"', protocol="imap")).fetching() as room:
        for number in range(20):
            room.server.mail[f"m{number}"] = 100
            room.server.announce()
            await room.settle()
            assert len(room.taken) == number + 1


async def test_idle_begins_anew_after_a_suspend() -> None:
    async with Room(account("isp", 'interval = "idle"', protocol="imap")).fetching() as room:
        await room.suspend(HOUR)
        await room.advance(5 * SECOND, SECOND)
        assert (times(room.server), room.server.waits) == (2, 2)


async def test_waiting_for_mail_that_fails_is_a_failure_of_the_account() -> None:
    room = Room(account("isp", 'interval = "idle"', protocol="imap"))
    room.server.wait_failure = LOST
    async with room.fetching():
        assert room.state() == ("failed", LOST.reason)
        room.server.wait_failure = None
        await room.advance(MINUTE)
        assert (times(room.server), room.server.waits) == (2, 2)
        assert room.state()[0] == "ready"


# --- links


async def test_mail_is_fetched_only_while_a_link_is_up_and_at_once_when_one_comes_up() -> None:
    async with Room(account("isp", link="dsl"), up=[], down=["dsl"]).fetching() as room:
        await room.advance(HOUR)
        assert times(room.server) == 0
        assert room.state() == ("waiting", "link dsl is down: it is down")
        assert room.status()["next_at"] is None
        await room.link("dsl", LinkState.UP)
        assert times(room.server) == 1


async def test_a_link_nobody_knows_of_is_not_up() -> None:
    async with Room(account("isp", link="dsl"), up=[]).fetching() as room:
        await room.link("dsl", LinkState.UNKNOWN)
        assert times(room.server) == 0


async def test_a_fetch_that_fails_with_its_link_waits_for_the_link() -> None:
    room = Room(account("isp"))
    room.server.gate, room.server.failure = anyio.Event(), LOST
    async with room.fetching():
        assert room.state() == ("fetching", "asks the server over link dsl")
        await room.link("dsl", LinkState.DOWN)
        room.server.gate.set()
        await room.settle()
        assert room.state() == ("waiting", f"link dsl is down: it is down; before: {LOST.reason}")
        room.server.failure = None
        await room.link("dsl", LinkState.UP)
        assert times(room.server) == 2
        assert room.state() == ("ready", "nothing new")


async def test_a_fetch_that_says_nothing_any_more_is_ended_when_its_link_is_down() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        await room.link("dsl", LinkState.DOWN)
        await room.advance(9 * SECOND, SECOND)
        assert room.state()[0] == "fetching"
        await room.advance(2 * SECOND, SECOND)
        assert room.server.cancelled == 1
        assert room.state() == ("waiting", "link dsl is down: it is down; before: the link went down")


async def test_a_fetch_whose_connection_died_with_the_link_begins_anew_when_that_is_back() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        await room.link("dsl", LinkState.DOWN)
        await room.link("dsl", LinkState.UP)
        room.server.gate = None
        await room.advance(4 * SECOND, SECOND)
        assert (room.server.cancelled, times(room.server)) == (1, 2)
        assert room.state() == ("ready", "nothing new")


async def test_a_fetch_goes_on_while_another_of_its_links_is_up() -> None:
    room = Room(account("isp", link='dsl", "wifi'), up=["dsl", "wifi"])
    room.server.gate = anyio.Event()
    async with room.fetching():
        await room.link("dsl", LinkState.DOWN)
        await room.advance(MINUTE, SECOND)
        assert room.server.cancelled == 0


async def test_a_fetch_whose_connection_died_over_a_suspend_is_begun_anew() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        await room.suspend(HOUR)
        room.server.gate = None
        await room.advance(4 * SECOND, SECOND)
        assert (room.server.cancelled, times(room.server)) == (1, 2)


async def test_a_fetch_that_is_begun_anew_counts_on() -> None:
    room = Room(account("isp", 'interval = "manual"'))
    room.server.mail = {"m1": 100, "m2": 200, "m3": 300}
    seen = []
    async with room.fetching(), anyio.create_task_group() as tasks:
        take, stuck = FakeRetriever._take, anyio.Event()

        async def take_two(self, account, inbox, found, *, is_asked):  # type: ignore[no-untyped-def]
            if found.uid.uid == "m3" and len(room.server.orders) == 1:
                await stuck.wait()
            await take(self, account, inbox, found, is_asked=is_asked)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeRetriever, "_take", take_two)

            async def watch() -> None:
                async for document in room.fetcher.fetch(["isp"]):
                    seen.append(document)

            tasks.start_soon(watch)
            await room.settle()
            await room.suspend(HOUR)
            await room.advance(4 * SECOND, SECOND)
            await room.settle()
    assert times(room.server) == 2
    ends = [(one["state"], one["taken"], one["expected"], one["bytes"]) for one in seen]  # type: ignore[index]
    assert ends[-1] == ("done", 3, 3, 600)
    assert seen[-1]["reason"] == "3 messages taken (600 B)"  # type: ignore[index]
    assert all(taken <= expected for _, taken, expected, _ in ends)


async def test_a_fetch_that_goes_on_after_a_suspend_is_left_alone() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        await room.suspend(HOUR)
        task = room.fetcher._tasks["isp"]
        assert task.inbox is not None
        task.inbox.progress()
        await room.advance(MINUTE, SECOND)
        assert room.server.cancelled == 0


async def test_a_link_that_flaps_has_one_fetch_at_a_time_and_each_ends() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    room.server.mail = {"m1": 1}
    async with room.fetching():
        for _ in range(30):
            await room.link("dsl", LinkState.DOWN)
            await room.advance(SECOND, SECOND)
            await room.link("dsl", LinkState.UP)
            await room.advance(SECOND, SECOND)
            assert times(room.server) - room.server.cancelled <= 1
        assert times(room.server) < 20
        room.server.gate.set()
        await room.advance(10 * MINUTE)
        assert room.taken == [("isp", "m1")]
        assert room.state()[0] == "ready"


async def test_a_link_that_flaps_has_a_good_account_fetched_now_and_then() -> None:
    async with Room(account("isp")).fetching() as room:
        for _ in range(60):
            await room.link("dsl", LinkState.DOWN)
            await room.advance(SECOND, SECOND)
            await room.link("dsl", LinkState.UP)
            await room.advance(SECOND, SECOND)
        assert times(room.server) == 5
        await room.link("dsl", LinkState.DOWN)
        await room.advance(MINUTE, SECOND)
        await room.link("dsl", LinkState.UP)
        assert times(room.server) == 6, "at once when it was down for a while"


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
async def test_a_wall_clock_that_is_set_changes_nothing_about_when(jump: timedelta) -> None:
    room = Room(account("isp", 'interval = "10m"'), account("lost"))
    room.servers["lost"].failure = LOST
    async with room.fetching():
        await room.advance(9 * MINUTE)
        room.clock.set_now(room.clock.now() + jump)
        assert times(room.servers["isp"]) == 1
        before = times(room.servers["lost"])
        await room.advance(MINUTE)
        assert times(room.servers["isp"]) == 2
        await room.advance(HOUR)
        assert times(room.servers["isp"]) == 8
        assert times(room.servers["lost"]) - before in (2, 3, 4)
        assert room.reports() == [], "nobody is told of a failure that seems to last for a year"


# --- failures


async def test_the_waits_after_failures_grow_to_an_hour() -> None:
    room = Room(account("isp"))
    room.server.failure = LOST
    async with room.fetching():
        found = []
        for _ in range(9):
            before, minutes = times(room.server), 0
            while times(room.server) == before:
                await room.advance(MINUTE)
                minutes += 1
            found.append(minutes)
        assert found == [1, 2, 5, 10, 20, 40, 60, 60, 60]
        assert room.state() == ("failed", f"{LOST.reason}, 10 times in a row")


async def test_a_success_forgets_the_failures() -> None:
    room = Room(account("isp", 'interval = "2m"'))
    room.server.failure = LOST
    async with room.fetching():
        await room.advance(3 * MINUTE)
        room.server.failure = None
        await room.advance(5 * MINUTE)
        assert room.state() == ("ready", "nothing new")
        room.server.failure = LOST
        await room.advance(2 * MINUTE)
        assert room.status()["next_at"] == "2026-01-01T00:11:00Z"


async def test_a_fetch_that_got_on_is_soon_continued() -> None:
    room = Room(account("isp"))
    room.server.failure = LOST
    async with room.fetching():
        await room.advance(20 * MINUTE)
        tally_before = times(room.server)

        async def takes_one(*args: object) -> None:
            inbox = args[1]
            inbox.tally.taken = 1  # type: ignore[attr-defined]
            room.server.orders.append(Order())
            raise LOST

        room.retrievers[0].fetch = takes_one  # type: ignore[method-assign,assignment]
        await room.ended()
        await room.advance(MINUTE)
        assert times(room.server) == tally_before + 2


async def test_a_link_that_comes_up_ends_the_wait_after_a_failure() -> None:
    room = Room(account("isp"))
    room.server.failure = LOST
    async with room.fetching():
        await room.advance(20 * MINUTE)
        before = times(room.server)
        await room.link("dsl", LinkState.DOWN)
        await room.link("dsl", LinkState.UP)
        assert times(room.server) == before + 1


async def test_a_refused_login_waits_long_and_the_postmaster_hears_of_it_once() -> None:
    room = Room(account("isp"))
    room.server.failure = REFUSED
    async with room.fetching():
        await room.advance(14 * MINUTE)
        assert times(room.server) == 1
        await room.link("dsl", LinkState.DOWN)
        await room.link("dsl", LinkState.UP)
        assert times(room.server) == 1, "another link makes no better password"
        await room.advance(5 * HOUR)
        assert room.state()[0] == "failed"
        ((who, notice),) = room.reports()
        assert who == "root"
        assert "Subject: No mail comes from the account isp" in notice
        assert REFUSED.reason in notice
        assert "masqmail fetch isp" in notice


async def test_the_postmaster_hears_once_of_an_account_that_fails_for_long() -> None:
    room = Room(account("isp"))
    room.server.failure = LOST
    async with room.fetching():
        await room.advance(3 * HOUR)
        assert room.reports() == []
        await room.advance(DAY)
        assert len(room.reports()) == 1
        room.server.failure = None
        await room.ended()
        room.server.failure = LOST
        await room.advance(DAY)
        assert len(room.reports()) == 2


async def test_a_password_is_read_once_and_again_when_it_was_refused() -> None:
    room = Room(account("isp", 'interval = "1m"'))
    async with room.fetching():
        await room.advance(3 * MINUTE)
        assert (times(room.server), room.passwords_read) == (4, 1)
        room.server.failure = REFUSED
        await room.advance(MINUTE)
        assert (times(room.server), room.passwords_read) == (5, 2)


async def test_a_password_that_was_changed_is_tried_at_once() -> None:
    room = Room(account("isp"))
    async with room.fetching():
        room.passwords["isp"] = "sesame 2"
        refused: Callable[[str], bool] = lambda password: password != "sesame 2"  # noqa: E731
        fetch = room.retrievers[0].fetch

        async def judge(account, inbox, order):  # type: ignore[no-untyped-def]
            if refused(account.credentials.password.reveal()):
                raise REFUSED
            await fetch(account, inbox, order)

        room.retrievers[0].fetch = judge  # type: ignore[method-assign]
        assert await room.ended() == {"isp": ("done", "nothing new")}
        assert room.passwords_read == 2
        assert room.reports() == []


async def test_a_reload_ends_the_wait_for_another_password() -> None:
    room = Room(account("isp"), account("other", 'interval = "2h"'))
    room.servers["isp"].failure = REFUSED
    async with room.fetching():
        await room.advance(MINUTE)
        room.servers["isp"].failure = None
        await room.change(account("isp"), account("other", 'interval = "2h"'))
        assert room.state("isp")[0] == "ready", "the file with the password is another one, and its name the same"
        assert times(room.servers["isp"]) == 2
        assert times(room.servers["other"]) == 1, "it had not failed"


async def test_a_password_that_cannot_be_read_is_a_failure_with_its_reason() -> None:
    room = Room(account("isp"))
    room.passwords["isp"] = SecretError("cannot read the password in /secret/isp: Permission denied")
    async with room.fetching():
        assert room.state() == ("failed", str(room.passwords["isp"]))
        assert times(room.server) == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("oops"), "a fault of ours, which the log tells more about: KeyError('oops')"),
        (ExceptionGroup("several", [LOST]), LOST.reason),
        (SpoolFull("the disk is full"), "the queue cannot take it now: the disk is full"),
        (ImportError("IMAP needs IMAPClient"), "IMAP needs IMAPClient"),
    ],
)
async def test_whatever_goes_wrong_is_a_failure_of_this_account_alone(error: Exception, reason: str) -> None:
    room = Room(account("isp"), account("other"))
    room.servers["isp"].failure = error
    async with room.fetching():
        assert room.state() == ("failed", reason)
        assert room.state("other")[0] == "ready"
        await room.advance(MINUTE)
        assert times(room.servers["isp"]) == 2
        assert room.broken == []


async def test_no_reason_of_a_failure_has_it_tried_again_at_once() -> None:
    for culprit in Culprit:
        room = Room(account("isp"))
        room.server.failure = FetchFailure("no", culprit)
        async with room.fetching():
            assert (room.state(), times(room.server)) == (("failed", "no"), 1)


async def test_a_broken_spool_ends_the_program() -> None:
    room = Room(account("isp"))
    room.server.failure = SpoolBroken("fsync failed")
    async with room.fetching():
        assert room.broken == [room.server.failure]


async def test_a_fault_of_ours_between_two_fetches_costs_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(account("isp", 'interval = "1m"'))
    async with room.fetching():

        async def broken(key: str, value: str) -> None:
            raise ValueError("oops")

        monkeypatch.setattr(room.spool, "remember", broken)
        room.server.mail["m1"] = 1
        await room.advance(MINUTE)
        monkeypatch.undo()
        room.server.mail["m2"] = 1
        await room.advance(3 * MINUTE)
        assert [uid for _, uid in room.taken] == ["m1", "m2"]


# --- several accounts


async def test_accounts_do_not_wait_for_each_other() -> None:
    room = Room(account("slow"), account("quick"))
    room.servers["slow"].gate = anyio.Event()
    async with room.fetching():
        assert room.state("slow")[0] == "fetching"
        assert room.state("quick") == ("ready", "nothing new")


async def test_four_accounts_at_a_time_share_a_link() -> None:
    names = [f"a{number}" for number in range(6)]
    room = Room(*(account(name) for name in names), account("b", link="wifi"), up=["dsl", "wifi"])
    for name in names:
        room.servers[name].gate = anyio.Event()
    async with room.fetching():
        states = [room.state(name)[0] for name in names]
        assert sorted(states) == ["fetching"] * 4 + ["ready"] * 2
        waiting = names[states.index("ready")]
        assert room.state(waiting)[1] == "waits until another account has been fetched over link dsl"
        assert times(room.servers["b"]) == 1
        for name in names:
            gate = room.servers[name].gate
            assert gate is not None
            gate.set()
        await room.settle()
        assert [times(room.servers[name]) for name in names] == [1] * 6


async def test_four_that_take_for_ever_hold_up_nobody_else_for_more_than_a_minute() -> None:
    names = [f"a{number}" for number in range(100)]
    room = Room(*(account(name) for name in names))
    for name in names[:4]:
        room.servers[name].gate = anyio.Event()
    async with room.fetching():
        assert sum(times(room.servers[name]) for name in names) == 4
        await room.advance(MINUTE, SECOND)
        assert [times(room.servers[name]) for name in names] == [1] * 100
        assert [room.state(name)[0] for name in names[:4]] == ["fetching"] * 4
        await room.advance(10 * MINUTE, MINUTE)
        assert [times(room.servers[name]) for name in names] == [1] * 4 + [2] * 96


# --- somebody says fetch


async def test_who_says_fetch_hears_how_each_account_ends() -> None:
    room = Room(account("isp"), account("other"))
    async with room.fetching():
        room.servers["isp"].mail.update(m1=1000, m2=2000)
        room.servers["other"].failure = LOST
        documents = await room.fetch()
        assert {document["account"]: document for document in documents} == {
            "isp": {
                "account": "isp",
                "state": "done",
                "taken": 2,
                "expected": 2,
                "bytes": 3000,
                "left": 0,
                "refused": 0,
                "deleted": 0,
                "moved": 0,
                "reason": "2 messages taken (3.0 KB)",
            },
            "other": {
                "account": "other",
                "state": "failed",
                "taken": 0,
                "expected": 0,
                "bytes": 0,
                "left": 0,
                "refused": 0,
                "deleted": 0,
                "moved": 0,
                "reason": LOST.reason,
            },
        }


async def test_a_fetch_is_tried_over_a_link_that_nobody_knows_of() -> None:
    async with Room(account("isp"), up=[]).fetching() as room:
        await room.link("dsl", LinkState.UNKNOWN)
        assert await room.ended() == {"isp": ("done", "nothing new")}


async def test_a_fetch_over_a_link_that_is_down_fails_with_that_reason() -> None:
    async with Room(account("isp"), up=[], down=["dsl"]).fetching() as room:
        assert await room.ended() == {"isp": ("failed", "link dsl is down: it is down")}
        assert times(room.server) == 0
        assert room.state()[0] == "waiting"


async def test_a_fetch_that_is_asked_for_while_one_runs_comes_after_it() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        found: list[object] = []

        async def ask() -> None:
            found.append(await room.ended())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            tasks.start_soon(ask)
            await room.settle()
            room.server.mail["m1"] = 1  # too late for the one that runs
            room.server.gate.set()
        assert len(found) == 2
        assert times(room.server) == 2
        assert room.taken == [("isp", "m1")]


async def test_one_message_is_fetched_whatever_its_size() -> None:
    room = Room(account("isp", 'max_size = "1MB"'))
    room.server.mail["big one"] = 5_000_000
    async with room.fetching():
        assert room.taken == []
        assert await room.ended("isp", messages=["big one"]) == {"isp": ("done", "1 message taken (5.0 MB)")}
        assert room.server.orders[-1] == Order(("big one",))
        assert room.taken == [("isp", "big one")]


async def test_a_message_that_is_not_there_is_said_so_and_is_no_failure_of_the_account() -> None:
    async with Room(account("isp")).fetching() as room:
        assert await room.ended("isp", messages=["m9"]) == {"isp": ("failed", "the server has no message m9")}
        assert room.state() == ("ready", "nothing new")


# --- messages that stay


async def test_a_message_that_is_too_big_stays_and_its_owner_hears_of_it_once() -> None:
    room = Room(account("isp", 'max_size = "1MB"', 'deliver_to = "ann"', 'interval = "1m"'))
    room.server.mail["m'1"] = 5_000_000
    async with room.fetching():
        await room.advance(5 * MINUTE)
        assert times(room.server) == 6
        ((who, notice),) = room.reports()
        assert who == "ann"
        assert "Subject: A message of 5.0 MB waits on the server" in notice
        for line in (
            "From:    Bob <bob@far.example>",
            "Date:    Sat, 21 Nov 2026 10:00:00 +0100",
            "Subject: Holiday pictures",
            "Size:    5.0 MB",
            "masqmail fetch isp --message 'm'\"'\"'1'",
        ):
            assert f"\n  {line}\r\n" in notice


@pytest.mark.parametrize(("folders", "name"), [('["Lists"]', "7:1"), ('["INBOX", "Lists"]', "Lists:7:1")])
async def test_of_several_folders_notice_and_reply_say_which(folders: str, name: str) -> None:
    room = Room(account("isp", f"folders = {folders}", 'deliver_to = "ann"', protocol="imap"))
    async with room.fetching():
        mark = FetchMark("isp", Uid("Lists", "7:1"), FetchFate.LEFT, room.clock.now(), 5_000_000)
        await room.notices.tell_of_left(mark, b"Subject: big\r\n\r\n")
        await room.settle()
        ((_, notice),) = room.reports()
        assert f"\n  masqmail fetch isp --message {name}\r\n" in notice
        await reply(room, reply_address(room))
        assert room.server.orders[-1] == Order(("Lists:7:1",))


@pytest.mark.parametrize("owner", ["nobody-here", "ann@far.example"])
async def test_the_postmaster_hears_of_a_big_message_when_its_owner_is_not_here(owner: str) -> None:
    room = Room(account("isp", 'max_size = "1MB"', f'deliver_to = "{owner}"'))
    room.server.mail["m1"] = 5_000_000
    async with room.fetching():
        assert [who for who, _ in room.reports()] == ["root"]


# --- replies to the notice about such a message

BIG = account("isp", 'max_size = "1MB"', 'deliver_to = "ann"')
REPLY_TO = re.compile(r"^Reply-To: (masqmail-fetch\+[a-z2-7]{32}@gw\.home\.example)\r$", re.MULTILINE)


def reply_address(room: Room) -> str:
    """Where a reply to the only notice goes."""
    ((_, notice),) = room.reports()
    found = REPLY_TO.search(notice)
    assert found, notice
    return found[1]


async def reply(room: Room, address: str, *, is_submission: bool = True) -> Resolution:
    """What becomes of a message to this address."""
    origin = Origin("ann (uid 1000)", "local", user="ann", uid=1000, is_submission=is_submission)
    facts = HeaderFacts("r1", b"Subject: Re: big\r\n", 100, room.clock.now(), origin)
    envelope = Envelope(Mailbox("ann", "gw.home.example"), (Recipient(parse_mailbox(address)),))
    resolution = room.resolver.resolve(envelope, facts)
    await room.settle()
    return resolution


@pytest.fixture
def with_big_message() -> Room:
    room = Room(BIG)
    room.server.mail["big"] = 5_000_000
    return room


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
async def test_a_reply_to_the_notice_has_the_message_fetched(
    with_big_message: Room, spelling: Callable[[str], str]
) -> None:
    async with with_big_message.fetching() as room:
        resolution = await reply(room, spelling(reply_address(room)))
        ((recipient,), reports) = resolution
        assert (recipient.state, list(reports)) == (State.DELIVERED, [])
        assert room.taken == [("isp", "big")]
        assert room.server.orders[-1] == Order(("big",))


async def test_a_message_that_was_asked_for_comes_when_the_link_is_up_also_after_a_restart(
    with_big_message: Room,
) -> None:
    async with with_big_message.fetching() as room:
        address = reply_address(room)
        await room.link("dsl", LinkState.DOWN)
        await reply(room, address)
        assert room.taken == []
    async with room.fetching():
        assert room.taken == []
        await room.link("dsl", LinkState.UP)
        assert room.taken == [("isp", "big")]
        before = times(room.server)
        await room.advance(HOUR)
        assert set(room.server.orders[before:]) == {Order()}


async def test_a_message_that_cannot_be_had_keeps_no_other_waiting(with_big_message: Room) -> None:
    async with with_big_message.fetching() as room:
        room.server.stubborn.add("big")
        room.server.mail["big two"] = 5_000_000
        await room.ended()
        addresses = [found[1] for _, notice in room.reports() if (found := REPLY_TO.search(notice))]
        await reply(room, addresses[0])
        assert room.state() == ("failed", "the server refused big")
        await reply(room, addresses[1])
        room.server.mail["small"] = 1
        await room.advance(MINUTE)
        assert room.taken == [("isp", "small")]
        await room.advance(2 * MINUTE)
        assert {uid for _, uid in room.taken} == {"small", "big two"}
        asked = room.server.orders.count(Order(("big",)))
        await room.advance(6 * HOUR)
        assert room.server.orders.count(Order(("big",))) - asked < 12, "ever less often"
        room.server.stubborn.clear()
        await room.advance(2 * HOUR)
        assert ("isp", "big") in room.taken


async def test_a_message_of_a_manual_account_that_cannot_be_had_has_nothing_else_fetched() -> None:
    room = Room(BIG + 'interval = "manual"\n')
    room.server.mail["big"] = 5_000_000
    async with room.fetching():
        await room.ended()
        room.server.stubborn.add("big")
        await reply(room, reply_address(room))
        await room.advance(6 * HOUR)
        assert room.server.orders.count(Order()) == 1
        assert 5 < room.server.orders.count(Order(("big",))) < 15


async def test_a_message_of_a_manual_account_can_be_asked_for(with_big_message: Room) -> None:
    room = Room(BIG + 'interval = "manual"\n')
    room.server.mail["big"] = 5_000_000
    async with room.fetching():
        await room.ended()
        await reply(room, reply_address(room))
        assert room.taken == [("isp", "big")]


async def test_a_message_that_was_asked_for_is_tried_again_with_its_account(with_big_message: Room) -> None:
    async with with_big_message.fetching() as room:
        address = reply_address(room)
        room.server.failure = LOST
        await reply(room, address)
        assert (room.taken, times(room.server)) == ([], 2)
        room.server.failure = None
        await room.advance(MINUTE)
        assert room.taken == [("isp", "big")]


async def test_who_asks_for_a_message_that_is_gone_is_told(with_big_message: Room) -> None:
    async with with_big_message.fetching() as room:
        address = reply_address(room)
        del room.server.mail["big"]
        await reply(room, address)
        (_, (who, notice)) = room.reports()
        assert who == "ann"
        assert "Subject: The message is no longer on the server" in notice
        assert room.state()[0] == "ready"


async def test_nobody_else_can_have_a_message_fetched(with_big_message: Room) -> None:
    async with with_big_message.fetching() as room:
        address = reply_address(room)
        forged = f"{address[:20]}{'a' if address[20] != 'a' else 'b'}{address[21:]}"
        for resolution in (
            await reply(room, address, is_submission=False),
            await reply(room, forged),
            await reply(room, "masqmail-fetch+@gw.home.example"),
            await reply(room, "masqmail-fetch@gw.home.example"),
        ):
            ((recipient,), _) = resolution
            assert recipient.state is State.FAILED
        assert (room.taken, times(room.server)) == ([], 1)


# --- the daemon starts again, or gets another configuration


async def test_what_was_known_of_an_account_outlives_the_daemon() -> None:
    room = Room(account("isp"))
    room.server.mail["m1"] = 1
    async with room.fetching():
        await room.advance(MINUTE)
    room.board.states["dsl"] = LinkState.DOWN
    async with room.fetching():
        assert room.status()["last_at"] == "2026-01-01T00:00:00Z"
        assert room.state() == ("waiting", "link dsl is down: it is down; before: 1 message taken (1 B)")


async def test_the_postmaster_hears_of_a_refused_login_once_over_restarts() -> None:
    room = Room(account("isp"))
    room.server.failure = REFUSED
    for _ in range(3):
        async with room.fetching():
            assert room.state()[0] == "failed"
    assert len(room.reports()) == 1


async def test_an_account_that_stays_as_it_is_goes_on_over_a_reload() -> None:
    room = Room(account("isp"), account("old"))
    room.servers["isp"].gate = room.servers["old"].gate = anyio.Event()
    async with room.fetching():
        await room.change(account("isp"), account("new"))
        assert times(room.servers["new"]) == 1
        assert [one["name"] for one in room.fetcher.documents()] == ["isp", "new"]
        await room.advance(5 * SECOND, SECOND)
        assert (room.servers["isp"].cancelled, room.servers["old"].cancelled) == (0, 1)
        assert [retriever.is_closed for retriever in room.retrievers] == [False, True, False]


async def test_an_account_that_changed_is_fetched_as_it_is_now() -> None:
    async with Room(account("isp")).fetching() as room:
        await room.change(account("isp", 'username = "joe"').replace('username = "ann"\n', ""))
        assert [one.credentials.username for one in room.server.accounts] == ["ann", "joe"]
        assert room.passwords_read == 2


async def test_a_fetch_that_has_to_end_takes_no_more_and_says_goodbye() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    room.server.mail = {"m1": 1, "m2": 1}
    async with room.fetching():
        await room.change()
        assert room.server.cancelled == 0
        room.server.gate.set()
        await room.settle()
        assert (room.server.cancelled, room.taken) == (0, [])
        assert [retriever.is_closed for retriever in room.retrievers] == [True]


async def test_the_successor_of_an_account_waits_until_that_has_left_the_server() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    room.server.mail = {"m1": 1}
    async with room.fetching():
        for name in ("joe", "jim"):
            await room.change(account("isp", f'username = "{name}"').replace('username = "ann"\n', ""))
        assert (times(room.server), room.taken) == (1, [])
        room.server.gate.set()
        await room.settle()
        assert [one.credentials.username for one in room.server.accounts] == ["ann", "jim"]
        assert room.taken == [("isp", "m1")]


async def test_all_fetches_end_soon_when_the_program_does() -> None:
    room = Room(account("quick"), account("stuck"), account("idle", 'interval = "idle"', protocol="imap"))
    for name in ("quick", "stuck"):
        room.servers[name].gate = anyio.Event()
    async with room.fetching(), anyio.create_task_group() as tasks:
        tasks.start_soon(room.fetcher.close)
        await room.settle()
        room.servers["quick"].gate.set()  # type: ignore[union-attr]
        await room.settle()
        assert sorted(retriever.is_closed for retriever in room.retrievers) == [False, True, True]
        await room.advance(4 * SECOND, SECOND)
        assert room.servers["stuck"].cancelled == 0
        await room.advance(SECOND, SECOND)
        assert room.servers["stuck"].cancelled == 1
        assert all(retriever.is_closed for retriever in room.retrievers)
        assert [state for state, _ in (await room.ended("quick")).values()] == ["failed"], "too late for that"


async def test_who_waits_for_an_account_that_goes_away_hears_of_it() -> None:
    room = Room(account("isp"))
    room.server.gate = anyio.Event()
    async with room.fetching():
        found: list[object] = []

        async def ask() -> None:
            found.append(await room.ended())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await room.settle()
            await room.change()
            assert found == []
            await room.advance(5 * SECOND, SECOND)
        reason = "it was broken off: the program ends, or the account has changed"
        assert found == [{"isp": ("failed", reason)}]


async def test_what_must_be_known_first_is_asked_for_before_the_first_fetch() -> None:
    async with Room(account("isp")).fetching() as room:
        await room.ended()
        assert room.prepared == ["isp"]


async def test_nothing_is_fetched_before_that_is_known() -> None:
    room = Room(account("isp"))
    room.unprepared = FetchFailure("the list cannot be read", Culprit.LOCAL)
    async with room.fetching():
        assert room.state() == ("failed", "the list cannot be read")
        await room.advance(HOUR)
        assert times(room.server) == 0
        room.unprepared = None
        assert await room.ended() == {"isp": ("done", "nothing new")}


async def test_nothing_is_fetched_into_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(account("isp"))
    room.server.mail["m1"] = 1
    monkeypatch.setattr(room.spool, "has_room", lambda size_bytes: False)
    async with room.fetching():
        assert room.state() == ("failed", "there is no room for more mail: the disk of the queue is nearly full")
        assert times(room.server) == 0
        monkeypatch.undo()
        await room.advance(MINUTE)
        assert room.taken == [("isp", "m1")]
