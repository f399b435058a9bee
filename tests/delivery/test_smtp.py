"""Delivery over real connections on loopback: every transaction is settled, whatever the server does."""

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
import trustme

from masqmail.delivery import connect, smtp
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.job import Transaction
from masqmail.delivery.smtp import SessionEnd, send
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried
from masqmail.net import session
from masqmail.net.errors import ConnectionLost, NameFailure
from masqmail.net.session import TlsMode
from masqmail.net.stream import Stream
from masqmail.net.tlsengine import TlsEngine
from masqmail.proto.sasl import Credentials, Secret
from masqmail.proto.smtp.clientsession import REPLY_TIMES, Phase
from masqmail.proto.smtp.transfer import Step
from masqmail.settings import HostPort
from masqmail.system import events
from support.listfeed import ListFeed, transaction
from support.scripted_server import (
    ALL_KEYWORDS,
    DROP,
    TAKE_AND_DROP,
    ContentFilter,
    Listener,
    ScriptedServer,
    listening,
)

OPTIONS = Options("laptop.test", tls=TlsMode.NONE, linger=timedelta(0))
LOGIN = Credentials("me@gmx.test", Secret("sesame"))


def refusing(**replies: str) -> ScriptedServer:
    """A server with these replies at these steps, whatever the subject."""
    return ScriptedServer(policy=lambda step, _: replies.get(step.lower()))


class ReserveFeed(ListFeed):
    """That of a connection in reserve."""

    def __init__(self, *transactions: Transaction) -> None:
        super().__init__(*transactions)
        self.asked, self.called = anyio.Event(), anyio.Event()

    async def is_wanted(self) -> bool:
        self.asked.set()
        await self.called.wait()
        return not self.is_dismissed


async def deliver(feed: ListFeed, listener: Listener, options: Options = OPTIONS) -> SessionEnd:
    return await send(listener.address, options, feed, Memory())


# what goes well


@pytest.mark.anyio
@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",), ()], ids=["stream", "group", "lock-step"])
async def test_messages_arrive_byte_by_byte_equal_over_one_connection(
    keywords: tuple[str, ...], tmp_path: Path
) -> None:
    big = tmp_path / "body"
    big.write_bytes(b".a line\r\n..\r\n" * 30_000)
    mails = [transaction(f"m{index}", text=b".\r\nx\r\n" * index) for index in range(100)]
    mails.append(transaction("big", body=big))
    feed = ListFeed(*mails)
    async with listening(lambda: ScriptedServer(keywords=keywords)) as listener:
        end = await deliver(feed, listener)
    (server,) = listener.servers
    assert end == SessionEnd(progress=True)
    assert [taken.content for taken in server.taken] == [b"".join(mail.content.chunks()) for mail in mails]
    assert feed.begun == feed.taken == list(feed.outcomes)
    assert server.commands[-1] == "QUIT"


@pytest.mark.anyio
async def test_the_outcome_says_who_took_it() -> None:
    feed = ListFeed(transaction("one"))
    async with listening(ScriptedServer) as listener:
        await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Delivered)
    assert outcome.remote_host == str(listener.address)
    assert outcome.handover is Handover.PASSED_ON
    assert outcome.reason == f"{listener.address} took it: 250 2.0.0 mine"


@pytest.mark.anyio
async def test_without_dsn_the_handover_is_ours_to_report() -> None:
    feed = ListFeed(transaction("one"))
    async with listening(lambda: ScriptedServer(keywords=())) as listener:
        await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Delivered) and outcome.handover is Handover.RELAYED


@pytest.mark.anyio
async def test_more_work_goes_over_the_same_connection() -> None:
    feed = ListFeed(transaction("one"), more=[transaction("two")])
    async with listening(ScriptedServer) as listener:
        await deliver(feed, listener)
    assert len(listener.servers) == 1
    assert feed.outcomes.keys() == {"one", "two"}


@pytest.mark.anyio
async def test_a_connection_carries_no_more_messages_than_it_may() -> None:
    feed = ListFeed(*(transaction(f"m{index}") for index in range(5)))
    async with listening(ScriptedServer) as listener:
        end = await deliver(feed, listener, replace(OPTIONS, max_messages=3))
    assert feed.taken == ["m0", "m1", "m2"]
    assert end.is_ok


@pytest.mark.anyio
async def test_a_connection_that_is_not_wanted_says_so_before_the_first_message() -> None:
    feed = ListFeed(transaction("one"))
    feed.is_dismissed = True
    async with listening(ScriptedServer) as listener:
        end = await deliver(feed, listener)
    assert end == SessionEnd()
    assert listener.servers[0].commands == ["EHLO laptop.test", "QUIT"]
    assert feed.taken == []


