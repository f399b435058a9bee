"""What a fetch has done, in words."""

import pytest

from masqmail.daemon.fetch.request import End, summary
from masqmail.retrieval.account import Tally


@pytest.mark.parametrize(
    ("tally", "words"),
    [
        (Tally(), "nothing new"),
        (Tally(taken=1, taken_bytes=100), "1 message taken (100 B)"),
        (Tally(left=1), "1 message left on the server for its size"),
        (Tally(refused=2), "2 messages refused"),
        (Tally(taken=2, taken_bytes=3000, deleted=3), "2 messages taken (3.0 KB), 3 deleted on the server"),
        (Tally(moved=4), "4 moved on the server"),
    ],
)
def test_what_a_fetch_has_done_is_said_in_words(tally: Tally, words: str) -> None:
    assert summary(End(tally)) == words
