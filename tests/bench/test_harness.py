"""The parts of the benchmarks that compute: what they print must be true."""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"

STRACE_SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 71.03    0.101234         101      1000           fdatasync
 28.97    0.041300         206       200         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.142534         118      1200         1 total
"""


@pytest.fixture(scope="module", autouse=True)
def _harness_can_be_imported() -> Iterator[None]:
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.fixture
def measure() -> Any:
    from harness import measure

    return measure


def test_a_spread_is_the_median_with_both_ends(measure: Any) -> None:
    assert measure.spread([3, 1, 2, 9]) == measure.Spread(2.5, 1, 9)
    assert str(measure.spread([1.5])) == "1.50 (1.50–1.50)"


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 10), (95, 19), (96, 20), (100, 20)])
def test_so_many_percent_do_not_exceed_a_percentile(measure: Any, percent: int, expected: int) -> None:
    assert measure.percentile(list(range(20, 0, -1)), percent) == expected


def test_a_ratio_compares_with_the_best_of_its_own_round(measure: Any) -> None:
    rounds = [
        {"ours": 300, "left": 100, "right": 50, "not durable": 1000},
        {"ours": 300, "left": 100, "right": 200},
        {"ours": 300, "left": 120},
    ]
    assert measure.ratios_to_best(rounds, "ours", ["left", "right"]) == measure.Spread(2.5, 1.5, 3.0)


def test_without_anybody_to_compare_with_there_is_no_ratio(measure: Any) -> None:
    assert measure.ratios_to_best([{"ours": 300}], "ours", ["left"]) is None


def test_calls_are_summed_from_the_summary_of_strace(measure: Any) -> None:
    assert measure.parse_summary(STRACE_SUMMARY) == 1200
    assert measure.parse_summary("") == 0


def test_counting_the_syncs_of_no_process_gives_none(measure: Any) -> None:
    with measure.counting_syncs([]) as syncs:
        pass
    assert syncs.count == 0


def test_a_chart_has_a_bar_for_each_number_and_escapes_names() -> None:
    from harness.chart import Chart, svg

    series = {"masqmail": [200.0, 4], "a & b": [100, None], "limit": [400, 8]}
    picture = svg([Chart("Speed <fast>", "per second", ["one", "two"], series, bounds=["limit"])])
    root = ElementTree.fromstring(picture)
    bars = [element for element in root.iter() if element.tag.endswith("rect")]
    assert [bar.get("class") for bar in bars] == ["ours", "bar", "bound", "ours", "bound"]
    widths = [float(bar.get("width") or 0) for bar in bars]
    assert widths[0] == 2 * widths[1] == widths[2] / 2
    assert widths[3] == widths[4] / 2, "each group has its own scale"
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "Speed <fast>" in texts
    assert "a & b" in texts


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (0.03456, "0.0346"), (1.0, "1"), (12.34, "12.3"), (1234.4, "1234"), (3, "3")]
)
def test_numbers_are_shown_with_the_digits_that_count(number: float, text: str) -> None:
    from harness.chart import short

    assert short(number) == text


def test_a_table_has_columns_that_stand_below_each_other() -> None:
    from harness.report import Table, text_of

    assert text_of(Table("Speed", ["", "rate"], [["masqmail", 1234.4], ["exim", None]])) == (
        "**Speed**\n\n|          | rate |\n|----------|------|\n| masqmail | 1234 |\n| exim     | –    |"
    )


def test_names_take_turns_at_being_first() -> None:
    from harness.load import rotated

    assert [rotated(["a", "b", "c"], turn) for turn in (0, 1, 5)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
    ]


def test_a_load_can_be_smaller_for_a_slow_peer() -> None:
    from harness.load import Load

    load = Load(4096, 10, 2000, {"exim": 500})
    assert str(load) == "4 KB × 10"
    assert load.for_peer("exim:tuned").count == 500
    assert load.for_peer("postfix").count == 2000
    assert load.part(4).for_peer("exim").count == 125