@pytest.mark.anyio
async def test_a_connection_in_reserve_waits_with_its_login_done() -> None:
    feed = ReserveFeed(transaction("one"))
    options = replace(OPTIONS, credentials=LOGIN, clear_password=True)
    async with (
        listening(lambda: ScriptedServer(keywords=("AUTH PLAIN",))) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(deliver, feed, listener, options)
        await feed.asked.wait()
        assert [command.split(" ")[0] for command in listener.servers[0].commands] == ["EHLO", "AUTH"]
        assert feed.taken == []
        feed.called.set()
    assert isinstance(feed.the_outcome(), Delivered)


@pytest.mark.anyio
async def test_a_connection_that_is_not_wanted_says_nothing_where_tls_would_come_first() -> None:
    feed = ListFeed(transaction("one"))
    feed.is_dismissed = True
    async with listening(ScriptedServer) as listener:
        end = await deliver(feed, listener, replace(OPTIONS, tls=TlsMode.IMPLICIT))
    assert end == SessionEnd()
    assert listener.servers[0].commands == []


@pytest.mark.anyio
async def test_a_server_that_talks_byte_by_byte_is_understood() -> None:
    feed = ListFeed(transaction("one"), transaction("two"))
    async with listening(ScriptedServer, slice_bytes=1) as listener:
        assert (await deliver(feed, listener)).is_ok
    assert all(isinstance(outcome, Delivered) for (outcome,) in feed.outcomes.values())


@pytest.mark.anyio
async def test_no_message_is_kept_from_other_connections_before_the_content_of_the_last_one_has_left() -> None:
    """Its DATA may never be answered."""

    class Thoughtful(ScriptedServer):
        def _data(self) -> None:
            if not self.taken:
                super()._data()

    feed = ListFeed(*(transaction(f"m{index}") for index in range(5)))
    options = replace(OPTIONS, connections=4)
    async with (
        listening(lambda: Thoughtful(keywords=("PIPELINING",))) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(deliver, feed, listener, options)
        await feed.settled.wait()
        await anyio.wait_all_tasks_blocked()
        assert feed.taken == ["m0", "m1"]
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_last_byte_waits_until_the_feed_has_noted_it() -> None:
    noted = anyio.Event()

    class SlowFeed(ListFeed):
        async def begin(self, transactions: Sequence[Transaction]) -> None:
            while not listener.servers or "MAIL FROM:<ann@home.test> SIZE=23" not in listener.servers[0].commands:
                await anyio.sleep(0.001)
            assert not listener.servers[0].taken
            noted.set()
            await super().begin(transactions)

    feed = SlowFeed(transaction("one"))
    async with listening(lambda: ScriptedServer(keywords=("PIPELINING", "SIZE 1000"))) as listener:
        await deliver(feed, listener)
    assert noted.is_set(), "MAIL and RCPT left while the note was being written"
    assert isinstance(feed.the_outcome(), Delivered)


@pytest.mark.anyio
async def test_a_stream_begins_with_whole_messages_in_its_first_segment() -> None:
    """Commands that went ahead would be a segment of the few that TCP lets go at first."""

    class SlowFeed(ListFeed):
        async def begin(self, transactions: Sequence[Transaction]) -> None:
            await anyio.sleep(0.01)
            assert not any("MAIL" in command for server in listener.servers for command in server.commands)
            await super().begin(transactions)

    feed = SlowFeed(transaction("one"))
    async with listening(ScriptedServer) as listener:
        await deliver(feed, listener)
    assert isinstance(feed.the_outcome(), Delivered)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "greeting"), [("laptop.isp.test", "EHLO laptop.isp.test"), (None, "EHLO [127.0.0.1]")]
)
async def test_by_address_we_greet_with_its_name_or_else_with_it(
    name: str | None, greeting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def name_of(address: str) -> str:
        assert address == "127.0.0.1"
        if name is None:
            raise NameFailure("it has no name")
        return name

    monkeypatch.setattr(connect, "name_of", name_of)
    async with listening(ScriptedServer) as listener:
        await deliver(ListFeed(transaction("one")), listener, replace(OPTIONS, helo_name=None))
    assert listener.servers[0].commands[0] == greeting


@pytest.mark.anyio
async def test_a_session_that_is_stopped_while_our_name_is_looked_up_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = []

    async def our_name(stream: Stream, options: Options) -> str:
        streams.append(stream)
        scope.cancel()
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(smtp, "our_name", our_name)
    feed = ListFeed(transaction("one"))
    async with listening(ScriptedServer) as listener:
        with anyio.CancelScope() as scope:
            await deliver(feed, listener)
    assert scope.cancelled_caught
    with pytest.raises(ConnectionLost, match="closed on our side"):
        await streams[0].drain(0)
    assert feed.taken == []


# refusals


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("step", "reply", "kind", "culprit"),
    [
        ("mail", "550 5.7.1 no", Failed, Culprit.SENDER),
        ("mail", "450 4.7.1 no", Deferred, Culprit.SENDER),
        ("rcpt", "550 5.1.1 no", Failed, Culprit.RECIPIENT),
        ("rcpt", "450 4.2.1 no", Deferred, Culprit.RECIPIENT),
        ("content", "554 5.6.0 no", Failed, Culprit.MESSAGE),
        ("content", "452 4.3.1 no", Deferred, Culprit.MESSAGE),
    ],
)
async def test_a_refusal_is_an_outcome_and_the_session_goes_well(
    step: str, reply: str, kind: type[Failed] | type[Deferred], culprit: Culprit
) -> None:
    feed = ListFeed(transaction("one"))
    async with listening(lambda: refusing(**{step: reply})) as listener:
        end = await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, kind)
    assert outcome.culprit is culprit
    assert outcome.reason.startswith(f"{listener.address} refused the ") and outcome.reason.endswith(reply)
    assert end == SessionEnd(progress=True)


