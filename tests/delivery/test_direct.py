"""Direct delivery asks a domain's mail exchangers in order, and its trouble stays with the domain."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import anyio
import pytest

from masqmail.delivery import direct
from masqmail.delivery.connect import Memory, Options
from masqmail.delivery.direct import OwnHost, Source, send_direct
from masqmail.delivery.job import Feed
from masqmail.delivery.smtp import SessionEnd
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed
from masqmail.mail.status import Status
from masqmail.net.errors import NameFailure, NullMx
from masqmail.net.fake import FakeResolver
from masqmail.net.session import TlsMode
from masqmail.settings import HostPort
from support.listfeed import ListFeed, transaction
from support.scripted_server import ScriptedServer, listening

OPTIONS = Options("laptop.test", tls=TlsMode.OPPORTUNISTIC, linger=timedelta(0))
REFUSED = SessionEnd(Culprit.CONNECTION, "cannot connect: connection refused")
GOOD = SessionEnd(progress=True)

Ask = Callable[..., Awaitable[tuple[list[str], ListFeed, SessionEnd]]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Sends one message to far.test; each host ends its session as told. Returns who was asked, in order."""

    async def run(
        resolver: FakeResolver,
        domain: str = "far.test",
        sources: Sequence[Source] = (Source.MX, Source.A),
        is_strict: bool = False,
        **ends: SessionEnd,
    ) -> tuple[list[str], ListFeed, SessionEnd]:
        asked = []

        async def send(
            next_hop: HostPort, options: Options, feed: Feed, memory: Memory, *, address: HostPort
        ) -> SessionEnd:
            asked.append(f"{next_hop} {address}")
            return ends.get(next_hop.host.split(".")[0], REFUSED)

        monkeypatch.setattr(direct, "send", send)
        feed = ListFeed(transaction("one"), transaction("two"))
        own_host = OwnHost(("laptop.test",), ("192.0.2.99",))
        end = await send_direct(
            domain,
            OPTIONS,
            resolver,
            feed,
            Memory(),
            own_host=own_host,
            sources=sources,
            fails_on_connect_error=is_strict,
        )
        return asked, feed, end

    return run


THREE = FakeResolver(
    {"far.test": [(20, "b.test"), (10, "a.test"), (30, "c.test")]},
    {"a.test": ["192.0.2.1", "2001:db8::1"], "b.test": ["192.0.2.2"], "c.test": ["192.0.2.3"]},
)


@pytest.mark.anyio
async def test_exchangers_are_asked_by_preference_until_one_answers(ask: Ask) -> None:
    asked, feed, end = await ask(THREE, b=GOOD)
    assert asked == ["a.test:25 192.0.2.1:25", "a.test:25 [2001:db8::1]:25", "b.test:25 192.0.2.2:25"]
    assert end is GOOD
    assert feed.outcomes == {}, "the session settles what it took"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "refusal",
    [
        SessionEnd(Culprit.SESSION, "a.test refused the session: 450 later", Status(450, "", "later")),
        SessionEnd(Culprit.SESSION, "a.test refused the session: 554 no", Status(554, "", "no")),
        SessionEnd(Culprit.TLS, "bad certificate"),
    ],
)
async def test_a_host_that_refuses_the_session_is_followed_by_the_next(ask: Ask, refusal: SessionEnd) -> None:
    asked, _, end = await ask(THREE, a=refusal, b=GOOD)
    assert end is GOOD and asked[-1].startswith("b.test")


@pytest.mark.anyio
async def test_a_session_that_achieved_something_is_enough(ask: Ask) -> None:
    broken = SessionEnd(Culprit.CONNECTION, "broke", progress=True)
    asked, _, end = await ask(THREE, a=broken)
    assert len(asked) == 1 and end is broken


@pytest.mark.anyio
async def test_when_nobody_answers_the_domain_waits(ask: Ask) -> None:
    _, feed, end = await ask(THREE)
    for name in ("one", "two"):
        outcome = feed.the_outcome(name)
        assert isinstance(outcome, Deferred)
        assert outcome.culprit is Culprit.CONNECTION and outcome.status.enhanced == "4.4.1"
        assert outcome.reason == "cannot connect: connection refused"
    assert end.is_ok, "there is no next hop to pause"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("resolver", "reason"),
    [
        (THREE, "cannot connect: connection refused"),
        (FakeResolver({"far.test": NameFailure("no name server answered")}), "no name server answered"),
    ],
)
async def test_when_nobody_answers_everything_fails_where_that_is_configured(
    ask: Ask, resolver: FakeResolver, reason: str
) -> None:
    _, feed, _ = await ask(resolver, is_strict=True)
    for name in ("one", "two"):
        outcome = feed.the_outcome(name)
        assert isinstance(outcome, Failed)
        assert (outcome.status, outcome.reason) == (Status(554, "5.4.1", reason), reason)


