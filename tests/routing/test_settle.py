"""Every outcome leads to one next state, and the originator hears what was asked for."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from masqmail.mail.envelope import Notify
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import MAILBOX_FULL, MAILBOX_UNKNOWN, OK, Status
from masqmail.routing.route import LOCAL_ROUTE, Route, RouteClass, Way
from masqmail.routing.schedule import Lifetime, RetrySchedule
from masqmail.routing.settle import Next, Report, Settlement, Standing, Terms, end_run, settle, show_duration
from support.routes import NOW, route

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TERMS = Terms(RetrySchedule((MINUTE, 5 * MINUTE)), Lifetime((4 * HOUR, 24 * HOUR), 120 * HOUR))

A, B = route("a"), route("b")
BOTH = RouteClass(("a", "b"))
FRESH = Standing(BOTH)
OLD = replace(FRESH, age=120 * HOUR)

REFUSED = Failed(MAILBOX_UNKNOWN, Culprit.RECIPIENT, "550 5.1.1 who?")
BUSY = Deferred(MAILBOX_FULL, Culprit.RECIPIENT, "452 4.2.2 full")
NO_LOGIN = NotTried(Culprit.LOGIN, "login refused")
NO_ANSWER = NotTried(Culprit.CONNECTION, "no answer from mail.x:25")


def run(
    outcome: Outcome,
    standing: Standing = FRESH,
    used: Route | None = A,
    *,
    usable: str = "",
    hop_given_up: bool = False,
) -> Settlement:
    return settle(
        outcome, standing, used, TERMS, NOW, is_open=lambda name: name in usable.split(), hop_given_up=hop_given_up
    )


FAILED_BY = {culprit: Failed(Status(554, "5.0.0", "no"), culprit, "no") for culprit in Culprit}
DEFERRED_BY = {culprit: Deferred(Status(451, "4.0.0", "later"), culprit, "later") for culprit in Culprit}
NOT_TRIED_BY = {culprit: NotTried(culprit, "could not") for culprit in Culprit}
REFUSERS = {Culprit.RECIPIENT, Culprit.MESSAGE}
COMBINATIONS = list(product(Culprit, ("b", ""), (False, True), (False, True)))


@pytest.mark.parametrize(("culprit", "usable", "last", "is_old"), COMBINATIONS)
class TestEveryCombination:
    def state(self, outcome: Outcome, usable: str, last: bool, is_old: bool) -> Next:
        return run(outcome, OLD if is_old else FRESH, replace(A, last=last), usable=usable).next

    def test_of_a_failure(self, culprit: Culprit, usable: str, last: bool, is_old: bool) -> None:
        can_go_on = usable and not last
        if culprit in REFUSERS:
            expected = Next.FAILED
        elif culprit is Culprit.SENDER:
            expected = Next.QUEUED if can_go_on else Next.FAILED
        else:
            expected = Next.QUEUED if can_go_on else Next.FAILED if is_old else Next.DEFERRED
        assert self.state(FAILED_BY[culprit], usable, last, is_old) is expected

    def test_of_a_temporary_answer(self, culprit: Culprit, usable: str, last: bool, is_old: bool) -> None:
        expected = Next.QUEUED if usable and not last else Next.FAILED if is_old else Next.DEFERRED
        assert self.state(DEFERRED_BY[culprit], usable, last, is_old) is expected

    def test_of_a_next_hop_that_could_not_be_used(
        self, culprit: Culprit, usable: str, last: bool, is_old: bool
    ) -> None:
        assert self.state(NOT_TRIED_BY[culprit], usable, last, is_old) is Next.QUEUED


def test_a_refused_recipient_fails_with_the_answer_as_its_reason() -> None:
    assert run(REFUSED, usable="b") == Settlement(
        Next.FAILED, "550 5.1.1 who?", BOTH, spent=True, status=MAILBOX_UNKNOWN, report=Report.FAILED
    )


def test_a_temporary_answer_moves_on_to_the_next_route_at_once() -> None:
    assert run(BUSY, usable="b") == Settlement(
        Next.QUEUED,
        "452 4.2.2 full; the next route is tried",
        RouteClass(("a", "b"), frozenset("a")),
        spent=True,
        status=MAILBOX_FULL,
    )


def test_the_wait_begins_when_no_route_is_left_and_the_run_is_forgotten() -> None:
    standing = Standing(RouteClass(("a", "b"), frozenset("a"), generation="g"), attempts=1)
    assert run(BUSY, standing, B, usable="a b") == Settlement(
        Next.DEFERRED,
        "452 4.2.2 full",
        RouteClass(("a", "b"), generation="g"),
        spent=True,
        status=MAILBOX_FULL,
        due=NOW + 5 * MINUTE,
    )


def test_the_same_route_is_not_the_next_one() -> None:
    assert run(BUSY, usable="a").next is Next.DEFERRED


def test_an_answer_about_smtputf8_tries_the_next_route_first() -> None:
    outcome = Failed(Status(550, "5.6.7", "no SMTPUTF8"), Culprit.MESSAGE, "no SMTPUTF8")
    assert run(outcome, usable="b").next is Next.QUEUED
    assert run(outcome).next is Next.FAILED


def test_what_is_bigger_than_a_server_announces_tries_the_next_route_first() -> None:
    """It was not asked; another provider may take more."""
    outcome = Failed(Status(552, "5.3.4", "too big"), Culprit.MESSAGE, "too big")
    assert run(outcome, usable="b").next is Next.QUEUED
    assert run(outcome).next is Next.FAILED
    assert run(replace(outcome, said_by_peer=True), usable="b").next is Next.FAILED


def test_a_failure_without_a_permanent_status_defers() -> None:
    outcome = Failed(MAILBOX_FULL, Culprit.RECIPIENT, "odd")
    settlement = run(outcome)
    assert settlement.next is Next.DEFERRED
    assert settlement.status == Status(451, "4.3.0", "odd")


class TestNextHops:
    def test_that_pause_spend_nothing_and_change_nothing(self) -> None:
        for given_up in (False, True):
            assert run(NO_LOGIN, usable="b", hop_given_up=given_up) == Settlement(
                Next.QUEUED, "login refused", BOTH, spent=False
            )

    def test_that_pause_begin_the_wait_when_all_others_were_tried(self) -> None:
        standing = Standing(RouteClass(("a", "b"), frozenset("a")), attempts=1, status=MAILBOX_FULL, reason="full")
        assert run(NO_LOGIN, standing, B, usable="a", hop_given_up=True) == Settlement(
            Next.DEFERRED, "login refused", BOTH, spent=False, status=MAILBOX_FULL, due=NOW + MINUTE
        )

    def test_that_pause_keep_the_run_going_while_another_is_open(self) -> None:
        standing = Standing(RouteClass(("a", "b", "c"), frozenset("a")), attempts=1)
        settlement = run(NO_LOGIN, standing, B, usable="c", hop_given_up=True)
        assert (settlement.next, settlement.route_class) == (Next.QUEUED, standing.route_class)

    @pytest.mark.parametrize(
        ("culprit", "enhanced"),
        [
            (Culprit.NAME, "4.4.3"),
            (Culprit.CONNECTION, "4.4.1"),
            (Culprit.TLS, "4.7.5"),
            (Culprit.LOGIN, "4.7.0"),
            (Culprit.SESSION, "4.4.2"),
        ],
    )
    def test_of_one_domain_spend_its_attempts_in_direct_delivery(self, culprit: Culprit, enhanced: str) -> None:
        settlement = run(NotTried(culprit, "x"), used=route("a", way=Way.DIRECT), hop_given_up=True)
        assert (settlement.next, settlement.spent, settlement.due) == (Next.DEFERRED, True, NOW + MINUTE)
        assert settlement.status == Status(451, enhanced, "x")

    def test_of_one_domain_lead_to_the_next_route(self) -> None:
        settlement = run(NO_ANSWER, used=route("a", way=Way.DIRECT), usable="b", hop_given_up=True)
        assert (settlement.next, settlement.route_class.tried) == (Next.QUEUED, frozenset("a"))

    def test_that_were_merely_not_reached_spend_nothing_in_direct_delivery(self) -> None:
        settlement = run(NO_ANSWER, used=route("a", way=Way.DIRECT))
        assert (settlement.next, settlement.spent) == (Next.QUEUED, False)

    def test_behind_a_link_that_went_down_spend_nothing_in_direct_delivery(self) -> None:
        settlement = run(NotTried(Culprit.LINK, "x"), used=route("a", way=Way.DIRECT), hop_given_up=True)
        assert (settlement.next, settlement.spent) == (Next.QUEUED, False)

    def test_without_an_answer_fail_a_recipient_where_that_is_configured(self) -> None:
        strict = replace(A, fails_on_connect_error=True)
        settlement = run(NO_ANSWER, used=strict, usable="b", hop_given_up=True)
        assert (settlement.next, settlement.report) == (Next.FAILED, Report.FAILED)
        assert settlement.status == Status(554, "5.4.1", "no answer from mail.x:25")
        assert run(NO_ANSWER, used=strict).next is Next.QUEUED
        assert run(NO_LOGIN, used=strict, hop_given_up=True).next is Next.QUEUED


class TestLocalDelivery:
    STANDING = Standing(RouteClass((LOCAL_ROUTE,)))

    @pytest.mark.parametrize("outcome", [NOT_TRIED_BY[Culprit.LOCAL], FAILED_BY[Culprit.LOCAL], BUSY])
    def test_that_did_not_work_waits(self, outcome: Outcome) -> None:
        settlement = run(outcome, self.STANDING, None, usable=LOCAL_ROUTE)
        assert (settlement.next, settlement.due) == (Next.DEFERRED, NOW + MINUTE)

    def test_to_an_unknown_user_fails(self) -> None:
        assert run(REFUSED, self.STANDING, None).next is Next.FAILED


class TestLifetime:
    def test_that_is_over_fails_with_the_last_answer(self) -> None:
        settlement = run(BUSY, OLD)
        reason = "given up after 5 days of trying; the last answer was: 452 4.2.2 full"
        assert settlement == Settlement(
            Next.FAILED, reason, BOTH, spent=True, status=Status(554, "5.4.7", reason), report=Report.FAILED
        )

    def test_that_is_over_does_not_keep_the_next_route_from_trying(self) -> None:
        assert run(BUSY, OLD, usable="b").next is Next.QUEUED

    @pytest.mark.parametrize(
        ("hours", "warned", "report", "now_warned"),
        [
            (3, 0, None, None),
            (4, 0, Report.DELAYED, 1),
            (5, 1, None, None),
            (24, 1, Report.DELAYED, 2),
            (30, 0, Report.DELAYED, 2),
            (30, 2, None, None),
        ],
    )
    def test_warns_once_for_each_threshold(
        self, hours: int, warned: int, report: Report | None, now_warned: int | None
    ) -> None:
        settlement = run(BUSY, replace(FRESH, age=hours * HOUR, warned=warned))
        assert (settlement.next, settlement.report, settlement.warned) == (Next.DEFERRED, report, now_warned)

    def test_ends_a_run_that_found_no_way(self) -> None:
        standing = Standing(RouteClass(("a", "b"), frozenset("a")), attempts=2, status=MAILBOX_FULL, reason="full")
        assert end_run(standing, TERMS, NOW) == Settlement(
            Next.DEFERRED, "full", BOTH, spent=False, status=MAILBOX_FULL, due=NOW + 5 * MINUTE
        )
        over = end_run(replace(standing, age=120 * HOUR), TERMS, NOW)
        assert (over.next, over.spent) == (Next.FAILED, False)


REPORTS = [
    # outcome, age in hours, NOTIFY, report
    (Delivered(OK, handover=Handover.MAILBOX), 0, None, None),
    (Delivered(OK, handover=Handover.MAILBOX), 0, Notify.SUCCESS, Report.DELIVERED),
    (Delivered(OK, handover=Handover.RELAYED), 0, Notify.SUCCESS | Notify.FAILURE, Report.RELAYED),
    (Delivered(OK, handover=Handover.RELAYED), 0, Notify.FAILURE | Notify.DELAY, None),
    (Delivered(OK, handover=Handover.PASSED_ON), 0, Notify.SUCCESS, None),
    (Delivered(OK, handover=Handover.MAILBOX), 0, Notify.NEVER, None),
    (REFUSED, 0, None, Report.FAILED),
    (REFUSED, 0, Notify.FAILURE, Report.FAILED),
    (REFUSED, 0, Notify.SUCCESS | Notify.DELAY, None),
    (REFUSED, 0, Notify.NEVER, None),
    (BUSY, 4, None, Report.DELAYED),
    (BUSY, 4, Notify.DELAY, Report.DELAYED),
    (BUSY, 4, Notify.FAILURE, None),
    (BUSY, 4, Notify.NEVER, None),
    (BUSY, 120, Notify.FAILURE, Report.FAILED),
    (BUSY, 120, Notify.NEVER, None),
]


@pytest.mark.parametrize(("outcome", "hours", "notify", "report"), REPORTS)
def test_the_originator_hears_what_was_asked_for(
    outcome: Outcome, hours: int, notify: Notify | None, report: Report | None
) -> None:
    standing = replace(FRESH, age=hours * HOUR, notify=notify)
    assert run(outcome, standing).report is report


@pytest.mark.parametrize("outcome", [Delivered(OK, handover=Handover.MAILBOX), REFUSED, BUSY])
def test_nobody_is_told_where_nobody_is_to_be_told(outcome: Outcome) -> None:
    standing = replace(FRESH, age=5 * HOUR, notify=Notify.SUCCESS | Notify.FAILURE | Notify.DELAY)
    assert run(outcome, standing).report is not None
    settlement = run(outcome, replace(standing, reported=False))
    assert (settlement.report, settlement.warned) == (None, None)


@pytest.mark.parametrize("standing", [FRESH, OLD])
def test_a_success_is_delivered_however_old(standing: Standing) -> None:
    assert run(Delivered(OK), standing, usable="b") == Settlement(
        Next.DELIVERED, "250 2.0.0 OK", BOTH, spent=True, status=OK
    )


def test_a_delivery_has_the_answer_as_its_reason() -> None:
    assert run(Delivered(OK, reason="queued as 123")).reason == "queued as 123"
    assert run(Delivered(OK)).reason == "250 2.0.0 OK"


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (120 * HOUR, "5 days"),
        (26 * HOUR, "1 day"),
        (4 * HOUR, "4 hours"),
        (HOUR, "1 hour"),
        (90 * MINUTE / 45, "2 minutes"),
        (timedelta(seconds=59), "less than a minute"),
    ],
)
def test_a_duration_is_shown_in_its_biggest_unit(duration: timedelta, text: str) -> None:
    assert show_duration(duration) == text
