"""What could be sent now."""

from datetime import timedelta

from masqmail.daemon.outlook import Outlook
from masqmail.daemon.pauses import Pauses
from masqmail.mail.outcome import Culprit
from masqmail.routing.route import LOCAL_ROUTE, QUEUE_ONLY, RouteClass
from masqmail.routing.schedule import RetrySchedule
from masqmail.system.clock import FakeClock
from support.assembly import BACKUP_HOP, HOP, FakeBoard, rules, smarthost

A, B = smarthost("a"), smarthost("b", ("umts",))
BOTH = RouteClass(("a", "b"), generation="1")
LOCAL = RouteClass((LOCAL_ROUTE,))


def outlook(*up: str) -> tuple[Outlook, Pauses]:
    clock = FakeClock()
    pauses = Pauses(clock, RetrySchedule((timedelta(minutes=1),)))
    down = {"dsl", "umts"} - set(up)
    return Outlook(rules(A, B, hops=(HOP, BACKUP_HOP)), FakeBoard(clock, up, down), pauses), pauses  # type: ignore[arg-type]


def test_classes_go_to_their_first_route_that_can_be_used() -> None:
    for up, name in ((("dsl", "umts"), "a"), (("dsl",), "a"), (("umts",), "b")):
        found, _ = outlook(*up)
        assert found.by_route([BOTH, LOCAL]) == {name: [BOTH], LOCAL_ROUTE: [LOCAL]}
    found, _ = outlook()
    assert found.by_route([BOTH]) == {}


def test_a_route_is_paused_when_all_its_next_hops_are() -> None:
    found, pauses = outlook("dsl", "umts")
    pauses.pause("a", str(HOP), Culprit.TLS, "bad certificate")
    assert found.by_route([BOTH]) == {"a": [BOTH]}
    pauses.pause("a", str(BACKUP_HOP), Culprit.CONNECTION, "refused")
    assert found.by_route([BOTH]) == {"b": [BOTH]}
    assert list(found.paused_routes()) == ["a"]
    assert (found.is_open("a"), found.is_open("b")) == (False, True)
    assert found.has_link(A)


def test_what_is_marked_or_of_another_configuration_waits_and_does_not_age() -> None:
    found, _ = outlook("dsl")
    others = [BOTH.marked(QUEUE_ONLY), RouteClass(("a",), generation="0")]
    assert found.by_route(others) == {}
    assert found.usable([*others, BOTH, LOCAL]) == [BOTH, LOCAL]


def test_a_run_has_ended_when_something_was_tried_and_nothing_else_can_be() -> None:
    tried = RouteClass(("a", "b"), frozenset({"a"}), generation="1")
    found, _ = outlook("dsl", "umts")
    assert found.with_ended_runs([BOTH, tried]) == []
    found, _ = outlook("dsl")
    assert found.with_ended_runs([BOTH, tried]) == [tried]
    assert found.usable([tried]) == [tried]  # its time goes on: its first route could be used


def test_a_link_is_taken_as_up_for_as_long_as_anybody_asks_for_it() -> None:
    found, _ = outlook()
    found.assume_up("dsl")
    found.assume_up("dsl")
    found.assume_up("no such link")
    found.assume_no_more("dsl")
    assert found.is_open("a")
    assert found.choice(BOTH).considered[0].reason == "link dsl is up: taken as up for this flush"
    found.assume_no_more("dsl")
    assert not found.is_open("a")
