"""Queue IDs grow, do not repeat, and can be made again from a file."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from masqmail.spool.queueid import LENGTH, QueueIds, derived_id

NOW = datetime(2025, 11, 21, 9, 30, tzinfo=UTC)


def test_ids_of_one_instant_grow() -> None:
    ids = QueueIds()
    made = [ids.new(NOW) for _ in range(1000)]
    assert made == sorted(set(made))
    assert {len(name) for name in made} == {LENGTH}


def test_ids_grow_when_the_clock_steps_back() -> None:
    ids = QueueIds()
    first = ids.new(NOW)
    assert ids.new(NOW - timedelta(days=1)) > first


def test_two_processes_do_not_make_the_same_id() -> None:
    assert QueueIds().new(NOW) != QueueIds().new(NOW)


def test_ids_have_no_characters_that_look_alike() -> None:
    assert not set("ilouILOU") & set(QueueIds().new(NOW))


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2999, 1, 1)),
    st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=9000)),
)
def test_ids_sort_by_time(when: datetime, later: timedelta) -> None:
    first = when.replace(tzinfo=UTC)
    assert QueueIds().new(first) < QueueIds().new(first + later + timedelta(milliseconds=1))


def test_a_derived_id_depends_on_the_instant_and_the_seed_alone() -> None:
    made = derived_id(NOW, b"a")
    assert made == derived_id(NOW, b"a")
    assert made != derived_id(NOW, b"b")
    assert made[:9] == QueueIds().new(NOW)[:9]


def test_an_instant_before_all_clocks_still_makes_an_id() -> None:
    assert derived_id(datetime(1900, 1, 1, tzinfo=UTC), b"a").startswith("000000000")
