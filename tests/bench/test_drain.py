"""The slow-link benchmark: which runs it makes, and what it makes of them."""

import pytest
from drain import CASES, Job, Sample, jobs, result_of, table_of
from harness.echo import checksum, request
from harness.limit import Setting, least_bytes
from harness.line import LINKS, Counts
from harness.receiver import Server
from harness.slowrun import Run, judge
from harness.submit import letters

SETTING = Setting("none", None)
MAIL = letters(0, 2, 3072, "ann@example.org", "bob@example.net")


def run(arrived: list[tuple[float, str]]) -> Run:
    up, down = Counts(packets=9, bytes=7000, syns=1, first_syn_at=10.1, lost=1), Counts(bytes=500, dropped=2)
    return judge(10.0, arrived, MAIL, SETTING, LINKS["geo"], up, down, 0.5)


def test_the_clock_stops_at_the_last_message() -> None:
    found = run([(12.0, "<a>"), (13.0, "<b>")])
    assert (found.seconds, found.messages, found.missing, found.repeated) == (3.0, 2, 0, 0)
    assert found.syn_seconds == pytest.approx(0.1)
    assert found.round_trips == pytest.approx((3.0 - 7000 * 8 / 256_000) / 0.6 / 2)
    assert (found.connections, found.up_bytes, found.down_bytes, found.lost) == (1, 7000, 500, 3)
    assert found.least_bytes == least_bytes(MAIL, SETTING)


def test_a_message_that_came_twice_counts_when_it_came_first() -> None:
    found = run([(12.0, "<a>"), (13.0, "<b>"), (20.0, "<b>")])
    assert (found.seconds, found.repeated, found.missing) == (3.0, 1, 0)


def test_missing_messages_are_told() -> None:
    assert run([(12.0, "<a>")]).missing == 1
    assert run([]).missing == 2


def test_peers_take_turns() -> None:
    found = jobs([CASES["data"]], ["geo"], ["masqmail", "postfix"], 2)
    assert [(job.seed, job.peer) for job in found] == [
        (0, "masqmail"),
        (0, "postfix"),
        (1, "masqmail"),
        (1, "postfix"),
    ]


def test_peers_that_take_minutes_run_once_unless_asked_for() -> None:
    case = CASES["tls"]
    often = [job.peer for job in jobs([case], ["geo"], [], 3)]
    assert {often.count(peer) for peer in ("exim", "postfix:single")} == {1}
    assert often.count("masqmail") == 3
    assert [job.peer for job in jobs([case], ["geo"], ["exim"], 3)] == ["exim"] * 3


def test_a_run_is_a_command_that_says_everything() -> None:
    command = Job(CASES["data"], "geo", "postfix:tuned", 3).command
    assert command[2:] == [
        *("postfix:tuned", "geo", "--seed", "3"),
        *("--tls", "starttls", "--no-chunking", "--work", "0.0"),
    ]


def test_a_run_may_be_the_second_one() -> None:
    assert Job(CASES["slow-again"], "geo", "masqmail", 0).command[-1] == "--again"


def test_where_there_is_tls_there_is_a_login() -> None:
    assert Server("none").setting.login is None
    assert Server("implicit").setting.login is not None


def test_the_table_has_the_quickest_first_and_compares_with_ours() -> None:
    quick, slow = run([(12.0, "<a>"), (13.0, "<b>")]), run([(12.0, "<a>"), (16.0, "<b>")])
    case = CASES["tls"]
    samples = [Sample(Job(case, "geo", "postfix", 0), slow), Sample(Job(case, "geo", "masqmail", 0), quick)]
    rows = table_of(case, "geo", samples).rows
    assert [(row[0], row[3]) for row in rows] == [("masqmail", "1.00"), ("postfix", "2.00")]
    (chart,) = result_of(case, samples).charts
    assert chart.series["postfix"] == [6.0]
    assert chart.series["limit"] == [quick.limit_seconds]


def test_what_went_wrong_stands_beside_the_name() -> None:
    case = CASES["tls"]
    samples = [Sample(Job(case, "geo", "exim", 0), run([(12.0, "<a>")]))]
    assert table_of(case, "geo", samples).rows[0][0] == "exim (1 missing or twice)"


def test_letters_have_their_size_and_an_identity_each() -> None:
    assert {len(letter.content) for letter in MAIL} == {3072}
    assert b"<bench-000000@laptop.example.org>" in MAIL[0].content
    assert b"<bench-000001@laptop.example.org>" in MAIL[1].content
    assert all(letter.content.endswith(b"\r\n") for letter in MAIL)


def test_the_checksum_of_a_whole_echo_request_is_zero() -> None:
    assert checksum(request(7, 56)) == 0
    assert checksum(b"\x45\x00\x00") == 0xBAFF