@pytest.mark.anyio
async def test_a_host_that_answered_and_takes_nothing_now_fails_nothing(ask: Ask) -> None:
    busy = SessionEnd(Culprit.SESSION, "a.test:25 refused the session: 421 busy", Status(421, "4.3.2", "busy"))
    _, feed, _ = await ask(THREE, is_strict=True, a=busy)
    assert isinstance(feed.the_outcome("one"), Deferred)


@pytest.mark.anyio
async def test_a_temporary_greeting_is_the_status(ask: Ask) -> None:
    busy = SessionEnd(Culprit.SESSION, "busy", Status(450, "4.3.2", "busy"))
    _, feed, _ = await ask(THREE, a=busy, b=busy, c=busy)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred) and outcome.status == busy.status
    assert outcome.remote_host == "c.test:25" and outcome.said_by_peer


@pytest.mark.anyio
async def test_a_permanent_greeting_is_a_reason_to_wait(ask: Ask) -> None:
    closed = SessionEnd(Culprit.SESSION, "closed", Status(554, "", "closed"))
    _, feed, _ = await ask(THREE, a=closed, b=closed, c=closed)
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred) and outcome.status.is_temporary
    assert not outcome.said_by_peer, "it never said that"


@pytest.mark.anyio
async def test_a_domain_without_mx_is_its_own(ask: Ask) -> None:
    asked, _, _ = await ask(FakeResolver({}, {"far.test": ["192.0.2.7"]}), far=GOOD)
    assert asked == ["far.test:25 192.0.2.7:25"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("domain", "address"), [("[192.0.2.7]", "192.0.2.7:25"), ("[IPv6:2001:db8::7]", "[2001:db8::7]:25")]
)
async def test_a_literal_is_an_address(ask: Ask, domain: str, address: str) -> None:
    asked, _, _ = await ask(FakeResolver(), domain)
    assert asked == [f"{address} {address}"]


@pytest.mark.anyio
async def test_only_so_many_addresses_are_tried(ask: Ask) -> None:
    many = FakeResolver({"far.test": [(1, "a.test")]}, {"a.test": [f"192.0.2.{index}" for index in range(1, 40)]})
    asked, _, _ = await ask(many)
    assert len(asked) == direct.MAX_CONNECTIONS


OURS = FakeResolver(
    {"far.test": [(10, "a.test"), (20, "laptop.test"), (20, "b.test"), (30, "c.test")]},
    {"a.test": ["192.0.2.1"], "b.test": ["192.0.2.2"], "c.test": ["192.0.2.3"], "laptop.test": ["192.0.2.4"]},
)


@pytest.mark.anyio
async def test_hosts_no_better_than_ourselves_are_not_asked(ask: Ask) -> None:
    """RFC 5321 §5.1."""
    asked, feed, _ = await ask(OURS)
    assert asked == ["a.test:25 192.0.2.1:25"]
    assert isinstance(feed.the_outcome(), Deferred)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("resolver", "domain", "status", "culprit"),
    [
        (FakeResolver({"far.test": NullMx("takes no mail")}), "far.test", "5.1.10", Culprit.RECIPIENT),
        (FakeResolver(), "far.test", "5.1.2", Culprit.RECIPIENT),
        (FakeResolver(hijacked=True), "far.test", "4.4.3", Culprit.NAME),
        (FakeResolver({"far.test": NameFailure("no name server answered")}), "far.test", "4.4.3", Culprit.NAME),
        (FakeResolver({"far.test": [(1, "gone.test")]}), "far.test", "4.4.3", Culprit.NAME),
        (
            FakeResolver({"far.test": [(1, "laptop.test")]}, {"laptop.test": []}),
            "far.test",
            "5.4.6",
            Culprit.RECIPIENT,
        ),
        (
            FakeResolver({"far.test": [(1, "alias.test")]}, {"alias.test": ["192.0.2.99"]}),
            "far.test",
            "5.4.6",
            Culprit.RECIPIENT,
        ),
        (FakeResolver({}, {"far.test": ["192.0.2.99"]}), "far.test", "5.4.6", Culprit.RECIPIENT),
        (
            FakeResolver(
                {"far.test": [(1, "laptop.test"), (2, "a.test")]}, {"laptop.test": NameFailure("no answer")}
            ),
            "far.test",
            "5.4.6",
            Culprit.RECIPIENT,
        ),
        (
            FakeResolver(
                {"far.test": [(1, "a.test"), (2, "laptop.test")]},
                {"a.test": NameFailure("no answer"), "laptop.test": ["192.0.2.99"]},
            ),
            "far.test",
            "4.4.3",
            Culprit.NAME,
        ),
        (FakeResolver({"far.test": [(1, "a.test")]}, {"a.test": []}), "far.test", "4.4.3", Culprit.NAME),
        (FakeResolver(), "[300.1.1.1]", "5.1.2", Culprit.RECIPIENT),
    ],
)
async def test_a_domain_that_cannot_be_asked_settles_everything(
    ask: Ask, resolver: FakeResolver, domain: str, status: str, culprit: Culprit
) -> None:
    asked, feed, end = await ask(resolver, domain)
    assert asked == []
    assert end.is_ok
    for name in ("one", "two"):
        outcome = feed.the_outcome(name)
        assert isinstance(outcome, Failed if status.startswith("5") else Deferred)
        assert (outcome.status.enhanced, outcome.culprit) == (status, culprit)
        assert outcome.reason


