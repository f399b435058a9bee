"""Questions and answers of RFC 1413, exact bytes on one side, names on the other."""

import pytest

from masqmail.proto.ident import MAX_REPLY_BYTES, MAX_USER_CHARACTERS, Question


def answer(*pieces: bytes) -> str:
    question = Question(41234, 25)
    for piece in pieces:
        question.receive(piece)
    assert question.is_over
    return question.user


def test_the_question_names_their_port_first() -> None:
    assert Question(41234, 25).request == b"41234, 25\r\n"


@pytest.mark.parametrize(
    ("reply", "user"),
    [
        (b"41234, 25 : USERID : UNIX : ann\r\n", "ann"),
        (b"41234,25:USERID:UNIX:ann\n", "ann"),
        (b" 41234 , 25 : userid : UNIX,US-ASCII : ann \r\n", "ann"),
        (b"41234, 25 : USERID : OTHER : 4f:3a\r\n", "4f:3a"),
        (b'41234, 25 : USERID : UNIX : a b(c)\\<d>"\x01\xe9\r\n', "a?b?c???d????"),
        (b"41234, 25 : USERID : UNIX : " + b"x" * 300 + b"\r\n", "x" * MAX_USER_CHARACTERS),
        (b"41234, 25 : USERID : UNIX :\r\n", ""),
        (b"41234, 25 : ERROR : NO-USER\r\n", ""),
        (b"41234, 25 : ERROR : HIDDEN-USER : ann\r\n", ""),
        (b"41235, 25 : USERID : UNIX : ann\r\n", ""),
        (b"25, 41234 : USERID : UNIX : ann\r\n", ""),
        (b"41234 : USERID : UNIX : ann\r\n", ""),
        (b"+41234, 25 : USERID : UNIX : ann\r\n", ""),
        (b"41234, 25 : USERID : ann\r\n", ""),
        (b"\r\n", ""),
        (b"\xff\x00\r\n", ""),
    ],
)
def test_a_reply_means(reply: bytes, user: str) -> None:
    assert answer(reply) == user
    assert answer(*[reply[index : index + 1] for index in range(len(reply))]) == user


def test_half_a_line_is_no_answer() -> None:
    assert answer(b"41234, 25 : USERID : UNIX : ann", b"") == ""


def test_what_follows_the_line_is_not_read() -> None:
    assert answer(b"41234, 25 : USERID : UNIX : ann\r\n41234, 25 : USERID : UNIX : eve\r\n", b"more\r\n") == "ann"


def test_a_reply_without_end_ends_the_question() -> None:
    assert answer(b"41234, 25 : USERID : UNIX : ", b"x" * MAX_REPLY_BYTES) == ""


def test_nothing_yet_is_not_the_end() -> None:
    question = Question(41234, 25)
    question.receive(b"41234, 25 : USERID")
    assert not question.is_over