@pytest.mark.anyio
async def test_a_message_too_big_for_the_server_fails_unsent() -> None:
    feed = ListFeed(transaction("one"))
    async with listening(lambda: ScriptedServer(keywords=("SIZE 10",))) as listener:
        end = await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Failed)
    assert outcome.status.enhanced == "5.3.4" and outcome.culprit is Culprit.MESSAGE
    assert end == SessionEnd(), "nothing was asked, and nothing is wrong with the server"


@pytest.mark.anyio
async def test_a_server_that_wants_a_login_first_gets_no_more_and_costs_nothing() -> None:
    feed = ListFeed(*(transaction(f"m{index}") for index in range(200)))
    async with listening(lambda: refusing(mail="530 5.7.0 Authentication required")) as listener:
        end = await deliver(feed, listener)
    assert end.culprit is Culprit.LOGIN and not end.progress
    assert end.reason.endswith("wants a login first: 530 5.7.0 Authentication required")
    assert 0 < len(feed.taken) < 200
    assert {type(outcome) for (outcome,) in feed.outcomes.values()} == {NotTried}


@pytest.mark.anyio
async def test_each_recipient_has_its_own_outcome() -> None:
    feed = ListFeed(transaction("one", "a@far.test", "b@far.test", "c@far.test"))

    def policy(step: str, subject: str) -> str | None:
        return {"b@far.test": "550 5.1.1 who", "c@far.test": "450 4.2.1 busy"}.get(subject)

    async with listening(lambda: ScriptedServer(policy=policy)) as listener:
        await deliver(feed, listener)
    assert [type(outcome) for outcome in feed.outcomes["one"]] == [Delivered, Failed, Deferred]


# a session that cannot be used


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("server", "culprit", "reason"),
    [
        (ScriptedServer(greeting="554 no service"), Culprit.SESSION, " refused the session: 554 no service"),
        (ScriptedServer(greeting="421 4.3.2 busy"), Culprit.SESSION, " closed the session: 421 4.3.2 busy"),
        (
            ScriptedServer(greeting="HTTP/1.1 302 Found\r\nLocation: https://portal.test/"),
            Culprit.SESSION,
            " answered nonsense: not an SMTP reply: 'HTTP/1.1 302 Found', as a web server writes;"
            " does this network want a login in the browser first?",
        ),
        (ScriptedServer(greeting="\x16\x03\x01"), Culprit.SESSION, " answered nonsense: not an SMTP reply: '???'"),
        (ScriptedServer(greeting=DROP), Culprit.CONNECTION, ": closed the connection"),
        (refusing(ehlo=DROP), Culprit.CONNECTION, ": closed the connection"),
    ],
)
async def test_a_useless_session_takes_no_work_and_says_why(
    server: ScriptedServer, culprit: Culprit, reason: str
) -> None:
    feed = ListFeed(transaction("one"))
    async with listening(lambda: server) as listener:
        end = await deliver(feed, listener)
    assert (end.culprit, end.reason) == (culprit, f"{listener.address}{reason}")
    assert not end.progress
    assert feed.taken == []


@pytest.mark.anyio
async def test_a_port_where_nobody_listens_is_the_connections_fault() -> None:
    async with listening(ScriptedServer) as listener:
        pass
    end = await deliver(ListFeed(), listener)
    assert end.culprit is Culprit.CONNECTION
    assert end.reason == f"cannot connect to {listener.address}: connection refused"


@pytest.mark.anyio
async def test_a_name_that_is_none_is_the_names_fault() -> None:
    end = await send(HostPort("no such host", 25), OPTIONS, ListFeed(), Memory())
    assert end.culprit is Culprit.NAME


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("silent_at", "awaited"),
    [
        ("connect", Phase.GREETING),
        ("ehlo", Phase.EHLO),
        ("mail", Step.CONTENT),  # each reply is taken for the one before it, and the last one is missing
        ("content", Step.CONTENT),
    ],
)
async def test_silence_is_not_waited_out_for_ever(
    silent_at: str, awaited: Phase | Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CONNECT_TIME", timedelta(days=1))
    for other in REPLY_TIMES.keys() - {awaited}:
        monkeypatch.setitem(REPLY_TIMES, other, timedelta(days=1))
    feed = ListFeed(transaction("one"))
    impatient = replace(OPTIONS, time_scale=0.0003)

    class Silent(ScriptedServer):
        def _say(self, reply: str) -> None:
            if not self.commands and silent_at == "connect":
                return
            if self.commands and self.commands[-1].lower().startswith({"content": "bdat"}.get(silent_at, silent_at)):
                return
            super()._say(reply)

    async with listening(Silent) as listener:
        end = await deliver(feed, listener, impatient)
    assert end.culprit is Culprit.CONNECTION
    assert "no answer within 0." in end.reason and end.reason.endswith(f"({awaited.value})")
    if silent_at in ("mail", "content"):
        outcome = feed.the_outcome()
        assert isinstance(outcome, Deferred) and outcome.in_doubt, "with BDAT everything had left"


# connections that end early


@pytest.mark.anyio
@pytest.mark.parametrize("drop", [DROP, TAKE_AND_DROP])
async def test_a_drop_after_the_last_byte_is_in_doubt(drop: str) -> None:
    feed = ListFeed(transaction("one"))
    async with listening(lambda: refusing(content=drop)) as listener:
        end = await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred) and outcome.in_doubt
    assert outcome.reason.startswith("may arrive twice: ")
    assert end.culprit is Culprit.CONNECTION and not end.progress