@pytest.mark.anyio
async def test_a_message_arrives_at_the_second_exchanger() -> None:
    """Over loopback: nobody listens at the first one."""
    feed = ListFeed(transaction("one"))
    async with listening(ScriptedServer) as listener:
        resolver = FakeResolver(
            {"far.test": [(1, "dead.test"), (2, "mx.test")]}, {"dead.test": ["127.0.0.9"], "mx.test": ["127.0.0.1"]}
        )
        with anyio.fail_after(20):
            port = listener.address.port
            end = await send_direct("far.test", OPTIONS, resolver, feed, Memory(), own_host=OwnHost(), port=port)
    assert end.progress
    outcome = feed.the_outcome()
    assert isinstance(outcome, Delivered)
    assert outcome.remote_host == f"mx.test:{listener.address.port}"


# where the hosts are looked for

MX, A, HOSTS = Source.MX, Source.A, Source.HOSTS


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sources", "records", "address"),
    [
        ([MX, A], [(1, "mx.test")], "192.0.2.25"),
        ([MX, A, HOSTS], [], "192.0.2.1"),
        ([MX, HOSTS], [], "192.168.0.1"),
        ([A, MX], [(1, "mx.test")], "192.0.2.1"),
        ([A], [(1, "mx.test")], "192.0.2.1"),
        ([HOSTS, MX, A], [(1, "mx.test")], "192.168.0.1"),
    ],
)
async def test_the_first_source_that_knows_a_host_counts(
    ask: Ask, sources: list[Source], records: list[tuple[int, str]], address: str
) -> None:
    resolver = FakeResolver(
        {"far.test": records},
        {"far.test": ["192.0.2.1"], "mx.test": ["192.0.2.25"]},
        hosts={"far.test": ["192.168.0.1"]},
    )
    asked, _, _ = await ask(resolver, sources=sources, far=GOOD, mx=GOOD)
    assert [one.split()[1] for one in asked] == [f"{address}:25"]


@pytest.mark.anyio
async def test_a_name_that_only_this_host_knows_is_found_although_the_dns_has_no_such_domain(ask: Ask) -> None:
    resolver = FakeResolver(hosts={"nas.lan": ["192.168.0.2"]})
    asked, _, _ = await ask(resolver, "nas.lan", [MX, A, HOSTS], nas=GOOD)
    assert asked == ["nas.lan:25 192.168.0.2:25"]


NOWHERE = NameFailure("no name server answered")
EMPTY = FakeResolver({"far.test": []})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("resolver", "sources", "status"),
    [
        (FakeResolver(), [A], "5.1.2"),
        (FakeResolver(), [MX, A, HOSTS], "5.1.2"),
        (FakeResolver(), [HOSTS, MX], "5.1.2"),
        (FakeResolver(hijacked=True), [A], "4.4.3"),
        (FakeResolver(), [HOSTS], "4.4.3"),
        (EMPTY, [MX], "4.4.3"),
        (EMPTY, [MX, A, HOSTS], "4.4.3"),
        (FakeResolver({"far.test": NOWHERE}, {"far.test": ["192.0.2.1"]}), [MX, A, HOSTS], "4.4.3"),
        (FakeResolver({"far.test": NullMx("no mail")}, {"far.test": ["192.0.2.1"]}), [MX, A, HOSTS], "5.1.10"),
        (FakeResolver({"far.test": [(1, "gone.test")]}, {"far.test": ["192.0.2.1"]}), [MX, A], "4.4.3"),
        (FakeResolver({}, {"far.test": ["192.0.2.99"]}), [HOSTS], "5.4.6"),
    ],
)
async def test_only_what_is_known_to_be_missing_leads_to_the_next_source(
    ask: Ask, resolver: FakeResolver, sources: list[Source], status: str
) -> None:
    asked, feed, _ = await ask(resolver, sources=sources)
    outcome = feed.the_outcome()
    assert asked == []
    assert isinstance(outcome, Failed | Deferred)
    assert outcome.status.enhanced == status


@pytest.mark.anyio
async def test_a_domain_without_any_host_says_where_it_was_looked_for(ask: Ask) -> None:
    _, feed, _ = await ask(EMPTY, sources=[MX, HOSTS])
    outcome = feed.the_outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.reason == "no host is known for far.test (asked for: mx, hosts)"
