"""The table of the session."""

import pytest

from masqmail.mail.status import Status
from masqmail.proto.smtp.command import Verb
from masqmail.proto.smtp.session import NEXT, WAIT_SECONDS, Offers, State, Wait, refusal

EVERY_PAIR = [(state, verb) for state in State if state is not State.CLOSED for verb in Verb]


def test_nothing_is_read_in_a_closed_session() -> None:
    assert not any(state is State.CLOSED for state, _ in NEXT)


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_greetings_noop_rset_help_and_quit_are_always_in_order(state: State) -> None:
    for verb in (Verb.EHLO, Verb.HELO, Verb.NOOP, Verb.RSET, Verb.HELP, Verb.VRFY, Verb.QUIT):
        assert (state, verb) in NEXT


def test_every_state_can_be_reached() -> None:
    reached = {State.START}
    while grown := {NEXT[pair] for pair in EVERY_PAIR if pair[0] in reached and pair in NEXT} - reached:
        reached |= grown
    assert reached == set(State) - {State.BROKEN}  # which only a refused chunk leads to


@pytest.mark.parametrize(("state", "verb"), [pair for pair in EVERY_PAIR if pair not in NEXT])
def test_what_is_not_in_the_table_is_refused_for_good(state: State, verb: Verb) -> None:
    status = refusal(state, verb)
    assert isinstance(status, Status)
    assert status.code in (503, 554)


@pytest.mark.parametrize(("allowed", "announced"), [(1, 1), (1000, 1000), (999_999, 999_999), (5_000_000, 999_999)])
def test_the_limit_of_recipients_is_announced_in_at_most_six_digits(allowed: int, announced: int) -> None:
    offers = Offers("mail.example.net", 1000, max_recipients=allowed)
    assert f"LIMITS RCPTMAX={announced}" in offers.keywords(is_tls=False, is_authenticated=False)


def test_every_wait_has_its_time() -> None:
    assert set(WAIT_SECONDS) == set(Wait)
    assert all(seconds >= 60 for seconds in WAIT_SECONDS.values()), "the shell looks again and again meanwhile"
    assert WAIT_SECONDS[Wait.COMMAND] >= 300  # RFC 5321 §4.5.3.2.7
