"""What is planned for a mailbox: by size, by what was done before, and by names that may be worth nothing."""

import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto.errors import PeerError
from masqmail.retrieval.account import Found
from masqmail.retrieval.pop3survey import HASHED, Rules, Survey, Todo, hash_name
from masqmail.spool.api import FetchFate, FetchMark, Uid

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WEEK = timedelta(days=7)
TAKEN, LEFT, REFUSED = FetchFate.TAKEN, FetchFate.LEFT, FetchFate.REFUSED


def mark(name: str, fate: FetchFate = TAKEN, at: datetime = NOW, size: int = 0) -> FetchMark:
    return FetchMark("isp", Uid("", name), fate, at, size)


def marks(*found: FetchMark) -> dict[Uid, FetchMark]:
    return {mark.uid: mark for mark in found}


def survey(names: list[str], rules: Rules, known: dict[Uid, FetchMark], size: int = 100) -> Survey:
    """Of a mailbox whose UIDL gives these names; those without one have the same header section."""
    found = Survey(rules, known)
    found.messages = len(names)
    found.note_sizes([(number, size) for number, _ in enumerate(names, 1)])
    rows = list(enumerate(names, 1))
    found.note_names(rows)
    found.names_end()
    if found.repeated:
        found.note_repeated(rows)
    for number in found.unnamed:
        found.note_header(number, b"Subject: x\r\n\r\n")
    found.plan()
    return found


#: keep, size limit, asked for, what was done, what is to be done.
RULES: list[tuple[bool | timedelta, int | None, str, FetchMark | None, Todo]] = [
    (False, None, "", None, Todo.TAKE),
    (False, 100, "", None, Todo.TAKE),
    (False, 99, "", None, Todo.LEAVE),
    (False, 99, "a", None, Todo.TAKE),
    (False, None, "b", None, Todo.NOTHING),
    (False, None, "", mark("a"), Todo.DELETE),
    (False, None, "b", mark("a"), Todo.NOTHING),
    (True, None, "", mark("a"), Todo.NOTHING),
    (False, None, "", mark("a", size=100), Todo.DELETE),
    (False, None, "", mark("a", size=99), Todo.TAKE),
    (False, 99, "", mark("a", size=99), Todo.LEAVE),
    (True, None, "", mark("a", size=99), Todo.NOTHING),
    (WEEK, None, "", mark("a", at=NOW - WEEK), Todo.DELETE),
    (WEEK, None, "", mark("a", at=NOW - WEEK + timedelta(seconds=1)), Todo.NOTHING),
    (timedelta(0), None, "", mark("a"), Todo.DELETE),
    (False, 99, "", mark("a", LEFT), Todo.NOTHING),
    (False, 100, "", mark("a", LEFT), Todo.TAKE),
    (False, 99, "a", mark("a", LEFT), Todo.TAKE),
    (False, 100, "", mark("a", LEFT, size=101), Todo.NOTHING),
    (False, 10_000_000, "", mark("a", LEFT, size=101), Todo.NOTHING),
    (False, None, "", mark("a", LEFT, size=101), Todo.TAKE),
    (False, 100, "a", mark("a", LEFT, size=101), Todo.TAKE),
    (False, None, "", mark("a", REFUSED), Todo.NOTHING),
    (False, None, "a", mark("a", REFUSED), Todo.TAKE),
]


@pytest.mark.parametrize(("keep", "max_size", "asked", "before", "todo"), RULES)
def test_each_message_has_its_rule(
    keep: bool | timedelta, max_size: int | None, asked: str, before: FetchMark | None, todo: Todo
) -> None:
    rules = Rules(keep, NOW, max_size, frozenset({asked} - {""}))
    assert rules.todo(Found(Uid("", "a"), 100), before) is todo
    found = survey(["a"], rules, marks(before) if before else {})
    lists = {Todo.TAKE: found.take, Todo.LEAVE: found.leave, Todo.DELETE: found.delete}
    assert [len(lists[other]) for other in lists] == [other is todo for other in lists]


