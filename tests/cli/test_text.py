"""Aligned, short, and harmless for a terminal."""

from datetime import UTC, datetime, timedelta

import pytest

from masqmail.cli import text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal of 60 columns that knows colours."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("dsl", "up", "carrier on ppp0"), ("office", "down", "")]
    assert text.table(rows, indent="  ") == "  dsl     up    carrier on ppp0\n  office  down"


def test_no_rows_are_no_table() -> None:
    assert text.table([]) == ""


def test_a_long_last_cell_stays_in_one_line_for_programs() -> None:
    assert text.table([("a", "word " * 100)]).count("\n") == 0


@pytest.mark.usefixtures("terminal")
def test_a_long_last_cell_is_wrapped_in_its_column_on_a_terminal() -> None:
    shown = text.table([("gmx", "link dsl is down: " + "no carrier " * 5)], indent="  ")
    assert shown == ("  gmx  link dsl is down: no carrier no carrier no carrier no\n       carrier no carrier")


@pytest.mark.usefixtures("terminal")
def test_states_are_coloured_without_disturbing_the_columns() -> None:
    assert text.table([("up", "x"), ("down", "y")]) == "\x1b[32mup\x1b[0m    x\n\x1b[2mdown\x1b[0m  y"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert text.paint_state("up") == "up"


def test_what_is_no_terminal_gets_no_colour() -> None:
    assert text.paint_state("up") == "up"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain", "plain"),
        ("Grüße an Łukasz", "Grüße an Łukasz"),
        ("one\r\ntwo\n three", "one two three"),
        ("\x1b[2J\x07boo", "?[2J?boo"),
        ("turn\u202earound\x9b", "turn?around?"),
        (["a\x00", {"b": "c\x1b", "n": 5}], ["a?", {"b": "c?", "n": 5}]),
        (None, None),
    ],
)
def test_no_text_of_a_stranger_moves_the_cursor(given: object, shown: object) -> None:
    assert text.clean(given) == shown


def test_lines_of_a_message_keep_tabs_line_ends_and_utf8() -> None:
    assert text.clean_lines("a\tb\nü\x1b[2J\x7f\r".encode()) == "a\tb\nü?[2J??".encode()


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (9949, "9.9 KB"), (9960, "10 KB"), (250_000, "250 KB"),
        (999_499, "999 KB"), (999_600, "1.0 MB"), (50_000_000, "50 MB"), (2_500_000_000_000, "2500 GB"),
    ],
)  # fmt: skip
def test_sizes_are_powers_of_1000(size_bytes: int, shown: str) -> None:
    assert text.size(size_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "now"), (-0.4, "now"), (-1, "1 s ago"), (-59, "59 s ago"), (-60, "1 min ago"), (-185, "3 min 5 s ago"),
        (-15 * 60, "15 min ago"), (-4 * 3600 - 600, "4 h 10 min ago"), (-30 * 3600, "1 d 6 h ago"),
        (-40 * 86400 - 5000, "40 d ago"), (90, "in 1 min 30 s"), (5 * 86400, "in 5 d"),
    ],
)  # fmt: skip
def test_times_are_told_from_now(seconds: float, shown: str) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert text.since((now + timedelta(seconds=seconds)).isoformat(), now) == shown


def test_no_time_is_no_text() -> None:
    assert text.since(None) == ""


@pytest.mark.parametrize(("number", "shown"), [(0, "0 messages"), (1, "1 message"), (2, "2 messages")])
def test_one_thing_is_no_things(number: int, shown: str) -> None:
    assert text.count(number, "message") == shown
