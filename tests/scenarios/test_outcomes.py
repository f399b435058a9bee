"""What each event of a delivery leads to, row by row as the original documented itself, and what we made better.

Rows that other tests play already are named in `ELSEWHERE`, so that the table is whole.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from masqmail.routing.link import LinkState
from masqmail.spool.api import StoredRecipient
from masqmail.spool.states import State
from support.daemon import CONFIGURATION, Daemon
from support.inprocess import USER, House
from support.mail import message
from support.peers import wait_until
from support.ports import free_port
from support.scripted_server import ALL_KEYWORDS, Policy, ScriptedServer, listening, no_policy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

ANN, BOB, CARL = WHO = ("ann@example.net", "bob@example.net", "carl@example.net")
QUEUED, DEFERRED, FAILED, DELIVERED = State.QUEUED, State.DEFERRED, State.FAILED, State.DELIVERED

PLAIN = ("SIZE 50000000", "ENHANCEDSTATUSCODES")
PIPELINED = (*PLAIN, "PIPELINING")

#: Rows of the delivery over SMTP, and where they are played.
ELSEWHERE: dict[int, str] = {
    1: "tests/daemon/test_poplogins.py::"
    "test_a_login_that_fails_pauses_the_route_until_it_succeeds_and_no_message_pays",
    3: "tests/delivery/test_wrapper.py::test_a_program_that_cannot_be_started_is_a_failed_connection",
    4: "tests/daemon/test_recipient_matrix.py::test_each_recipient_ends_where_it_must",
    9: "tests/daemon/test_recipient_matrix.py::test_each_recipient_ends_where_it_must",
    13: "tests/daemon/test_recipient_matrix.py::test_each_recipient_ends_where_it_must",
    14: "tests/daemon/test_warnings.py::test_a_connection_that_is_lost_again_and_again_repeats_no_warning",
    15: "tests/daemon/test_cut_off.py::test_what_a_filter_cuts_off_twice_waits_and_what_is_behind_it_is_delivered",
    16: "tests/daemon/test_feed.py::test_a_message_that_cannot_be_prepared_is_put_off_and_the_others_go",
    17: "tests/daemon/test_recipient_matrix.py::test_each_recipient_ends_where_it_must",
    18: "tests/daemon/test_desk.py::test_nothing_fails_without_its_report_because_of_a_bug",
    19: "tests/delivery/test_piperoute.py::test_the_exit_code_decides_and_the_last_line_is_the_reason",
}

#: Rows of the local delivery.
LOCAL_ELSEWHERE = {
    "no such account": "tests/daemon/test_directory.py::test_a_user_gets_the_local_class_and_an_unknown_one_fails",
    "lock busy": "tests/delivery/test_local.py::test_a_busy_mailbox_defers",
    "cannot open or append": "tests/delivery/test_local.py::test_no_error_of_the_system_fails_a_recipient",
    "cannot become the user": "tests/daemon/test_agent.py::test_a_missing_account_defers",
    "method that is not configured": "tests/config/test_rules.py::test_a_broken_rule_is_one_fault_with_its_line",
}


def about(answers: Mapping[tuple[str, str], str]) -> Policy:
    """A policy from a table of (step, subject); an empty subject stands for any."""
    return lambda step, subject: answers.get((step, subject)) or answers.get((step, ""))


@dataclass(frozen=True)
class Case:
    """One event: what the server says, where ann, bob and carl end, and what people read.

    `report` are the texts that the one report to the sender has; without any there is no report.
    """

    row: int
    name: str
    states: tuple[State, State, State]
    reasons: tuple[str, str, str]
    policy: Policy = no_policy
    keywords: tuple[str, ...] = ALL_KEYWORDS
    route: str = ""
    report: tuple[str, ...] = ()
    not_in_report: tuple[str, ...] = ()
    is_there: bool = True
    never_said: tuple[str, ...] = ()


def case(row: int, name: str, state: State, reason: str, **more: object) -> Case:
    """An event that is the same for all three."""
    return Case(row, name, (state,) * 3, (reason,) * 3, **more)  # type: ignore[arg-type]


LOGIN = 'username = "john"\npassword_file = "secret"\nauth = "plain"\n'
MIXED = {
    ("RCPT", ANN): "550 5.1.1 no ann here",
    ("RCPT", BOB): "450 4.2.1 bob is busy",
    ("RCPT", CARL): "552 5.2.2 carl is full",
}
PARTLY = {key: answer for key, answer in MIXED.items() if key != ("RCPT", ANN)}
ANSWERS = ("no ann here", "bob is busy", "carl is full")

CASES = [
    case(2, "refused", QUEUED, "connection refused", is_there=False),
    case(
        2,
        "refused-and-bounce-on-connect-error",
        FAILED,
        "connection refused",
        is_there=False,
        route="bounce_on_connect_error = true\n",
        report=(*WHO, "connection refused"),
    ),
    case(5, "greeting-4xx", QUEUED, "450 4.3.2 busy", policy=about({("CONNECT", ""): "450 4.3.2 busy"})),
    case(5, "greeting-421", QUEUED, "421 4.3.2 busy", policy=about({("CONNECT", ""): "421 4.3.2 busy"})),
    case(5, "ehlo-4xx", QUEUED, "451 4.3.0 later", policy=about({("EHLO", ""): "451 4.3.0 later"})),
    case(6, "greeting-5xx", QUEUED, "554 5.3.2 no", policy=about({("CONNECT", ""): "554 5.3.2 no"})),
    case(
        6,
        "ehlo-and-helo-5xx",
        QUEUED,
        "550 5.7.1 go away",
        policy=about({("EHLO", ""): "502 5.5.1 what", ("HELO", ""): "550 5.7.1 go away"}),
    ),
    case(6, "garbage", QUEUED, "answered nonsense", policy=about({("CONNECT", ""): "SSH-2.0-OpenSSH"})),
    case(7, "login-not-offered", QUEUED, "offers no login", route=LOGIN, never_said=("MAIL",)),
    case(
        7,
        "login-refused",
        QUEUED,
        "535 5.7.8 wrong",
        route=LOGIN,
        keywords=(*ALL_KEYWORDS, "AUTH PLAIN"),
        policy=about({("PASSWORD", ""): "535 5.7.8 wrong"}),
        never_said=("MAIL",),
    ),
    case(8, "too-big", FAILED, "552 5.3.4", keywords=("SIZE 100",), report=(*WHO, "100"), never_said=("MAIL",)),
    *(
        Case(
            10,
            f"some-refused-{len(keywords)}",
            (DELIVERED, DEFERRED, FAILED),
            ("", "bob is busy", "carl is full"),
            policy=about(PARTLY),
            keywords=keywords,
            report=(CARL, "552 5.2.2 carl is full"),
            not_in_report=("bob is busy", BOB, ANN),
        )
        for keywords in (PLAIN, PIPELINED, ALL_KEYWORDS)
    ),
    *(
        Case(
            row,
            f"all-refused-{len(keywords)}",
            (FAILED, DEFERRED, FAILED),
            ANSWERS,
            policy=about(MIXED),
            keywords=keywords,
            report=(ANN, "550 5.1.1 no ann here", CARL, "552 5.2.2 carl is full"),
            not_in_report=("bob is busy", BOB),
        )
        for row, keywords in ((11, PLAIN), (12, PIPELINED), (12, ALL_KEYWORDS))
    ),
]


@dataclass
class Servers:
    """The server of a case, made anew for each connection."""

    case: Case
    made: list[ScriptedServer] = field(default_factory=list)

    def make(self) -> ScriptedServer:
        self.made.append(ScriptedServer(keywords=self.case.keywords, policy=self.case.policy))
        return self.made[-1]

    def verbs(self) -> set[str]:
        return {re.split("[ :]", line)[0].upper() for server in self.made for line in server.commands}

    def taken(self, subject: str) -> list[tuple[str, ...]]:
        """Who got the message with this subject, once for each copy."""
        return [
            taken.recipients for server in self.made for taken in server.taken if subject.encode() in taken.content
        ]


@pytest.mark.anyio
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row}-{case.name}")
async def test_each_event_leads_where_the_table_says(case: Case, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sesame\n")
    servers = Servers(case)
    expected = dict(zip(WHO, case.states, strict=True))
    async with listening(servers.make) as listener:
        house = House(tmp_path, listener.address if case.is_there else f"127.0.0.1:{free_port()}", case.route)
        async with house.daemon() as tenant:
            await tenant.submit(WHO, message("m1"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            queue = await tenant.until(partial(has_come_to, expected))
            for who, reason in zip(WHO, case.reasons, strict=True):
                if not expected[who].is_ended:
                    assert queue[who].reason and reason in queue[who].reason
                    assert queue[who].attempts == (expected[who] is DEFERRED)
            ended = {entry.recipient: entry for entry in await tenant.daemon.spool.history(limit=100)}
            for who, reason in zip(WHO, case.reasons, strict=True):
                if expected[who].is_ended:
                    assert ended[who].event == expected[who].value
                    assert reason in ended[who].text
            if case.report:
                await tenant.until(lambda queue: set(queue) <= set(WHO))
    check_report(case, house)
    wanted = tuple(who for who in WHO if expected[who] is DELIVERED)
    assert servers.taken("m1") == ([wanted] if wanted else [])
    assert not servers.verbs() & set(case.never_said)


def has_come_to(expected: Mapping[str, State], queue: Mapping[str, StoredRecipient]) -> bool:
    """Whether each recipient is in its state, with a reason if it waits. Those of a message that ended are gone."""
    for who, state in expected.items():
        found = queue.get(who)
        if found is None and not (state.is_ended and all(state.is_ended for state in expected.values())):
            return False
        if found is not None and (found.state is not state or not (found.reason or state.is_ended)):
            return False
    return True


def check_report(case: Case, house: House) -> None:
    """One report for all that failed, with each one's own reason, and nothing about the others."""
    reports = [report.decode() for report in house.mailbox()]
    assert len(reports) == bool(case.report)
    for report in reports:
        about_it = report.partition("message/rfc822")[0].partition("text/rfc822-headers")[0]
        assert [text for text in case.report if text not in about_it] == []
        assert [text for text in case.not_in_report if text in about_it] == []


