"""The first route whose conditions hold and whose link is up is taken; each other one says why not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing import decide
from masqmail.routing.decide import (
    Choice,
    Classifier,
    Considered,
    MessageFacts,
    choose,
    classify,
    consider,
    is_usable,
    judge,
)
from masqmail.routing.link import LinkState
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, Conditions, Route, RouteClass, Way, line_of
from support.routes import facts, patterns, route, verdict

ANN = parse_mailbox("ann@example.org")

CONDITIONS = [
    # route, facts, why it does not fit
    (route("r"), facts(), None),
    (route("r"), facts("<>"), None),
    (route("r", senders=patterns("*@home.example")), facts("john@home.example"), None),
    (route("r", senders=patterns("*@work.example")), facts("j@x"), "sender j@x is not in senders"),
    (route("r", senders=patterns("*@work.example")), facts("<>"), "sender <> is not in senders"),
    (route("r", senders=patterns("*@work.example", "<>")), facts("<>"), None),
    (route("r", senders=patterns("*")), facts("<>"), None),
    (route("r", not_senders=patterns("root")), facts("root@x"), "sender root@x is in not_senders (root)"),
    (route("r", not_senders=patterns("<>")), facts("<>"), "sender <> is in not_senders (<>)"),
    (
        route("r", senders=patterns("*@x"), not_senders=patterns("a*")),
        facts("ann@x"),
        "sender ann@x is in not_senders (a*)",
    ),
    (route("r", recipients=patterns("*@example.org")), facts(), None),
    (route("r", recipients=patterns("*@x", "*@y")), facts(), "recipient ann@example.org is not in recipients"),
    (
        route("r", not_recipients=patterns("*@EXAMPLE.org")),
        facts(),
        "recipient ann@example.org is in not_recipients (*@EXAMPLE.org)",
    ),
    (route("r", from_headers=patterns("*@x")), facts("a@y", "a@x"), None),
    (route("r", from_headers=patterns("*@x")), facts("a@y", "b@y", "a@x"), None),
    (route("r", from_headers=patterns("*@x")), facts("a@x", "a@y", "b@y"), "From a@y, b@y is not in from_headers"),
    (
        route("r", from_headers=patterns("*")),
        facts("a@x"),
        "the message has no From address, and from_headers asks for one",
    ),
    (
        route("r", not_from_headers=patterns("*@y")),
        facts("a@x", "a@x", "a@y"),
        "From a@y is in not_from_headers (*@y)",
    ),
    (route("r", not_from_headers=patterns("*@y")), facts("a@x", "a@x"), None),
    (
        route("r", not_from_headers=patterns("*@y")),
        facts("a@x"),
        "the message has no From address, and not_from_headers asks for one",
    ),
    (route("r", max_size_bytes=1000), facts(size_bytes=1000), None),
    (route("r", max_size_bytes=1000), facts(size_bytes=1500), "the message has 1.5KB, max_size is 1KB"),
    (route("r", max_size_bytes=999), facts(size_bytes=2_000_000), "the message has 2MB, max_size is 999 bytes"),
]


@pytest.mark.parametrize(("candidate", "message", "reason"), CONDITIONS)
def test_a_route_fits_or_says_why_not(candidate: Route, message: object, reason: str | None) -> None:
    assert judge(candidate, message, ANN) == reason


def test_a_class_has_every_route_that_fits_in_order() -> None:
    routes = [route("a"), route("b", senders=patterns("nobody")), route("c", ["umts"])]
    assert classify(facts(), ANN, routes, "g1") == RouteClass(("a", "c"), generation="g1")


ROUTES = {
    one.name: one
    for one in (
        route("a", ["dsl", "umts"]),
        route("b", ["umts"]),
        route("c", ["always"]),
        route("z", ["umts"], last=True),
    )
}
UP = {"dsl": verdict("dsl"), "umts": verdict("umts", LinkState.DOWN, "no modem")}
DOWN = {
    "dsl": verdict("dsl", LinkState.DOWN, "no carrier"),
    "umts": verdict("umts", LinkState.UNKNOWN, "no answer yet"),
}
BOTH = {"dsl": verdict("dsl"), "umts": verdict("umts", reason="it was declared up")}


def chosen(names: str, links: dict[str, object], paused: dict[str, str] | None = None, tried: str = "") -> Choice:
    return choose(RouteClass(tuple(names), frozenset(tried)), ROUTES, links, paused or {})


def test_the_first_route_with_a_link_that_is_up_is_taken() -> None:
    assert chosen("bac", UP) == Choice(
        ROUTES["a"],
        "dsl",
        (
            Considered("b", False, "link umts is down: no modem"),
            Considered("a", True, "link dsl is up: carrier on ppp0"),
        ),
    )


def test_any_link_of_a_route_will_do() -> None:
    assert chosen("a", {"umts": BOTH["umts"]}).link == "umts"


def test_the_link_always_is_up_without_a_verdict() -> None:
    choice = chosen("c", {})
    assert (choice.route, choice.link, choice.reason) == (ROUTES["c"], "always", "c: it needs no link")


def test_a_link_that_is_not_known_to_be_up_is_not_used() -> None:
    assert chosen("a", DOWN).reason == (
        "a: link dsl is down: no carrier, link umts is not known to be up: no answer yet"
    )
    assert chosen("b", {}).reason == "b: link umts is not known yet"


def test_a_paused_route_is_passed_over_with_its_reason() -> None:
    choice = chosen("ac", UP, {"a": "login refused"})
    assert choice.route is ROUTES["c"]
    assert choice.considered[0] == Considered("a", False, "paused: login refused")


def test_a_route_tried_in_this_run_is_passed_over() -> None:
    choice = chosen("ac", UP, tried="a")
    assert choice.route is ROUTES["c"]
    assert choice.considered[0] == Considered("a", False, "already tried in this run")


def test_a_route_that_is_gone_from_the_configuration_is_passed_over() -> None:
    choice = chosen("xc", UP)
    assert choice.route is ROUTES["c"]
    assert choice.considered[0] == Considered("x", False, "it is not configured any more")


def test_no_later_route_takes_the_place_of_a_paused_last_one() -> None:
    choice = chosen("zc", BOTH, {"z": "login refused"})
    assert choice.route is None
    assert choice.reason == "z: paused: login refused; it is the last: no later route is tried"


def test_a_last_route_whose_link_is_down_does_not_keep_later_ones_from_trying() -> None:
    assert chosen("zc", UP, {"z": "login refused"}).route is ROUTES["c"]


def test_a_recipient_that_no_route_is_meant_for_gets_a_reason() -> None:
    choice = chosen("", UP)
    assert choice.route is None
    assert choice.reason == "no route is meant for it: their conditions exclude this recipient or message"


def test_all_obstacles_are_in_the_reason() -> None:
    assert chosen("ba", UP, {"a": "busy"}).reason == "b: link umts is down: no modem; a: paused: busy"


@pytest.mark.parametrize(
    ("route_class", "links", "paused", "expected"),
    [
        (RouteClass(("a",)), UP, {}, True),
        (RouteClass(("a",)), DOWN, {}, False),
        (RouteClass(("a",)), UP, {"a": "busy"}, False),
        (RouteClass(("a", "c")), DOWN, {"a": "busy"}, True),
        (RouteClass(("a",), frozenset("a")), UP, {}, True),
        (RouteClass(("z", "c")), BOTH, {"z": "busy"}, False),
        (RouteClass(()), BOTH, {}, False),
        (RouteClass((LOCAL_ROUTE,)), {}, {}, True),
    ],
)
def test_time_counts_while_a_route_could_be_used(
    route_class: RouteClass, links: dict[str, object], paused: dict[str, str], expected: bool
) -> None:
    assert is_usable(route_class, ROUTES, links, paused) is expected


def test_considering_shows_conditions_links_and_pauses_in_the_order_of_the_routes() -> None:
    routes = [route("w", senders=patterns("nobody")), *ROUTES.values()]
    choice = consider(facts("j@x"), ANN, routes, UP, {"a": "busy"})
    assert choice.route is ROUTES["c"]
    assert choice.considered == (
        Considered("w", False, "sender j@x is not in senders"),
        Considered("a", False, "paused: busy"),
        Considered("b", False, "link umts is down: no modem"),
        Considered("c", True, "it needs no link"),
    )


def test_considering_stops_at_a_paused_last_route() -> None:
    choice = consider(facts(), ANN, [ROUTES["z"], ROUTES["c"]], BOTH, {"z": "busy"})
    assert choice.route is None
    assert [one.route for one in choice.considered] == ["z"]


# what a classifier remembers

ROUTE_CONDITIONS = st.builds(
    Conditions,
    senders=st.sampled_from([(), patterns("*@a"), patterns("ann@a", "<>"), patterns("*")]),
    not_senders=st.sampled_from([(), patterns("<>"), patterns("bob")]),
    recipients=st.sampled_from([(), patterns("*@b"), patterns("*@*"), patterns("bob@?")]),
    not_recipients=st.sampled_from([(), patterns("ann"), patterns("*@a")]),
    from_headers=st.sampled_from([(), patterns("*@a")]),
    max_size_bytes=st.sampled_from([None, 1000, 2000]),
)
ADDRESSES = [parse_mailbox(text) for text in ("ann@a", "ann@A", "bob@a", "ann@b", "bob@b", "ann")]
MESSAGES = st.builds(
    MessageFacts,
    reverse_path=st.sampled_from([None, *ADDRESSES]),
    from_mailboxes=st.lists(st.sampled_from(ADDRESSES), max_size=2).map(tuple),
    size_bytes=st.sampled_from([0, 999, 1000, 1001, 2000, 2001]),
)


@given(
    st.lists(ROUTE_CONDITIONS, max_size=3),
    st.lists(st.tuples(MESSAGES, st.sampled_from(ADDRESSES), st.sampled_from(["", QUEUE_ONLY]))),
)
def test_what_a_classifier_remembers_is_what_the_conditions_say(
    conditions: list[Conditions], asked: list[tuple[MessageFacts, Mailbox, str]]
) -> None:
    routes = [Route(f"r{number}", ("dsl",), Way.DIRECT, one) for number, one in enumerate(conditions)]
    classifier = Classifier(routes, "7")
    for message, recipient, mark in asked:
        expected = classify(message, recipient, routes, "7").marked(mark)
        assert classifier.classify(message, recipient, mark) == expected


def test_messages_on_both_sides_of_a_size_are_two_classes_and_all_on_one_side_the_same() -> None:
    classifier = Classifier([route("small", max_size_bytes=1000), route("all")], "1")
    sizes = (1, 1000, 1001, 9999)
    found = [classifier.classify(facts(size_bytes=size), ANN) for size in sizes]
    assert [one.routes for one in found] == [("small", "all"), ("small", "all"), ("all",), ("all",)]
    assert found[0] is found[1] and found[2] is found[3]


def test_a_classifier_forgets_rather_than_grows_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "MAX_REMEMBERED", 10)
    classifier = Classifier([route("r", recipients=patterns("*@*.example"))], "1")
    for number in range(100):
        found = classifier.classify(facts(), parse_mailbox(f"ann@h{number}.example"))
        assert found.routes == ("r",)
        assert len(classifier._known) <= 10


# what its user fetches

KEPT = replace(route("kept", way=Way.ODMR, links=[line_of("bob")], last=True), user="bob")


def test_what_a_user_fetches_waits_for_him_and_goes_no_other_way() -> None:
    routes = {item.name: item for item in (route("lan"), KEPT, route("isp", ["always"]))}
    links = {"dsl": verdict("dsl", LinkState.DOWN, "no carrier")}
    route_class = RouteClass(("lan", "kept", "isp"))
    choice = choose(route_class, routes, links, {})
    assert choice.route is None
    assert choice.considered == (
        Considered("lan", False, "link dsl is down: no carrier"),
        Considered("kept", False, "it waits until bob fetches it with ATRN"),
    )
    assert not is_usable(route_class, routes, links, {}), "no time counts"


def test_what_a_user_fetches_goes_while_he_is_here() -> None:
    line = line_of("bob")
    links = {line: verdict(line, reason="bob is fetching it")}
    choice = choose(RouteClass(("kept",)), {"kept": KEPT}, links, {})
    assert (choice.route, choice.link, choice.reason) == (KEPT, line, "kept: bob is fetching it")


def test_an_earlier_route_that_can_be_used_need_not_wait_for_the_user() -> None:
    routes = {item.name: item for item in (route("lan"), KEPT)}
    choice = choose(RouteClass(("lan", "kept")), routes, {"dsl": verdict("dsl")}, {})
    assert choice.route is not None and choice.route.name == "lan"