@pytest.mark.anyio
async def test_a_drop_before_the_last_byte_costs_nothing() -> None:
    feed = ListFeed(transaction("one"))
    async with listening(
        lambda: ScriptedServer(keywords=(), policy=lambda step, _: {"DATA": DROP}.get(step))
    ) as listener:
        end = await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, NotTried) and outcome.culprit is Culprit.CONNECTION
    assert not end.progress


def big_transaction(name: str, folder: Path) -> Transaction:
    """A message that no socket holds as a whole."""
    body = folder / name
    body.write_bytes(b"This offends somebody on the way.\r\n" * 300_000)
    return transaction(name, body=body)


@pytest.mark.anyio
@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ()], ids=["stream", "lock-step"])
async def test_a_message_in_whose_middle_the_server_drops_again_lets_the_others_go_first(
    keywords: tuple[str, ...], tmp_path: Path
) -> None:
    memory = Memory()
    big = big_transaction("big", tmp_path)
    outcomes, ends = [], []
    async with listening(lambda: ContentFilter(keywords=keywords)) as listener:
        for _ in range(3):
            feed = ListFeed(big, transaction("small"))
            ends.append(await send(listener.address, OPTIONS, feed, memory))
            outcomes.append(feed.the_outcome("big"))
            if "small" in feed.outcomes:
                assert isinstance(feed.the_outcome("small"), NotTried)
        feed = ListFeed(transaction("small"))
        assert (await send(listener.address, OPTIONS, feed, memory)).is_ok
    assert [type(outcome) for outcome in outcomes] == [NotTried, Deferred, Deferred]
    assert [end.progress for end in ends] == [False, True, True]
    assert all(end.culprit is Culprit.CONNECTION for end in ends)
    outcome = outcomes[1]
    assert isinstance(outcome, Deferred)
    assert (outcome.culprit, outcome.status.enhanced) == (Culprit.MESSAGE, "4.4.2")
    assert (outcome.remote_host, outcome.said_by_peer) == (str(listener.address), False)
    start = f"the connection to {listener.address} broke again in the middle of this message: "
    assert outcome.reason.startswith(start)
    assert not outcome.in_doubt


@pytest.mark.anyio
@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",), ()], ids=["stream", "group", "lock-step"])
@pytest.mark.parametrize("step", ["RCPT", "DATA"])
async def test_a_message_at_whose_commands_the_server_drops_again_lets_the_others_go_first(
    keywords: tuple[str, ...], step: str
) -> None:
    memory = Memory()
    subject = {"RCPT": "poison@far.test", "DATA": "poison@home.test"}[step]
    keywords = tuple(word for word in keywords if word != "CHUNKING" or step == "RCPT")

    def policy(at: str, about: str) -> str | None:
        return DROP if (at, about) == (step, subject) else None

    poison = transaction("poison", "poison@far.test", sender="poison@home.test")
    outcomes, ends = [], []
    async with listening(lambda: ScriptedServer(keywords=keywords, policy=policy)) as listener:
        for _ in range(2):
            feed = ListFeed(poison, transaction("good"))
            ends.append(await send(listener.address, OPTIONS, feed, memory))
            outcomes.append(feed.the_outcome("poison"))
    second = outcomes[1]
    assert isinstance(second, Deferred) and not second.in_doubt
    assert "broke again in the middle of this message" in second.reason
    assert [end.progress for end in ends] == [False, True]


@pytest.mark.anyio
async def test_a_message_that_got_through_once_in_between_was_not_dropped_in_a_row(tmp_path: Path) -> None:
    memory = Memory()
    big = big_transaction("big", tmp_path)
    servers = iter([ContentFilter(keywords=()), refusing(content="450 4.7.0 later"), ContentFilter(keywords=())])
    outcomes = []
    async with listening(lambda: next(servers)) as listener:
        for _ in range(3):
            feed = ListFeed(big)
            await send(listener.address, OPTIONS, feed, memory)
            outcomes.append(type(feed.the_outcome("big")))
    assert outcomes == [NotTried, Deferred, NotTried]


@pytest.mark.anyio
async def test_a_drop_after_an_answer_is_progress() -> None:
    feed = ListFeed(*(transaction(name, f"{name}@far.test") for name in ("one", "two")))

    def policy(step: str, subject: str) -> str | None:
        return DROP if subject == "two@far.test" else None

    async with listening(lambda: ScriptedServer(keywords=(), policy=policy)) as listener:
        end = await deliver(feed, listener)
    assert isinstance(feed.the_outcome("one"), Delivered)
    assert isinstance(feed.the_outcome("two"), NotTried)
    assert end.culprit is Culprit.CONNECTION and end.progress


