"""How a program ends is its verdict."""

import pytest

from masqmail.delivery import pipe
from masqmail.delivery.pipe import SYSEXITS, judge
from masqmail.delivery.program import Ending
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover


def test_exit_code_zero_delivers() -> None:
    outcome = judge("fax", Ending(0, "sent"))
    assert isinstance(outcome, Delivered)
    assert outcome.handover is Handover.MAILBOX


def test_exit_code_75_defers_with_the_last_line() -> None:
    outcome = judge("fax", Ending(75, "line busy"))
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.culprit) == ("line busy", Culprit.RECIPIENT)


@pytest.mark.parametrize(
    ("ending", "enhanced", "reason"),
    [
        (Ending(1, "no paper"), "5.3.0", "no paper (exit code 1)"),
        (Ending(67, "who?"), "5.1.1", "who? (exit code 67, user unknown)"),
        (Ending(69), "5.3.0", "fax ended with exit code 69, service unavailable"),
        (Ending(127, "sh: nofax: not found"), "5.3.0", "sh: nofax: not found (exit code 127)"),
    ],
)
def test_any_other_exit_code_fails_with_the_last_line(ending: Ending, enhanced: str, reason: str) -> None:
    outcome = judge("fax", ending)
    assert isinstance(outcome, Failed)
    assert (outcome.status.enhanced, outcome.reason) == (enhanced, reason)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (Ending(-9), "fax was ended by SIGKILL"),
        (Ending(-11, "half"), "fax was ended by SIGSEGV: half"),
        (Ending(-40), "fax was ended by signal 40"),
        (Ending(None, "dialling"), "fax did not end in time: dialling"),
    ],
)
def test_what_is_no_verdict_defers(ending: Ending, reason: str) -> None:
    outcome = judge("fax", ending)
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.culprit) == (reason, Culprit.LOCAL)


def test_every_code_of_sysexits_but_75_has_its_words() -> None:
    assert sorted([*SYSEXITS, pipe.EX_TEMPFAIL]) == list(range(64, 79))


def test_a_program_is_run_and_judged() -> None:
    outcome = pipe.deliver(["sh", "-c", "echo gone; exit 67"], [], environment={"PATH": "/bin"}, directory="/")
    assert isinstance(outcome, Failed)
    assert outcome.reason == "gone (exit code 67, user unknown)"