def test_those_that_stay_are_counted() -> None:
    rules = Rules(False, NOW, 99)
    found = survey(["a", "b", "c"], rules, marks(mark("a", LEFT), mark("b", LEFT), mark("c", REFUSED)))
    assert (found.left, found.refused) == (2, 1)


def test_a_header_is_the_same_with_and_without_its_blank_line() -> None:
    assert hash_name(b"Subject: x\r\n", 7) == hash_name(b"Subject: x\r\n\r\n", 7) != hash_name(b"Subject: x\r\n", 8)


def test_a_listing_with_gaps_is_fine() -> None:
    found = Survey(Rules(False, NOW), {})
    found.note_sizes([(2, 20), (7, 70), (4, 40)])
    found.note_names([(4, "d"), (2, "b")])
    found.names_end()
    assert found.unnamed == [7]
    found.note_header(7, b"")
    found.plan()
    assert [(message.number, message.found.size_bytes) for message in found.take] == [(2, 20), (4, 40), (7, 70)]


@pytest.mark.parametrize("rows", [[(1, 1), (1, 1)], [(3, 1), (3, 1)], [(3, 1), (1, 1), (1, 1)]])
def test_a_number_that_repeats_breaks_the_session_off(rows: list[tuple[int, int]]) -> None:
    with pytest.raises(PeerError):
        Survey(Rules(False, NOW), {}).note_sizes(rows)


_NAMES = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=7)
_MARKS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(FetchFate)).map(
    lambda fates: marks(*(mark(name, fate) for name, fate in fates.items()))
)


@given(_NAMES, _MARKS, st.booleans())
def test_whatever_names_are_worth_nothing_is_deleted_that_was_not_taken(
    names: list[str], known: dict[Uid, FetchMark], keep: bool
) -> None:
    found = survey(names, Rules(keep, NOW), known)
    count = Counter(names)
    for message in found.delete:
        name = message.found.uid.uid
        assert not keep and count[name] == 1 and names[message.number - 1] == name
        assert known[message.found.uid].fate is TAKEN
    planned = [message.number for message in (*found.take, *found.leave, *found.delete)]
    assert len(planned) == len(set(planned))
    taken = {message.number for message in found.take}
    for number, name in enumerate(names, 1):
        if not name or count[name] > 1:
            assert number in taken, "nobody knows whether it was taken"
        elif Uid("", name) not in known:
            assert number in taken
    assert len({message.found.uid for message in found.take}) == len(found.take)
    assert {uid.uid for uid in found.gone()} == {uid.uid for uid in known} - set(names)


@given(st.integers(0, 3), st.integers(0, 3))
def test_of_messages_that_look_alike_as_many_are_taken_as_there_are(before: int, now: int) -> None:
    rules = Rules(True, NOW)
    first = survey([""] * before, rules, {})
    known = marks(*(mark(message.found.uid.uid) for message in first.take))
    assert len(first.take) == before
    assert all(uid.uid.startswith(HASHED) for uid in known)
    second = survey([""] * now, rules, known)
    assert len(second.take) == max(0, now - before)
    assert len(second.gone()) == max(0, before - now)


@pytest.mark.slow
def test_a_hundred_thousand_kept_messages_cost_little() -> None:
    known = marks(*(mark(f"{number:032x}") for number in range(100_000)))
    tracemalloc.start()
    try:
        found = Survey(Rules(True, NOW), known)
        for start in range(0, 100_000, 1000):
            found.note_sizes([(number + 1, 3000) for number in range(start, start + 1000)])
        for start in range(0, 100_000, 1000):
            found.note_names([(number + 1, f"{number:032x}") for number in range(start, start + 1000)])
        found.names_end()
        found.plan()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.take, found.delete, found.gone()) == ([], [], [])
    assert peak < 12_000_000, "most of it is the set of marks whose message was not met"