@pytest.mark.anyio
async def test_a_421_gives_back_what_was_not_answered() -> None:
    feed = ListFeed(*(transaction(name, sender=f"{name}@home.test") for name in ("one", "two", "three")))

    def policy(step: str, subject: str) -> str | None:
        return "421 4.3.2 enough for now" if (step, subject) == ("MAIL", "two@home.test") else None

    async with listening(lambda: ScriptedServer(policy=policy)) as listener:
        end = await deliver(feed, listener)
    assert isinstance(feed.the_outcome("one"), Delivered)
    for name in ("two", "three"):
        outcome = feed.the_outcome(name)
        assert isinstance(outcome, NotTried) and outcome.culprit is Culprit.SESSION
        assert outcome.reason == f"{listener.address} closed the session: 421 4.3.2 enough for now"
    assert end.progress and end.culprit is Culprit.SESSION


@pytest.mark.anyio
async def test_a_421_in_the_moment_in_which_we_would_say_quit_is_an_end_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1, "masqmail")

    class Feed(ListFeed):
        async def wait(self, timeout_seconds: float) -> bool:
            """Nothing more comes, which is known in the turn of the event loop in which the 421 is heard."""
            listener.writers[0].write(b"421 4.3.2 idle for too long\r\n")
            while not any("421 4.3.2" in str(record.__dict__.get("fields")) for record in caplog.records):
                await anyio.lowlevel.checkpoint()
            return False

    feed = Feed(transaction("one"))
    with anyio.fail_after(5):
        async with listening(ScriptedServer) as listener:
            end = await deliver(feed, listener)
    assert isinstance(feed.the_outcome(), Delivered)
    assert end.progress and end.culprit is Culprit.SESSION


@pytest.mark.anyio
@pytest.mark.parametrize("step", ["rcpt", "content"])
async def test_a_message_that_is_answered_with_421_steps_aside_and_nothing_was_achieved(step: str) -> None:
    """It waits for its next attempt, so that it cannot block the others for ever."""
    feed = ListFeed(transaction("one"), transaction("two"))
    async with listening(lambda: refusing(**{step: "421 4.7.0 try again later"})) as listener:
        end = await deliver(feed, listener)
    outcome = feed.the_outcome("one")
    assert isinstance(outcome, Deferred) and outcome.status.code == 421 and not outcome.in_doubt
    assert isinstance(feed.the_outcome("two"), NotTried)
    assert end.culprit is Culprit.SESSION and not end.progress


@pytest.mark.anyio
async def test_what_the_server_takes_in_one_session_is_respected() -> None:
    feed = ListFeed(*(transaction(f"m{index}") for index in range(3)))
    async with listening(lambda: ScriptedServer(keywords=("PIPELINING", "CHUNKING", "LIMITS MAILMAX=2"))) as listener:
        end = await deliver(feed, listener)
    assert feed.taken == ["m0", "m1"]
    assert end == SessionEnd(progress=True)


@pytest.mark.anyio
async def test_cancelling_gives_everything_back() -> None:
    class Stuck(ListFeed):
        async def begin(self, transactions: Sequence[Transaction]) -> None:
            scope.cancel()

    feed = Stuck(transaction("one"), transaction("two"))
    async with listening(ScriptedServer) as listener:
        with anyio.CancelScope() as scope:
            await deliver(feed, listener)
    assert scope.cancelled_caught
    for name in ("one", "two"):
        outcome = feed.the_outcome(name)
        assert isinstance(outcome, NotTried) and outcome.culprit is Culprit.LINK


# faults of ours


@pytest.mark.anyio
async def test_a_fault_of_the_feed_defers_and_is_raised() -> None:
    class Broken(ListFeed):
        async def begin(self, transactions: Sequence[Transaction]) -> None:
            raise RuntimeError("the spool is gone")

    feed = Broken(transaction("one"))
    async with listening(ScriptedServer) as listener:
        with pytest.raises(RuntimeError, match="the spool is gone"):
            await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred) and outcome.culprit is Culprit.US


@pytest.mark.anyio
@pytest.mark.parametrize("keywords", [ALL_KEYWORDS, ("PIPELINING",)], ids=["stream", "group"])
async def test_half_a_message_is_never_completed(keywords: tuple[str, ...], tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"whole\r\n" * 10)
    feed = ListFeed(transaction("one", body=body), transaction("two"))
    body.write_bytes(b"half\r\n")
    async with listening(lambda: ScriptedServer(keywords=keywords)) as listener:
        end = await deliver(feed, listener)
    assert listener.servers[0].taken == []
    outcome = feed.the_outcome("one")
    assert isinstance(outcome, Deferred) and outcome.culprit is Culprit.LOCAL and not outcome.in_doubt
    assert isinstance(feed.the_outcome("two"), NotTried)
    assert end.culprit is Culprit.LOCAL and end.progress, "no reason to pause the next hop"


@pytest.mark.anyio
async def test_a_message_that_is_gone_is_deferred(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x\r\n")
    feed = ListFeed(transaction("one", body=body))
    body.unlink()
    async with listening(ScriptedServer) as listener:
        await deliver(feed, listener)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred) and outcome.culprit is Culprit.LOCAL


