"""Fetching over POP3 from a server on loopback that is good, odd or broken: nothing is lost, nothing comes twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from masqmail.mail.outcome import Culprit
from masqmail.net import session
from masqmail.net.session import TlsMode
from masqmail.proto.sasl import Credentials, Secret
from masqmail.retrieval import pop3transfer
from masqmail.retrieval.account import Account, FetchFailure, Found, Order
from masqmail.retrieval.pop3 import MAX_CUTS, Pop3Retriever
from masqmail.retrieval.pop3session import Session
from masqmail.retrieval.pop3survey import EXCESS_BYTES
from masqmail.retrieval.pop3transfer import MAX_COMMITS
from masqmail.settings import HostPort
from masqmail.spool.api import FetchFate, SpoolError, SpoolFull, Uid
from support.fakeinbox import FakeInbox, refused
from support.popmailbox import ALL_CAPABILITIES, Mail, PopMailbox, mail
from support.scripted_server import listening

pytestmark = pytest.mark.anyio

ACCOUNT = Account(
    name="isp",
    server=HostPort("nowhere.invalid", 110),
    credentials=Credentials("ann", Secret("sesame")),
    tls=TlsMode.NONE,
    clear_password=True,
    mechanisms=("USER",),
)
KEEP = replace(ACCOUNT, keep=True)
LOCK_STEP = tuple(word for word in ALL_CAPABILITIES if word != "PIPELINING")
EVERYTHING = Order()


class House:
    """A server with its mailbox, and our side of it."""

    def __init__(self, box: PopMailbox, address: HostPort) -> None:
        self.box = box
        self.inbox = FakeInbox()
        self.retriever = Pop3Retriever()
        self._address = address

    async def fetch(self, account: Account = ACCOUNT, *uids: str) -> None:
        with anyio.fail_after(20):
            await self.retriever.fetch(replace(account, server=self._address), self.inbox, Order(uids))

    async def failure(self, account: Account = ACCOUNT, *uids: str) -> FetchFailure:
        with pytest.raises(FetchFailure) as caught:
            await self.fetch(account, *uids)
        assert str(caught.value).count("sesame") == 0
        return caught.value

    def retrieved(self, session: int = -1) -> list[int]:
        return [int(line[5:]) for line in self.box.commands(session) if line.startswith("RETR")]


@asynccontextmanager
async def house(box: PopMailbox) -> AsyncIterator[House]:
    async with listening(box.serve) as listener:
        yield House(box, listener.address)


def mails(count: int) -> list[Mail]:
    return [mail(f"u{number}", f"text {number}") for number in range(1, count + 1)]


def box_of(*names: str, **oddities: object) -> PopMailbox:
    return PopMailbox([mail(name) for name in names], **oddities)  # type: ignore[arg-type]


# --- the usual


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LOCK_STEP])
async def test_everything_is_taken_deleted_and_forgotten(capabilities: tuple[str, ...]) -> None:
    sent = mails(150)
    async with house(PopMailbox(list(sent), capabilities)) as home:
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert [home.inbox.content(mail.uid) for mail in sent] == [mail.content for mail in sent]
        tally = home.inbox.tally
        assert (tally.expected, tally.taken, tally.deleted) == (150, 150, 150)
        assert tally.taken_bytes == sum(len(mail.content) for mail in sent)
        assert home.box.mails == [] and home.box.sessions[-1].has_quit
        assert home.inbox.open_parcels == 0
        is_pipelined = home.box.sessions[-1].most_at_once > 1
        assert is_pipelined is (capabilities is ALL_CAPABILITIES)
        await home.fetch()
        assert home.inbox.known == {}, "the server has them no more"


async def test_an_empty_mailbox_is_left_at_once() -> None:
    async with house(PopMailbox([], LOCK_STEP)) as home:
        await home.fetch()
        assert home.box.commands() == ["STAT", "QUIT"]


async def test_the_smallest_comes_first() -> None:
    box = PopMailbox([mail("big", size=5000), mail("small"), mail("middle", size=500)])
    async with house(box) as home:
        await home.fetch()
        assert home.retrieved() == [2, 3, 1]


async def test_what_was_taken_is_deleted_only_then() -> None:
    async with house(box_of("a", "b", "c")) as home:
        gate, waiting = anyio.Event(), []

        async def hold(found: Found) -> None:
            waiting.append(found.uid.uid)
            await gate.wait()

        home.inbox.before_finish = hold
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(home.fetch)
            with anyio.fail_after(10):
                while len(waiting) < 3:  # reading goes on while the first is being stored
                    await anyio.sleep(0.001)
            assert home.retrieved() == [1, 2, 3]
            assert not any(line.startswith("DELE") for line in home.box.commands())
            gate.set()
        assert home.box.mails == []


async def test_only_so_many_messages_are_being_stored_at_a_time() -> None:
    box = PopMailbox(mails(3 * MAX_COMMITS))
    async with house(box) as home:
        gate, storing = anyio.Event(), 0

        async def hold(found: Found) -> None:
            nonlocal storing
            storing += 1
            if storing == MAX_COMMITS:
                await anyio.wait_all_tasks_blocked()
                assert storing == MAX_COMMITS
                gate.set()
            await gate.wait()

        home.inbox.before_finish = hold
        await home.fetch()
        assert len(home.inbox.taken) == 3 * MAX_COMMITS


async def test_kept_mail_is_taken_once() -> None:
    async with house(box_of("a", "b")) as home:
        await home.fetch(KEEP)
        home.box.mails.append(mail("c"))
        await home.fetch(KEEP)
        assert [uid.uid for uid, _ in home.inbox.taken] == ["a", "b", "c"]
        assert home.box.uids == ["a", "b", "c"]
        assert home.retrieved() == [3]


async def test_mail_that_somebody_else_deleted_is_forgotten() -> None:
    async with house(box_of("a", "b")) as home:
        await home.fetch(KEEP)
        del home.box.mails[0]
        home.inbox.remember("mailbox of another protocol", folder="INBOX")
        await home.fetch(KEEP)
        assert home.inbox.forgotten == [Uid("", "a")]


async def test_mail_is_deleted_when_it_was_kept_long_enough() -> None:
    week = replace(ACCOUNT, keep=timedelta(days=7))
    async with house(box_of("old", "young")) as home:
        home.inbox.remember("old", at=home.inbox.time - timedelta(days=7))
        home.inbox.remember("young", at=home.inbox.time - timedelta(days=6, hours=23))
        home.box.mails.append(mail("new"))
        await home.fetch(week)
        assert home.box.uids == ["young", "new"]
        assert home.retrieved() == [3]
        await home.fetch(week)
        assert set(home.inbox.fates()) == {"young", "new"}


async def test_what_a_killed_run_has_left_behind_is_deleted_without_coming_again() -> None:
    async with house(box_of("a", "b")) as home:
        home.inbox.remember("a")
        await home.fetch()
        assert home.retrieved() == [2]
        assert home.box.mails == []


async def test_a_server_that_deletes_nothing_gives_nothing_twice_and_the_reason_says_so() -> None:
    async with house(box_of("a", "b")) as home:
        await home.fetch()
        for more in ([], [mail("c")]):
            home.box.mails = [mail("a"), mail("b"), *more]
            assert "still has 2 messages that it said it had deleted" in str(await home.failure())
        assert [uid.uid for uid, _ in home.inbox.taken] == ["a", "b", "c"]
        assert home.box.uids == ["a", "b"]


@pytest.mark.parametrize("text", ["x", "another text"])
async def test_a_new_message_under_the_name_of_an_old_one_is_not_deleted_unseen(text: str) -> None:
    async with house(PopMailbox([mail("1", "x")])) as home:
        await home.fetch()
        home.box.mails = [mail("1", text)]
        for _ in range(2):
            if text == "x":  # nobody can tell them apart
                await home.failure()
                assert home.box.uids == ["1"]
            else:
                await home.fetch()
        assert len(home.inbox.taken) == 1 + (text != "x")


async def test_as_many_as_wanted_are_taken_at_a_time() -> None:
    async with house(box_of("a", "b", "c")) as home:
        for expected in (["c"], []):
            await home.fetch(replace(ACCOUNT, max_messages=2))
            assert home.box.uids == expected


# --- bigger than wanted

BIG = replace(ACCOUNT, max_size=1000)


async def test_a_big_message_stays_and_is_told_of_once() -> None:
    async with house(PopMailbox([mail("big", size=2000), mail("small")])) as home:
        for _ in range(2):
            await home.fetch(BIG)
            assert home.inbox.tally.left == 1
        assert home.box.uids == ["big"]
        ((uid, size, header),) = home.inbox.notices
        assert (uid.uid, header) == ("big", b"Subject: big\r\n\r\n")
        assert size >= 2000
        assert [uid.uid for uid, _ in home.inbox.taken] == ["small"]


async def test_a_big_message_comes_when_somebody_asks_for_it_alone() -> None:
    async with house(PopMailbox([mail("big", size=2000)])) as home:
        await home.fetch(BIG)
        home.box.mails.append(mail("other"))
        await home.fetch(BIG, "big")
        assert [uid.uid for uid, _ in home.inbox.taken] == ["big"]
        assert home.box.uids == ["other"]


async def test_a_message_that_is_asked_for_and_was_taken_does_not_come_again() -> None:
    async with house(box_of("a")) as home:
        await home.fetch(KEEP)
        await home.fetch(KEEP, "a")
        assert len(home.inbox.taken) == 1


async def test_who_asks_for_a_message_that_is_not_there_is_told() -> None:
    async with house(box_of("a")) as home:
        assert "has no message b" in str(await home.failure(ACCOUNT, "b"))
        assert home.box.uids == ["a"] and home.box.sessions[-1].has_quit


async def test_a_big_message_comes_when_the_bound_is_raised() -> None:
    async with house(PopMailbox([mail("big", size=2000)])) as home:
        await home.fetch(BIG)
        await home.fetch(replace(ACCOUNT, max_size=10_000))
        assert home.box.mails == []


def liar(name: str, size: int = 300_000) -> Mail:
    """A message that is far longer than LIST says."""
    return replace(mail(name, size=size), listed_size=100)


SMALL = replace(ACCOUNT, max_size=100_000)
MOST_BYTES = 112_500 + EXCESS_BYTES


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LOCK_STEP])
async def test_a_message_far_longer_than_listed_is_cut_off_and_told_of_once(capabilities: tuple[str, ...]) -> None:
    others = mails(4)
    async with house(PopMailbox([*others[:2], liar("liar"), *others[2:]], capabilities)) as home:
        await home.fetch(SMALL)
        assert sorted(home.inbox.contents) == sorted(other.content for other in others)
        (uid, size, header), *more = home.inbox.notices
        assert (uid.uid, header, more) == ("liar", b"Subject: liar\r\n\r\n", [])
        assert MOST_BYTES < size < 300_000
        assert home.box.uids == ["liar"] and home.box.sessions[-1].has_quit
        assert (home.inbox.tally.expected, home.inbox.tally.taken, home.inbox.tally.left) == (4, 4, 1)
        assert home.inbox.open_parcels == 0
        for account in (SMALL, replace(SMALL, max_size=200_000)):
            await home.fetch(account)
            assert home.retrieved() == [], "a message that lied once is not tried again by itself"
        assert len(home.inbox.notices) == 1
        await home.fetch(SMALL, "liar")
        assert home.box.uids == []


async def test_a_message_somewhat_longer_than_listed_is_taken() -> None:
    async with house(PopMailbox([mail("a"), liar("liar", size=MOST_BYTES - 100)])) as home:
        await home.fetch(SMALL)
        assert home.box.mails == []
        assert home.inbox.notices == []


async def test_without_a_bound_a_message_may_be_as_long_as_it_is() -> None:
    async with house(PopMailbox([liar("liar")])) as home:
        await home.fetch()
        assert home.box.mails == []


@pytest.mark.parametrize(("capabilities", "told"), [(ALL_CAPABILITIES, 2), (LOCK_STEP, 5)])
async def test_a_server_that_lies_of_every_size_is_left_after_some(capabilities: tuple[str, ...], told: int) -> None:
    """With pipelining each has to come twice, to be sure."""
    async with house(PopMailbox([mail("a"), *(liar(f"liar{number}") for number in range(7))], capabilities)) as home:
        failure = await home.failure(SMALL)
        assert failure.reason.endswith(f" with 100 bytes, and sends more than {MOST_BYTES}")
        assert failure.culprit is Culprit.SESSION
        assert len(home.box.sessions) == MAX_CUTS
        assert len(home.inbox.notices) == told
        for _ in range(2):
            with suppress(FetchFailure):
                await home.fetch(SMALL)
        await home.fetch(SMALL)
        assert len(home.inbox.notices) == len(home.box.mails) == 7
        assert [uid.uid for uid, _ in home.inbox.taken] == ["a"]
        assert home.inbox.open_parcels == 0


async def test_messages_that_run_together_when_pipelined_are_not_taken_for_a_long_one() -> None:
    sent = [mail(f"u{number}", size=1900) for number in range(100)]
    box = PopMailbox(list(sent))

    def without_ends(line: str, reply: bytes) -> bytes:
        is_followed = box.sessions[-1]._inbox.startswith(b"RETR")
        return reply.removesuffix(b".\r\n") if line.startswith("RETR") and is_followed else reply

    box.rewrite = without_ends
    async with house(box) as home:
        await home.fetch(replace(ACCOUNT, max_size=2000))
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert home.inbox.notices == []
        assert home.box.mails == []
        assert home.retriever._habits.garbles and len(home.box.sessions) == 2


async def test_a_queue_that_fails_while_a_message_is_cut_off_is_the_reason() -> None:
    async with house(PopMailbox([liar("liar")])) as home:

        async def fail(found: Found, header: bytes) -> None:
            raise SpoolFull("no room")

        home.inbox.leave = fail  # type: ignore[method-assign]
        failure = await home.failure(SMALL)
        assert (failure.culprit, failure.reason) == (Culprit.LOCAL, "the queue failed: no room")
        assert home.inbox.open_parcels == 0


async def test_without_top_a_big_message_is_told_of_with_nothing_but_its_size() -> None:
    box = PopMailbox([mail("big", size=2000)], ("UIDL", "USER"), missing=frozenset({"TOP"}))
    async with house(box) as home:
        await home.fetch(BIG)
        assert [header for _, _, header in home.inbox.notices] == [b""]


# --- our own side fails


async def test_a_message_that_is_refused_stays_and_the_others_come() -> None:
    async with house(box_of("a", "bad", "c")) as home:
        home.inbox.verdict = lambda found: refused() if found.uid.uid == "bad" else None
        for _ in range(2):
            await home.fetch()
            assert home.inbox.tally.refused == 1
        assert home.box.uids == ["bad"]
        assert home.inbox.refusals == [(Uid("", "bad"), "550 5.1.1 No such user")]
        assert home.inbox.fates() == {"bad": FetchFate.REFUSED}


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LOCK_STEP])
@pytest.mark.parametrize("error", [SpoolFull("no space left"), SpoolError("broken")])
async def test_a_queue_that_is_full_ends_the_session_cleanly(
    capabilities: tuple[str, ...], error: SpoolError
) -> None:
    async with house(PopMailbox(mails(40), capabilities)) as home:
        home.inbox.verdict = lambda found: error if len(home.inbox.taken) >= 5 else None
        failure = await home.failure()
        assert failure.culprit is Culprit.LOCAL
        assert str(error) in str(failure)
        taken = {uid.uid for uid, _ in home.inbox.taken}
        assert len(taken) == 5
        assert home.box.sessions[-1].has_quit
        assert set(home.box.uids) == {f"u{number}" for number in range(1, 41)} - taken
        home.inbox.verdict = lambda found: None
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in mails(40))


async def test_a_bug_of_ours_ends_the_session_cleanly_and_is_seen() -> None:
    async with house(box_of("a", "b")) as home:
        home.inbox.verdict = lambda found: ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            await home.fetch()
        assert home.box.uids == ["a", "b"] and home.box.sessions[-1].has_quit
        assert home.inbox.open_parcels == 0


async def test_a_queue_that_fails_while_a_big_message_is_told_of_ends_the_session_cleanly() -> None:
    async with house(PopMailbox([mail("big", size=2000), mail("huge", size=3000)])) as home:

        async def leave(found: Found, header: bytes) -> None:
            raise SpoolFull("no space left")

        home.inbox.leave = leave  # type: ignore[method-assign]
        assert (await home.failure(BIG)).culprit is Culprit.LOCAL
        assert home.box.sessions[-1].has_quit


async def test_what_is_under_way_is_not_waited_for_in_vain_when_the_queue_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pop3transfer, "DRAIN_SECONDS", 0.1)

    def stall(line: str, reply: bytes) -> bytes:
        return reply[:40] if line == "RETR 3" else reply

    async with house(box_of("a", "b", "c", rewrite=stall)) as home:
        home.inbox.verdict = lambda found: SpoolFull("no space left")
        failure = await home.failure()
        assert "no space left" in str(failure)
        assert home.inbox.open_parcels == 0


async def test_a_fetch_that_is_cancelled_leaves_nothing_open() -> None:
    async with house(box_of("a", "b", "c")) as home:
        begun = anyio.Event()

        async def hang(found: Found) -> None:
            begun.set()
            await anyio.sleep_forever()

        home.inbox.before_finish = hang
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(home.fetch)
            with anyio.fail_after(10):
                await begun.wait()
            tasks.cancel_scope.cancel()
        assert home.inbox.open_parcels == 0
        home.inbox.before_finish = None
        await home.fetch()
        assert len(home.inbox.taken) == 3


# --- broken servers


COMMANDS = ["CAPA", "USER", "PASS", "STAT", "LIST", "UIDL", "TOP 3 0", "RETR 2", "DELE 1", "QUIT"]


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LOCK_STEP])
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_server_that_refuses_anything_once_loses_nothing(command: str, capabilities: tuple[str, ...]) -> None:
    sent = [mail("a"), mail("b", "longer"), mail("big", size=2000)]
    async with house(PopMailbox(list(sent), capabilities, refuse={command: 1})) as home:
        with pytest.raises(FetchFailure) if command != "CAPA" else anyio.CancelScope():
            await home.fetch(BIG)
        if command not in ("USER", "PASS"):
            assert home.box.sessions[-1].commands[-1] == "QUIT"
        await home.fetch(BIG)
        await home.fetch()
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert [uid.uid for uid, _, _ in home.inbox.notices] == ["big"]
        assert home.box.mails == []
        assert home.inbox.known == {}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("STAT", "refused STAT: not this time"),
        ("LIST", "refused LIST: not this time"),
        ("UIDL", "refused UIDL: not this time"),
        ("RETR 2", "refused RETR 2: not this time"),
        ("DELE 1", "refused DELE 1: not this time"),
        ("TOP 3 0", "refused TOP 3 0: not this time"),
        ("QUIT", "did not confirm that it deleted 2 messages; they are not taken again"),
    ],
)
async def test_a_refusal_is_told_as_it_was(command: str, reason: str) -> None:
    box = PopMailbox([mail("a"), mail("b", "longer"), mail("big", size=2000)], refuse={command: 1})
    async with house(box) as home:
        assert str(await home.failure(BIG)) == f"{home._address} {reason}"


async def test_only_some_troubles_are_told_of_many() -> None:
    async with house(PopMailbox(mails(6), refuse={"RETR": 6})) as home:
        assert str(await home.failure()).endswith("refused RETR 3: not this time; and 3 more")


@pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, LOCK_STEP])
@pytest.mark.parametrize("step", [7, 50, 333])
async def test_a_connection_that_breaks_at_any_byte_of_mail_loses_nothing(
    step: int, capabilities: tuple[str, ...]
) -> None:
    sent = [mail("a"), mail("dots", ".\r\n..\r\n.x"), mail("c", size=300)]
    whole = sum(len(mail.content) for mail in sent) + 80
    failures: set[tuple[str, Culprit]] = set()
    async with house(PopMailbox(list(sent), capabilities)) as home:
        for home.box.drop_at in range(0, whole, step):
            try:
                await home.fetch()
            except FetchFailure as failure:
                failures.add((str(failure).rpartition(": ")[2], failure.culprit))
        assert failures <= {("closed the connection", Culprit.CONNECTION)}
        home.box.drop_at = None
        await home.fetch()
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert home.inbox.open_parcels == 0
        assert home.inbox.known == {}


async def test_a_server_whose_connections_break_is_asked_one_thing_at_a_time_until_that_goes_well() -> None:
    async with house(PopMailbox(mails(5), drop_at=100)) as home:
        for expected in (True, True, False):
            await home.failure(KEEP)
            assert (home.box.sessions[-1].most_at_once > 1) is expected
            home.box.mails = mails(5)
            home.inbox.known.clear()
        home.box.drop_at = None
        await home.fetch(KEEP)
        home.box.mails += [mail(f"more{number}") for number in range(5)]
        await home.fetch(KEEP)
        assert home.box.sessions[-1].most_at_once > 1


async def test_wrong_sizes_do_not_matter() -> None:
    sent = [Mail(mail.uid, mail.content, listed_size=17) for mail in mails(30)]
    async with house(PopMailbox(list(sent))) as home:
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert sorted(home.retrieved()) == list(range(1, 31))


@pytest.mark.parametrize("less_per_line", [0, 1])
async def test_sizes_that_count_line_ends_in_their_own_way_are_no_lies(less_per_line: int) -> None:
    sent = mails(30)
    for one in sent:
        one.listed_size = len(one.content) - less_per_line * one.content.count(b"\n")
    async with house(PopMailbox(list(sent))) as home:
        await home.fetch()
        assert home.retriever._habits.sizes_are_true
        assert len(home.retrieved()) == 30


async def test_a_message_of_another_size_than_listed_comes_a_second_time_alone_and_is_taken_once() -> None:
    sent = mails(30)
    sent[20].listed_size = 3000
    async with house(PopMailbox(list(sent))) as home:
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert home.retrieved().count(21) == 2
        assert not home.retriever._habits.sizes_are_true
        assert home.retriever._habits.may_pipeline


@pytest.mark.parametrize("are_sizes_true", [True, False])
async def test_a_server_that_garbles_pipelined_answers_is_found_out_and_asked_one_thing_at_a_time(
    are_sizes_true: bool,
) -> None:
    sent = mails(20)
    if not are_sizes_true:
        sent = [Mail(one.uid, one.content, listed_size=17) for one in sent]
    async with house(PopMailbox(list(sent), garbled=True)) as home:
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert home.box.mails == []
        assert len(home.box.sessions) == 2
        home.box.mails = [mail(f"new{number}") for number in range(3)]
        await home.fetch()
        assert (len(home.box.sessions), home.box.sessions[-1].most_at_once) == (3, 1)


async def test_a_server_that_mixes_up_contents_unseen_is_found_out_by_sizes() -> None:
    def swap(line: str, reply: bytes) -> bytes:
        is_pipelined = home.box.sessions[-1].most_at_once > 3
        return reply.replace(b"text", b"longer text") if is_pipelined and line == "RETR 9" else reply

    sent = mails(12)
    async with house(PopMailbox(list(sent), rewrite=swap)) as home:
        real, home.box.rewrite = home.box.rewrite, None
        seen: list[str] = []

        def once(line: str, reply: bytes) -> bytes:
            seen.append(line)
            assert real is not None
            return real(line, reply) if seen.count(line) == 1 else reply

        home.box.rewrite = once
        await home.fetch()
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert home.retriever._habits.garbles


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("LIST", b"+OK\r\n1 5\r\n1 5\r\n.\r\n", "LIST has message 1 twice"),
        ("LIST", b"+OK\r\n1 5\r\nwhat\r\n.\r\n", "a line of LIST without a size: 'what'"),
        ("UIDL", b"+OK\r\n1 a\r\n1 b\r\n.\r\n", "UIDL has message 1 twice"),
        ("UIDL", b"+OK\r\n1 a\r\n9 b\r\n.\r\n", "UIDL has message 9, which LIST has not"),
        ("STAT", b"+OK lots\r\n", "an answer to STAT without a number: lots"),
        ("RETR 1", b"Subject: a\r\n\r\n.\r\n", "not a POP3 reply: 'Subject: a'"),
        ("DELE 1", b"200 OK\r\n", "not a POP3 reply: '200 OK'"),
    ],
)
async def test_garbage_breaks_the_session_off_with_a_reason(command: str, answer: bytes, reason: str) -> None:
    def garble(line: str, reply: bytes) -> bytes:
        return answer if line == command else reply

    async with house(box_of("a", "b", rewrite=garble)) as home:
        failure = await home.failure()
        assert str(failure) == f"{home._address} broke the protocol: {reason}"
        home.box.rewrite = None
        await home.fetch()
        assert len(home.inbox.taken) == 2
        assert home.box.mails == []


async def test_a_listing_that_is_cut_short_forgets_nothing() -> None:
    async with house(box_of("a", "b", "c", "d")) as home:
        home.inbox.remember("c")
        home.inbox.remember("gone")
        home.box.list_at_most = 2
        home.box.rewrite = lambda line, reply: reply.replace(b"3 c\r\n4 d\r\n", b"") if line == "UIDL" else reply
        assert str(await home.failure(KEEP)).endswith("says that it has 4 messages and lists 2")
        assert home.inbox.forgotten == []
        assert len(home.inbox.taken) == 2
        home.box.list_at_most = home.box.rewrite = None
        await home.fetch(KEEP)
        assert [uid.uid for uid in home.inbox.forgotten] == ["gone"]
        assert [uid.uid for uid, _ in home.inbox.taken] == ["a", "b", "d"]


async def test_a_quit_without_an_answer_forgets_nothing() -> None:
    async with house(box_of("a")) as home:
        home.box.rewrite = lambda line, reply: b"" if line == "QUIT" else reply
        assert "did not confirm" in str(await home.failure())
        assert home.inbox.forgotten == []


@pytest.mark.parametrize("command", ["CAPA", "PASS", "STAT", "RETR 2", "DELE 1"])
async def test_a_server_that_falls_silent_is_given_up_in_time(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited, limit = "login" if command == "PASS" else command, Session._limit.fget

    def generous(visit: Session) -> float:
        """Much time for everything else: a busy machine may need it."""
        assert limit is not None
        return limit(visit) * (1 if visit.client.doing == awaited else 1000)

    monkeypatch.setattr(Session, "_limit", property(generous))
    monkeypatch.setattr(session, "CONNECT_TIME", timedelta(days=1))
    box = box_of("a", "b", rewrite=lambda line, reply: b"" if line.startswith(command) else reply)
    async with house(box) as home:
        failure = await home.failure(replace(ACCOUNT, time_scale=0.0005))
        assert "no answer within" in str(failure)
        assert str(failure).endswith(f"({awaited})")


# --- servers without names


async def test_a_server_without_uidl_is_known_by_headers_and_sizes() -> None:
    box = box_of("a", "b", capabilities=("TOP", "USER", "PIPELINING"), missing=frozenset({"UIDL"}))
    async with house(box) as home:
        await home.fetch(KEEP)
        home.box.mails.insert(0, mail("c"))
        await home.fetch(KEEP)
        assert len(home.inbox.taken) == 3
        assert home.retrieved() == [1]
        assert all(uid.uid.startswith("sha256:") for uid in home.inbox.known)
        del home.box.mails[0]
        await home.fetch(KEEP)
        assert len(home.inbox.forgotten) == 1
        await home.fetch()
        assert home.box.mails == [] and len(home.inbox.taken) == 3
        assert home.inbox.known == {}


async def test_without_uidl_two_that_look_alike_are_both_taken_and_neither_deleted_unseen() -> None:
    same = [Mail("x", b"Subject: x\r\n\r\nfirst\r\n"), Mail("y", b"Subject: x\r\n\r\nother\r\n")]
    box = PopMailbox(list(same), ("TOP", "USER"), missing=frozenset({"UIDL"}), refuse={"RETR 2": 1})
    async with house(box) as home:
        await home.failure(KEEP)
        assert home.inbox.contents == [same[0].content]
        home.box.mails.reverse()  # now the other one is in the place of what was taken
        await home.fetch()
        assert {same[0].content, same[1].content} == set(home.inbox.contents)
        assert home.box.mails == []


async def test_uidls_that_repeat_are_not_believed() -> None:
    sent = [Mail("same", f"Subject: {name}\r\n\r\n".encode()) for name in ("a", "b")] + [mail("own")]
    async with house(PopMailbox(list(sent))) as home:
        await home.fetch(KEEP)
        await home.fetch(KEEP)
        assert sorted(home.inbox.contents) == sorted(mail.content for mail in sent)
        assert {uid.uid[:7] for uid, _ in home.inbox.taken} == {"sha256:", "own"}
        await home.fetch()
        assert home.box.mails == [] and len(home.inbox.taken) == 3


async def test_a_uidl_that_repeats_that_of_a_message_taken_before_deletes_nothing_that_was_not_taken() -> None:
    async with house(box_of("a")) as home:
        home.inbox.remember("a")
        home.box.mails.append(Mail("a", b"Subject: quite another\r\n\r\n"))
        await home.fetch()
        assert len(home.inbox.taken) == 2
        assert home.box.mails == []


@pytest.mark.parametrize("tail", [" 4711", "\t(session 3)"])
async def test_what_stands_behind_a_uidl_is_passed_over(tail: str) -> None:
    async with house(box_of("a", uidl_tail=tail)) as home:
        await home.fetch(KEEP)
        home.box.uidl_tail += "5"
        await home.fetch(KEEP)
        assert len(home.inbox.taken) == 1


NOTHING = PopMailbox(capabilities=("USER",), missing=frozenset({"UIDL", "TOP"}))


async def test_without_uidl_and_top_mail_is_taken_and_deleted_at_once() -> None:
    async with house(replace(NOTHING, mails=mails(3), sessions=[])) as home:
        await home.fetch()
        assert len(home.inbox.taken) == 3
        assert home.box.mails == [] and home.inbox.known == {}


async def test_without_uidl_and_top_mail_cannot_be_kept_and_the_reason_says_so() -> None:
    async with house(replace(NOTHING, mails=mails(3), sessions=[])) as home:
        assert "neither UIDL nor TOP" in str(await home.failure(KEEP))
        assert home.inbox.taken == []
        assert home.box.sessions[-1].has_quit


async def test_without_uidl_and_top_a_big_message_stays_without_a_word() -> None:
    async with house(replace(NOTHING, mails=[mail("big", size=2000)], sessions=[])) as home:
        await home.fetch(BIG)
        assert (home.inbox.tally.left, home.inbox.notices) == (1, [])


async def test_a_server_without_capa_is_spoken_to_as_in_the_old_days() -> None:
    async with house(box_of("a", "b", missing=frozenset({"CAPA"}))) as home:
        await home.fetch()
        assert len(home.inbox.taken) == 2
        assert home.box.sessions[-1].most_at_once == 1


async def test_uidl_that_fails_once_makes_nothing_come_under_another_name() -> None:
    async with house(box_of("a", capabilities=("USER", "TOP"))) as home:
        await home.fetch(KEEP)
        home.box.refuse["UIDL"] = 1
        assert "refused UIDL" in str(await home.failure(KEEP))
        await home.fetch(KEEP)
        assert len(home.inbox.taken) == 1


# --- odd mail

ODD = [
    b"",
    b"\r\n",
    b".\r\n",
    b"..\r\n.\r\n...\r\n",
    b"x" * 1_000_000 + b"\r\n",
    b"Subject: \xff\xfe\x00\r\n\r\n\x00\x01\r\n",
    b"lone\rcr\nlf\r\n",
    b"\n.\nno end of it\n.\r\r\n",
    b"+OK\r\n-ERR\r\n.+OK\r\n",
]


async def test_odd_mail_comes_byte_by_byte_as_it_was() -> None:
    sent = [Mail(f"odd{index}", content) for index, content in enumerate(ODD)]
    async with house(PopMailbox(list(sent))) as home:
        await home.fetch()
        for one in sent:
            expected = one.content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
            assert home.inbox.content(one.uid) == expected


async def test_replies_may_come_in_any_slices() -> None:
    box = PopMailbox([Mail(f"odd{index}", content) for index, content in enumerate(ODD) if len(content) < 1000])
    async with listening(box.serve, slice_bytes=3) as listener:
        home = House(box, listener.address)
        await home.fetch()
        assert len(home.inbox.taken) == len(ODD) - 1


# --- the rest


async def test_nobody_waits_for_mail_over_pop3() -> None:
    with pytest.raises(FetchFailure, match="interval"):
        await Pop3Retriever().wait_for_mail(ACCOUNT)


async def test_a_refused_login_says_so() -> None:
    async with house(box_of("a")) as home:
        failure = await home.failure(replace(ACCOUNT, credentials=Credentials("ann", Secret("wrong"))))
        assert failure.culprit is Culprit.LOGIN
        assert "[AUTH] Wrong password" in str(failure)
        await home.retriever.aclose()
