"""The benchmark of fetching: which runs it makes, and what it makes of them."""

import pytest
from fetch import CASES, Job, Sample, jobs, result_of, table_of
from harness.fetchrun import Run, in_words, judge, letters_of, parse_sizes
from harness.line import LINKS, Counts

LETTERS = letters_of([2000, 3000])
FIRST, SECOND = (letter.content for letter in LETTERS)


def run(contents: list[bytes], seconds: float = 5.0, left: int = 0) -> Run:
    up, down = Counts(bytes=500, syns=2), Counts(bytes=1_250_000, dropped=3)
    return judge(seconds, LETTERS, contents, left, LINKS["overseas"], up, down, 0.5)


def job(peer: str, case: str = "pop3") -> Job:
    return Job(CASES[case], "overseas", peer, 0, "2x3072")


def test_round_trips_are_what_remains_without_the_time_of_the_bytes() -> None:
    found = run([b"Received: by us\r\n" + FIRST, SECOND])
    assert found.round_trips == pytest.approx((5.0 - 1.0) / 0.3)
    assert (found.messages, found.missing, found.repeated, found.left) == (2, 0, 0, 0)
    assert (found.connections, found.up_bytes, found.down_bytes, found.dropped) == (2, 500, 1_250_000, 3)


def test_what_is_missing_or_came_twice_is_told() -> None:
    found = run([FIRST, FIRST, b"something else"], left=1)
    assert (found.messages, found.missing, found.repeated, found.left) == (1, 1, 1, 1)
    assert str(Sample(job("getmail"), found)).endswith("5.00 s (1 missing, 1 repeated, 1 left)")


def test_sizes_are_mixed_with_each_other() -> None:
    assert parse_sizes("4x30,2x500") == [30, 500, 30, 30, 500, 30]
    assert in_words("4x3072,2x50000") == "4 messages of 3 KB, 2 of 50 KB"


@pytest.mark.parametrize("text", ["", "5", "5x", "x5", "2x3;4x5"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_sizes(text)


def test_who_takes_minutes_runs_once_unless_asked_for() -> None:
    often = [job.peer for job in jobs([CASES["pop3"]], ["geo"], [], 3, "")]
    assert {often.count(peer) for peer in ("fetchmail", "getmail")} == {1}
    assert {often.count(peer) for peer in ("masqmail", "mpop")} == {3}
    assert [job.peer for job in jobs([CASES["pop3"]], ["geo"], ["getmail"], 2, "")] == ["getmail"] * 2


def test_nobody_fetches_by_a_protocol_that_he_does_not_speak() -> None:
    assert "mpop" not in CASES["imap"].peers
    assert {"masqmail", "fetchmail", "getmail"} <= set(CASES["imap"].peers)


def test_a_run_is_a_command_that_says_everything() -> None:
    assert job("mpop").command[2:] == [
        *("mpop", "overseas", "--seed", "0", "--protocol", "pop3", "--sizes", "2x3072"),
    ]


def test_the_table_has_the_quickest_first_and_compares_with_ours() -> None:
    samples = [Sample(job("getmail"), run([FIRST, SECOND], 15.0)), Sample(job("masqmail"), run([FIRST, SECOND]))]
    table = table_of(CASES["pop3"], "overseas", samples)
    assert [(row[0], row[2]) for row in table.rows] == [("masqmail", "1.00"), ("getmail", "3.00")]
    assert table.title == "POP3, 2 messages of 3 KB; overseas: 300 ms, 10000 kbit/s"
    (chart,) = result_of(CASES["pop3"], samples).charts
    assert chart.series == {"masqmail": [5.0], "getmail": [15.0]}