# memory


@pytest.mark.anyio
async def test_a_host_that_loses_step_is_asked_one_thing_at_a_time_from_then_on() -> None:
    memory = Memory()
    async with listening(lambda: refusing(rcpt="500 what?")) as listener:
        feed = ListFeed(transaction("one"))
        end = await send(listener.address, OPTIONS, feed, memory)
        assert end.culprit is Culprit.SESSION and "RCPT was answered with 500" in end.reason
        feed = ListFeed(transaction("one"))
        end = await send(listener.address, OPTIONS, feed, memory)
    assert isinstance(feed.the_outcome(), Failed)
    assert end == SessionEnd(progress=True)
    assert memory.needs_care(str(listener.address))


@pytest.mark.anyio
async def test_a_host_that_hung_up_in_mid_window_is_trusted_again_after_a_good_session() -> None:
    memory = Memory()
    servers = iter([refusing(content=DROP), ScriptedServer(), ScriptedServer()])
    async with listening(lambda: next(servers)) as listener:
        await send(listener.address, OPTIONS, ListFeed(transaction("one")), memory)
        assert memory.needs_care(str(listener.address))
        await send(listener.address, OPTIONS, ListFeed(transaction("one")), memory)
        assert not memory.needs_care(str(listener.address))
        await send(listener.address, OPTIONS, ListFeed(transaction("one")), memory)
    with_bdat = [any(command.startswith("BDAT") for command in server.commands) for server in listener.servers]
    assert with_bdat == [True, False, True]


# TLS and logging in


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def secure(**replies: str) -> ScriptedServer:
    server = refusing(**replies)
    server.keywords = (*ALL_KEYWORDS, "STARTTLS", "AUTH PLAIN LOGIN")
    return server


@pytest.mark.anyio
async def test_starttls_is_verified_and_logged_into(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_ca=ca_file, credentials=LOGIN)
    feed = ListFeed(transaction("one"))
    async with listening(secure, tls=server_tls) as listener:
        end = await deliver(feed, listener, options)
    assert end.is_ok, end.reason
    assert isinstance(feed.the_outcome(), Delivered)
    commands = listener.servers[0].commands
    assert commands[:4] == [
        "EHLO laptop.test",
        "STARTTLS",
        "EHLO laptop.test",
        "AUTH PLAIN AG1lQGdteC50ZXN0AHNlc2FtZQ==",
    ]


