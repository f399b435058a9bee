"""Dates are written as RFC 5322 wants them."""

from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.date import format_date


def test_a_date_carries_the_offset_of_its_zone() -> None:
    zone = timezone(-timedelta(hours=3, minutes=30))
    assert format_date(datetime(2025, 11, 2, 7, 5, 3, tzinfo=zone)) == "Sun, 02 Nov 2025 07:05:03 -0330"


def test_utc_is_plus_zero() -> None:
    assert format_date(datetime(2025, 11, 21, 7, 5, 3, tzinfo=UTC)).endswith(" +0000")


def test_a_date_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        format_date(datetime(2025, 1, 1))


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(timezone(timedelta(hours=5, minutes=45)))))
def test_the_standard_library_reads_the_same_instant(when: datetime) -> None:
    assert parsedate_to_datetime(format_date(when)) == when.replace(microsecond=0)


def test_one_instant_in_two_zones_is_two_dates() -> None:
    """They are equal as values, and a date that was written is remembered."""
    here = datetime(2025, 11, 21, 10, 5, 3, tzinfo=timezone(timedelta(hours=1)))
    assert format_date(here) == "Fri, 21 Nov 2025 10:05:03 +0100"
    assert format_date(here.astimezone(UTC)) == "Fri, 21 Nov 2025 09:05:03 +0000"
