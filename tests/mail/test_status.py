"""A status is one verdict whose parts agree."""

import pytest

from masqmail.mail import status
from masqmail.mail.status import MAILBOX_FULL, MAILBOX_UNKNOWN, START_INPUT, Status

NAMED = {name: value for name, value in vars(status).items() if isinstance(value, Status)}


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (199, ""),
        (600, ""),
        (250, "5.0.0"),
        (550, "4.1.1"),
        (354, "3.0.0"),
        (250, "2.0"),
        (250, "2.01.0"),
        (250, "2.1000.0"),
    ],
)
def test_parts_that_disagree_are_refused(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        Status(code, enhanced, "text")


@pytest.mark.parametrize(
    ("code", "kinds"),
    [
        (250, (True, False, False, False)),
        (354, (False, True, False, False)),
        (451, (False, False, True, False)),
        (550, (False, False, False, True)),
    ],
)
def test_the_first_digit_decides(code: int, kinds: tuple[bool, ...]) -> None:
    made = Status(code, "", "")
    assert (made.is_success, made.is_intermediate, made.is_temporary, made.is_permanent) == kinds


def test_a_report_has_a_code_also_where_the_peer_gave_none() -> None:
    assert Status(450, "", "busy").dsn_code == "4.0.0"
    assert MAILBOX_FULL.dsn_code == "4.2.2"


def test_a_status_is_written_on_one_line() -> None:
    assert str(Status(550, "5.1.1", "no such\nuser")) == "550 5.1.1 no such user"
    assert str(Status(250, "", "")) == "250"


def test_other_words_keep_the_verdict() -> None:
    assert MAILBOX_UNKNOWN.with_text("who?") == Status(550, "5.1.1", "who?")


def test_every_named_status_but_354_has_an_enhanced_code() -> None:
    assert [name for name, value in NAMED.items() if not value.enhanced] == ["START_INPUT"]
    assert START_INPUT.code == 354
