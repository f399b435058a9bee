"""Waits follow the schedule and its last one repeats; warnings and the end come by age."""

from datetime import timedelta

import pytest

from masqmail.routing.schedule import Lifetime, RetrySchedule

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(("attempts", "minutes"), [(0, 1), (1, 1), (2, 5), (3, 15), (4, 15), (1000, 15)])
def test_the_last_wait_repeats(attempts: int, minutes: int) -> None:
    schedule = RetrySchedule((MINUTE, 5 * MINUTE, 15 * MINUTE))
    assert schedule.wait_after(attempts) == minutes * MINUTE


def test_the_longest_wait_is_known() -> None:
    assert RetrySchedule((MINUTE, HOUR, 5 * MINUTE)).longest == HOUR


@pytest.mark.parametrize("waits", [(), (timedelta(0),), (MINUTE, -MINUTE)])
def test_a_schedule_without_waits_is_refused(waits: tuple[timedelta, ...]) -> None:
    with pytest.raises(ValueError, match="at least one wait"):
        RetrySchedule(waits)


@pytest.mark.parametrize(
    ("hours", "warnings", "over"), [(0, 0, False), (4, 1, False), (24, 2, False), (120, 2, True)]
)
def test_warnings_and_the_end_come_by_age(hours: int, warnings: int, over: bool) -> None:
    lifetime = Lifetime((4 * HOUR, 24 * HOUR), 120 * HOUR)
    assert lifetime.warnings_due(hours * HOUR) == warnings
    assert lifetime.is_over(hours * HOUR) is over
