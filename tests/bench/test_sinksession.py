"""The receiving server of the benchmarks: it takes what good servers take, and shows what clients do wrong."""

import base64

import pytest
from harness.sinksession import Accepted, Offer, SinkSession

MESSAGE = b"Subject: Hi\r\nMessage-ID: <1@test>\r\n\r\nHello.\r\n"
COMMANDS = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"
LOGIN = Offer(login=("ann", "open sesame"))
ACCEPTED = Accepted("<1@test>", len(MESSAGE))


def converse(session: SinkSession, *sent: bytes) -> list[list[str]]:
    """The codes of what it said to each piece; the greeting is left out."""
    session.take_replies()
    answers = []
    for data in sent:
        session.receive(data)
        answers.append([line[:3].decode() for line in session.take_replies().splitlines() if line[3:4] != b"-"])
    return answers


def flat(answers: list[list[str]]) -> list[str]:
    return [code for some in answers for code in some]


def bdat(content: bytes = MESSAGE, more: bytes = b" LAST") -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(content), more, content)


def test_a_stream_of_messages_is_taken_in_one_go() -> None:
    session = SinkSession(Offer())
    stream = b"EHLO me\r\n" + (COMMANDS + bdat() + b"RSET\r\n") * 3 + b"QUIT\r\n"
    assert converse(session, stream) == [["250"] * 13 + ["221"]]
    assert session.take_accepted() == [ACCEPTED] * 3
    assert session.is_over


def test_slices_do_not_matter() -> None:
    session = SinkSession(Offer())
    stream = b"EHLO me\r\n" + COMMANDS + bdat() + COMMANDS + b"DATA\r\n" + MESSAGE + b".\r\n"
    answers = converse(session, *(stream[index : index + 1] for index in range(len(stream))))
    assert flat(answers) == ["250"] * 6 + ["354", "250"]
    assert session.take_accepted() == [ACCEPTED] * 2


def test_content_may_come_in_several_chunks() -> None:
    session = SinkSession(Offer())
    assert converse(session, COMMANDS + bdat(MESSAGE[:10], b"") + bdat(MESSAGE[10:])) == [["250"] * 4]
    assert session.take_accepted() == [ACCEPTED]


def test_an_empty_message_ends_with_its_first_dot() -> None:
    session = SinkSession(Offer())
    assert converse(session, COMMANDS + b"DATA\r\n", b".\r\n") == [["250", "250", "354"], ["250"]]
    assert session.take_accepted() == [Accepted("", 0)]


def test_a_message_without_its_commands_is_refused() -> None:
    session = SinkSession(Offer())
    assert converse(session, b"RCPT TO:<c@d.test>\r\nDATA\r\n" + bdat()) == [["503", "503", "503"]]
    assert session.take_accepted() == []


def test_a_second_mail_needs_an_end_of_the_first() -> None:
    assert converse(SinkSession(Offer()), COMMANDS + COMMANDS) == [["250", "250", "503", "250"]]


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ([b"AUTH PLAIN " + base64.b64encode(b"\0ann\0open sesame")], ["235"]),
        ([b"AUTH PLAIN", base64.b64encode(b"\0ann\0open sesame")], ["334", "235"]),
        ([b"AUTH LOGIN", base64.b64encode(b"ann"), base64.b64encode(b"open sesame")], ["334", "334", "235"]),
        ([b"AUTH LOGIN " + base64.b64encode(b"ann"), base64.b64encode(b"open sesame")], ["334", "235"]),
        ([b"AUTH PLAIN " + base64.b64encode(b"\0ann\0wrong")], ["535"]),
    ],
)
def test_who_logs_in_may_send(said: list[bytes], answers: list[str]) -> None:
    session = SinkSession(LOGIN)
    assert converse(session, b"MAIL FROM:<a@b.test>\r\n") == [["530"]]
    assert flat(converse(session, *(line + b"\r\n" for line in said))) == answers
    may = ["250"] if answers[-1] == "235" else ["530"]
    assert converse(session, b"MAIL FROM:<a@b.test>\r\n") == [may]


def test_starttls_forgets_what_came_before() -> None:
    session = SinkSession(Offer(starttls=True, login=("ann", "x")))
    assert converse(session, b"EHLO me\r\nAUTH PLAIN AGFubgB4\r\nSTARTTLS\r\nMAIL FROM:<>\r\n") == [
        ["250", "503", "220"]
    ]
    assert session.wants_tls
    session.tls_started()
    assert converse(session, b"EHLO me\r\nAUTH PLAIN AGFubgB4\r\nSTARTTLS\r\n") == [["250", "235", "500"]]


def test_what_is_offered_is_shown() -> None:
    session = SinkSession(Offer(chunking=False, pipelining=False, login=("ann", "x")))
    session.receive(b"EHLO me\r\n")
    shown = session.take_replies()
    assert b"AUTH PLAIN LOGIN" in shown
    assert b"CHUNKING" not in shown
    assert b"PIPELINING" not in shown
    assert converse(session, b"BDAT 0 LAST\r\n") == [["500"]]


def test_who_does_not_wait_where_it_was_not_offered_is_hung_up_on() -> None:
    session = SinkSession(Offer(pipelining=False))
    assert converse(session, b"EHLO me\r\n", COMMANDS) == [["250"], ["250"]]
    assert session.is_over


def test_a_message_that_takes_time_holds_up_what_is_behind_it() -> None:
    session = SinkSession(Offer(works=True))
    assert converse(session, (COMMANDS + bdat()) * 2) == [["250", "250"]]
    assert session.is_working
    assert session.take_accepted() == []
    session.done_working()
    assert session.take_accepted() == [ACCEPTED]
    assert session.take_replies().count(b"250") == 3  # and the next one's commands
    assert session.is_working