@pytest.mark.anyio
@pytest.mark.parametrize("keywords", [PLAIN, PIPELINED, ALL_KEYWORDS], ids=len)
async def test_after_a_message_that_nobody_took_the_next_one_goes_over_the_same_connection(
    keywords: tuple[str, ...], tmp_path: Path
) -> None:
    """Row 12: the original left the answer to DATA unread and the dialogue out of step."""
    servers = Servers(case(12, "next", FAILED, "", policy=about(MIXED), keywords=keywords))
    async with listening(servers.make) as listener:
        house = House(tmp_path, listener.address)
        async with house.daemon() as tenant:
            await tenant.submit([ANN, CARL], message("m1"))
            await tenant.submit(["dora@example.net"], message("m2"))
            await tenant.daemon.manual_links.declare("line", LinkState.UP)
            await tenant.until(lambda queue: not queue)
    assert (servers.taken("m1"), servers.taken("m2")) == ([], [("dora@example.net",)])
    assert len(servers.made) == 1


ALIASES = """\
fine: "|/bin/sh -c ': fine; cat > /dev/null; exit 0'"
later: "|/bin/sh -c ': later; cat > /dev/null; echo come back; exit 75'"
never: "|/bin/sh -c ': never; cat > /dev/null; echo not wanted; exit 1'"
killed: "|/bin/sh -c ': killed; kill -9 $$'"
missing: "|/nonexistent/missing"
nowhere: {folder}/nowhere/box
link: {folder}/open/link
"""