@pytest.mark.anyio
async def test_implicit_tls_comes_before_the_greeting(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    options = replace(OPTIONS, tls=TlsMode.IMPLICIT, tls_ca=ca_file, credentials=LOGIN)
    feed = ListFeed(transaction("one"))
    async with listening(secure, tls=server_tls, implicit_tls=True) as listener:
        end = await deliver(feed, listener, options)
    assert end.is_ok, end.reason
    assert "STARTTLS" not in listener.servers[0].commands
    assert isinstance(feed.the_outcome(), Delivered)


@pytest.mark.anyio
async def test_a_tls_session_is_resumed(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    options = replace(OPTIONS, tls=TlsMode.IMPLICIT, tls_ca=ca_file)
    memory = Memory()
    async with listening(secure, tls=server_tls, implicit_tls=True) as listener:
        for _ in range(2):
            await send(listener.address, options, ListFeed(transaction("one")), memory)
    assert listener.resumed == [False, True]


@pytest.fixture
def handed_out(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The TLS sessions that Python was asked for: up to 3.13.0 each costs 5 KB for good."""
    found: list[object] = []
    hand_out = TlsEngine.session.fget
    assert hand_out is not None

    def noted(engine: TlsEngine) -> object:
        found.append(hand_out(engine))
        return found[-1]

    monkeypatch.setattr(TlsEngine, "session", property(noted))
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_python_is_not_asked_for_another_tls_session_while_one_can_be_resumed(
    version: ssl.TLSVersion, server_tls: ssl.SSLContext, ca_file: Path, handed_out: list[object]
) -> None:
    server_tls.maximum_version = version
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_ca=ca_file, credentials=LOGIN)
    memory = Memory()
    async with listening(secure, tls=server_tls) as listener:
        for _ in range(4):
            await send(listener.address, options, ListFeed(transaction("one")), memory)
    assert listener.resumed == [False, True, True, True]
    assert len(handed_out) == 1


@pytest.mark.anyio
async def test_a_tls_session_that_was_refused_makes_room_for_another(
    server_tls: ssl.SSLContext, certificate: trustme.LeafCert, ca_file: Path
) -> None:
    options = replace(OPTIONS, tls=TlsMode.IMPLICIT, tls_ca=ca_file)
    memory = Memory()
    forgetful = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(forgetful)
    async with (
        listening(secure, tls=server_tls, implicit_tls=True) as other,
        listening(secure, tls=forgetful, implicit_tls=True) as listener,
    ):
        await send(other.address, options, ListFeed(transaction("one")), memory)
        context = await memory.context(options)
        memory.sessions.store(str(listener.address), context, memory.sessions.find(str(other.address), context))
        for _ in range(3):
            await send(listener.address, options, ListFeed(transaction("one")), memory)
    assert listener.resumed == [False, True, True]


@pytest.mark.anyio
async def test_no_tls_session_of_the_many_hosts_of_direct_delivery_is_kept(
    server_tls: ssl.SSLContext, handed_out: list[object]
) -> None:
    options = replace(OPTIONS, tls=TlsMode.OPPORTUNISTIC)
    async with listening(secure, tls=server_tls) as listener:
        await deliver(ListFeed(transaction("one")), listener, options)
    assert listener.resumed == [False]
    assert not handed_out


@pytest.mark.anyio
async def test_a_tls_session_is_resumed_by_a_connection_beside_it(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    options = replace(OPTIONS, tls=TlsMode.IMPLICIT, tls_ca=ca_file)
    memory = Memory()

    class Host(ListFeed):
        async def begin(self, transactions: Sequence[Transaction]) -> None:
            await send(listener.address, options, ListFeed(transaction("beside")), memory)
            await super().begin(transactions)

    async with listening(secure, tls=server_tls, implicit_tls=True) as listener:
        await send(listener.address, options, Host(transaction("one")), memory)
    assert listener.resumed == [True, False], "in the order in which they ended"


@pytest.mark.anyio
async def test_replies_that_come_together_with_the_end_of_tls_count(
    server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    options = replace(OPTIONS, tls=TlsMode.IMPLICIT, tls_ca=ca_file)
    feed = ListFeed(transaction("one"), transaction("two"))

    def going_down() -> ScriptedServer:
        server = ScriptedServer()
        server.policy = lambda step, _: "421 4.3.2 Going down" if step == "MAIL" and server.taken else None
        return server

    async with listening(going_down, tls=server_tls, implicit_tls=True) as listener:
        await deliver(feed, listener, options)
    (one,), (two,) = (feed.outcomes[taken] for taken in feed.taken)
    assert isinstance(one, Delivered)
    assert isinstance(two, NotTried)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_connection_in_reserve_starts_tls_when_it_can_resume_a_session(
    mode: TlsMode, server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    options = replace(OPTIONS, tls=mode, tls_ca=ca_file)
    memory, feed = Memory(), ReserveFeed(transaction("two"))
    async with (
        listening(secure, tls=server_tls, implicit_tls=mode is TlsMode.IMPLICIT) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(send, listener.address, options, feed, memory)
        await feed.asked.wait()  # before TLS
        feed.asked = anyio.Event()
        await send(listener.address, options, ListFeed(transaction("one")), memory)
        await feed.asked.wait()  # before the first message
        feed.called.set()
    assert listener.resumed == [False, True]
    assert isinstance(feed.the_outcome("two"), Delivered)


@pytest.mark.anyio
async def test_a_connection_in_reserve_starts_tls_when_it_is_called(
    server_tls: ssl.SSLContext, ca_file: Path
) -> None:
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_ca=ca_file)
    feed = ReserveFeed(transaction("one"))
    async with listening(secure, tls=server_tls) as listener, anyio.create_task_group() as group:
        group.start_soon(deliver, feed, listener, options)
        await feed.asked.wait()
        assert listener.servers[0].commands == ["EHLO laptop.test", "STARTTLS"]
        feed.called.set()
    assert isinstance(feed.the_outcome(), Delivered)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", [TlsMode.STARTTLS, TlsMode.IMPLICIT])
async def test_a_certificate_nobody_vouches_for_is_refused(mode: TlsMode, server_tls: ssl.SSLContext) -> None:
    feed = ListFeed(transaction("one"))
    options = replace(OPTIONS, tls=mode, credentials=LOGIN)
    async with listening(secure, tls=server_tls, implicit_tls=mode is TlsMode.IMPLICIT) as listener:
        end = await deliver(feed, listener, options)
    assert end.culprit is Culprit.TLS and not end.progress
    assert "certificate" in end.reason
    assert feed.taken == []


@pytest.mark.anyio
async def test_a_certificate_of_another_host_is_refused(authority: trustme.CA, ca_file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("other.test", key_type=trustme.KeyType.ECDSA).configure_cert(context)
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_ca=ca_file)
    async with listening(secure, tls=context) as listener:
        end = await deliver(ListFeed(transaction("one")), listener, options)
    assert end.culprit is Culprit.TLS


@pytest.mark.anyio
@pytest.mark.parametrize("is_right", [True, False])
async def test_a_fingerprint_replaces_both_checks(
    is_right: bool, server_tls: ssl.SSLContext, certificate: trustme.LeafCert
) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    fingerprint = hashlib.sha256(der).hexdigest() if is_right else "00" * 32
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_fingerprint=fingerprint)
    feed = ListFeed(transaction("one"))
    async with listening(secure, tls=server_tls) as listener:
        end = await deliver(feed, listener, options)
    assert end.culprit is (None if is_right else Culprit.TLS)
    assert bool(feed.outcomes) is is_right


@pytest.mark.anyio
async def test_a_server_without_starttls_gets_nothing_in_clear() -> None:
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, credentials=LOGIN)
    async with listening(ScriptedServer) as listener:
        end = await deliver(ListFeed(transaction("one")), listener, options)
    assert (end.culprit, end.reason) == (Culprit.TLS, f"{listener.address} does not offer STARTTLS")
    assert listener.servers[0].commands == ["EHLO laptop.test"]


@pytest.mark.anyio
async def test_opportunistic_tls_takes_any_certificate(server_tls: ssl.SSLContext) -> None:
    feed = ListFeed(transaction("one"))
    async with listening(secure, tls=server_tls) as listener:
        end = await deliver(feed, listener, replace(OPTIONS, tls=TlsMode.OPPORTUNISTIC))
    assert end.is_ok
    assert "STARTTLS" in listener.servers[0].commands


@pytest.mark.anyio
async def test_opportunistic_tls_that_breaks_is_done_without() -> None:
    broken = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # it has no certificate to show
    feed = ListFeed(transaction("one"))
    async with listening(secure, tls=broken) as listener:
        end = await deliver(feed, listener, replace(OPTIONS, tls=TlsMode.OPPORTUNISTIC))
    assert end.is_ok
    assert isinstance(feed.the_outcome(), Delivered)
    assert len(listener.servers) == 2


@pytest.mark.anyio
async def test_a_server_that_wants_tls_is_not_asked_again_without() -> None:
    feed = ListFeed(transaction("one"))
    wants_tls = "530 5.7.0 Must issue a STARTTLS command first"
    async with listening(lambda: refusing(mail=wants_tls)) as listener:
        end = await deliver(feed, listener, replace(OPTIONS, tls=TlsMode.OPPORTUNISTIC))
    assert end.culprit is Culprit.TLS
    assert end.reason == f"{listener.address} wants TLS first: {wants_tls}"
    assert isinstance(feed.the_outcome(), NotTried)
    assert len(listener.servers) == 1


@pytest.mark.anyio
async def test_a_refused_login_reads_well(server_tls: ssl.SSLContext, ca_file: Path) -> None:
    options = replace(OPTIONS, tls=TlsMode.STARTTLS, tls_ca=ca_file, credentials=LOGIN)
    feed = ListFeed(transaction("one"))
    async with listening(
        lambda: secure(password="535 5.7.8 Wrong user name or password"), tls=server_tls
    ) as listener:
        end = await deliver(feed, listener, options)
    assert end.culprit is Culprit.LOGIN
    assert end.reason == (
        f"{listener.address} refused the login of me@gmx.test: 535 5.7.8 Wrong user name or password"
    )
    assert feed.taken == []


@pytest.mark.anyio
async def test_a_password_that_the_server_repeats_is_in_no_reason_and_no_trace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(1, "masqmail")
    options = replace(OPTIONS, credentials=LOGIN, clear_password=True)
    async with listening(lambda: secure(password="535 5.7.8 no sesame")) as listener:
        end = await deliver(ListFeed(transaction("one")), listener, options)
    assert end.reason == f"{listener.address} refused the login of me@gmx.test: 535 5.7.8 no (hidden)"
    shown = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert any("535 5.7.8 no (hidden)" in line for line in shown)
    assert not any("sesame" in line for line in shown)


@pytest.mark.anyio
async def test_the_trace_shows_every_line_but_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "masqmail")
    options = replace(OPTIONS, credentials=LOGIN, clear_password=True)
    feed = ListFeed(transaction("one"))
    async with listening(secure) as listener:
        await deliver(feed, listener, options)
    shown = [str(record.__dict__.get("fields")) for record in caplog.records]
    assert any("MAIL FROM:<ann@home.test>" in line for line in shown)
    assert any("235 2.7.0 welcome" in line for line in shown)
    assert any("AUTH" in line for line in shown)
    assert not any("c2VzYW1l" in line or "AG1lQGdteC" in line or "sesame" in line for line in shown)


# what a connection costs


def closing_report(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The fields of the last `connection closed`."""
    found: dict[str, object] = {}

    def emit(event: str, **fields: object) -> None:
        if event == events.CONNECTION_CLOSED:
            found.update(fields)

    monkeypatch.setattr(events, "emit", emit)
    return found


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("keywords", "round_trips"),
    [
        pytest.param(ALL_KEYWORDS, 5, id="stream"),  # TCP, greeting, EHLO, all the messages, QUIT
        pytest.param(("PIPELINING",), 5 + 50, id="group"),
        pytest.param((), 4 + 4 * 50, id="lock-step"),
    ],
)
async def test_a_connection_tells_what_it_has_cost(
    monkeypatch: pytest.MonkeyPatch, keywords: tuple[str, ...], round_trips: int
) -> None:
    report = closing_report(monkeypatch)
    feed = ListFeed(*(transaction(f"m{number}") for number in range(50)))
    async with listening(lambda: ScriptedServer(keywords=keywords)) as listener:
        await deliver(feed, listener)
    sent = sum(len(taken.content) for server in listener.servers for taken in server.taken)
    assert report["messages"] == 50
    assert report["round_trips"] == round_trips
    assert sent < int(str(report["bytes_out"])) < sent + 50 * 150
    assert 0 < int(str(report["bytes_in"])) < 50 * 150
    assert float(str(report["seconds"])) > 0 and float(str(report["round_trip_ms"])) > 0
