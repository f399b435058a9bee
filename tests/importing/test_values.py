"""Old values as ours."""

import pytest

from masqmail.importing.values import BadOldValue, duration, number, split_include, split_list, split_pair, truth


@pytest.mark.parametrize("text", ["yes", "Yes", "on", "TRUE", "yesterday"])
def test_only_the_beginning_of_a_yes_counts(text: str) -> None:
    assert truth(text) is True


@pytest.mark.parametrize("text", ["no", "OFF", "false", "nothing"])
def test_only_the_beginning_of_a_no_counts(text: str) -> None:
    assert truth(text) is False


@pytest.mark.parametrize("text", ["", "1", "y", "maybe"])
def test_what_is_neither_is_told(text: str) -> None:
    with pytest.raises(BadOldValue):
        truth(text)


@pytest.mark.parametrize(("text", "expected"), [("12", 12), ("12 KB", 12), ("x", 0), ("", 0), ("-3", -3)])
def test_numbers_end_where_their_digits_do(text: str, expected: int) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("90s", "90s"), ("1h30m", "1h"), ("2w", "14d"), ("48h", "2d")])
def test_times_have_one_unit(text: str, expected: str) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "h", "0s", "999999999w"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(BadOldValue):
        duration(text)


def test_items_lose_their_blanks_and_say_so() -> None:
    listed = split_list("a; b;;c ;\n d")
    assert listed.items == ("a", "b", "c", "d")
    assert listed.padded == ("b", "c", "d")


def test_a_list_file_has_an_item_to_a_line() -> None:
    assert split_include("# friends\na@b\n\n  c\n") == ("a@b", "c")


def test_a_map_is_split_at_the_first_colon() -> None:
    assert split_pair(" john : a:b ") == ("john", "a:b")
    with pytest.raises(BadOldValue):
        split_pair("john")