@pytest.fixture(scope="module")
def local_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose aliases lead to programs and files; under root they belong to nobody."""
    folder = tmp_path_factory.mktemp("local")
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o011)
    port = free_port()
    text = CONFIGURATION.format(folder=folder, port=port)
    if os.geteuid() == 0:
        text = text.replace("[host]\n", '[host]\nuser = "nobody"\ngroup = "nogroup"\npostmaster = "games"\n', 1)
    daemon = Daemon(folder, port=port, text=text.replace(f'"{folder}/maildir"', f'"{folder}/open/${{user}}"'))
    (folder / "open").mkdir()
    (folder / "open").chmod(0o1777)
    (folder / "open/link").symlink_to(folder / "open/elsewhere")
    (folder / "aliases").write_text(ALIASES.format(folder=folder))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.mark.parametrize(
    ("name", "event", "reason"),
    [
        ("fine", "delivered", ""),
        ("later", "deferred", "come back"),
        ("never", "failed", "not wanted"),
        ("killed", "deferred", "SIGKILL"),
        ("missing", "deferred", "/nonexistent/missing"),
        ("nowhere", "deferred", "nowhere/box"),
        ("link", "deferred", "open/link"),
    ],
)
def test_only_a_program_s_own_verdict_fails_local_mail(
    name: str, event: str, reason: str, local_daemon: Daemon
) -> None:
    sender = "games" if os.geteuid() == 0 else USER
    done = local_daemon.sendmail("-f", sender, "-i", name, message=message(name))
    assert done.returncode == 0, done.stderr

    def happened() -> list[dict[str, str]]:
        entries = local_daemon.ask("log", "--limit", "500")
        return [entry for entry in entries if entry["event"] == event and name in str(entry)]

    def reports() -> list[Path]:
        boxes = (local_daemon.folder / "open").glob("*/new/*")
        return [report for report in boxes if f"X-Test: {name}\n" in report.read_text()]

    assert reason in wait_until(happened, f"{name} is {event}")[0]["text"]
    if event == "failed":
        assert len(wait_until(reports, "a report")) == 1
    else:
        assert reports() == []
    assert not (local_daemon.folder / "open/elsewhere").exists()


def test_every_row_is_played_here_or_elsewhere() -> None:
    played = {case.row for case in CASES}
    assert played | ELSEWHERE.keys() == set(range(1, 20))
    for place in (*ELSEWHERE.values(), *LOCAL_ELSEWHERE.values()):
        path, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), place
