"""Transactions on the wire, byte by byte, at each pace; and what replies mean when they come late or wrong."""

from dataclasses import replace

import pytest

from masqmail.mail.status import Status
from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.smtp.transfer import Fate, Step
from support.conversation import OPTIONS, Conversation, Cut, bytewise, converse, letters, message, whole
from support.scripted_server import ALL_KEYWORDS, DROP, Policy, ScriptedServer

STREAM = ("PIPELINING", "CHUNKING")
GROUP = ("PIPELINING",)
LOCK_STEP = ("CHUNKING",)
PACES = pytest.mark.parametrize("keywords", [STREAM, GROUP, LOCK_STEP], ids=["stream", "group", "lock-step"])
CUTS = pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
HELLO = b"EHLO laptop.test\r\n"


def refusing(*refused: tuple[str, str, str]) -> Policy:
    """A policy of (step, subject, reply)."""
    replies = {(step, subject): reply for step, subject, reply in refused}
    return lambda step, subject: replies.get((step, subject))


def fates(conversation: Conversation) -> dict[int, list[tuple[Fate, Step]]]:
    return {
        number: [(verdict.fate, verdict.step) for verdict in verdicts]
        for number, verdicts in conversation.verdicts.items()
    }


ACCEPTED = (Fate.ACCEPTED, Step.CONTENT)


# what is said


@CUTS
def test_a_stream_never_waits(cut: Cut) -> None:
    server = ScriptedServer(keywords=STREAM)
    conversation = converse(server, letters(3), cut=cut)
    assert conversation.bursts == [
        HELLO,
        b"MAIL FROM:<s0@a.test>\r\nRCPT TO:<r0-0@b.test>\r\nBDAT 40 LAST\r\n" + letters(3)[0][1] + b"RSET\r\n"
        b"MAIL FROM:<s1@a.test>\r\nRCPT TO:<r1-0@b.test>\r\nBDAT 40 LAST\r\n" + letters(3)[1][1] + b"RSET\r\n"
        b"MAIL FROM:<s2@a.test>\r\nRCPT TO:<r2-0@b.test>\r\nBDAT 40 LAST\r\n" + letters(3)[2][1],
    ]
    assert fates(conversation) == {1: [ACCEPTED], 2: [ACCEPTED], 3: [ACCEPTED]}


@CUTS
def test_groups_end_in_data_and_begin_with_content(cut: Cut) -> None:
    """RFC 2920 §3.1: the content of one message travels with the commands of the next."""
    server = ScriptedServer(keywords=GROUP)
    conversation = converse(server, letters(2), cut=cut)
    assert conversation.bursts == [
        HELLO,
        b"MAIL FROM:<s0@a.test>\r\nRCPT TO:<r0-0@b.test>\r\nDATA\r\n",
        letters(2)[0][1] + b".\r\nMAIL FROM:<s1@a.test>\r\nRCPT TO:<r1-0@b.test>\r\nDATA\r\n",
        letters(2)[1][1] + b".\r\n",
    ]
    assert fates(conversation) == {1: [ACCEPTED], 2: [ACCEPTED]}


@CUTS
def test_lock_step_waits_for_each_reply_and_uses_data(cut: Cut) -> None:
    server = ScriptedServer(keywords=LOCK_STEP)
    conversation = converse(server, letters(2), cut=cut)
    per_letter = [
        [
            b"MAIL FROM:<s%d@a.test>\r\n" % i,
            b"RCPT TO:<r%d-0@b.test>\r\n" % i,
            b"DATA\r\n",
            letters(2)[i][1] + b".\r\n",
        ]
        for i in range(2)
    ]
    assert conversation.bursts == [HELLO, *per_letter[0], *per_letter[1]]


def test_pipelining_can_be_switched_off() -> None:
    conversation = converse(ScriptedServer(), letters(1), replace(OPTIONS, pipelining=False))
    assert len(conversation.bursts) == 5
    assert b"BDAT" not in conversation.sent


def test_a_message_after_everything_was_answered_needs_no_reset() -> None:
    conversation = converse(ScriptedServer(keywords=STREAM), letters(1))
    mail, content = letters(2)[1]
    conversation.start(mail, content)
    conversation.run()
    assert b"RSET" not in conversation.sent
    assert fates(conversation)[2] == [ACCEPTED]


def test_content_that_does_not_fit_the_window_waits_for_its_recipients() -> None:
    big = letters(1, recipients=2, size=OPTIONS.window_bytes + 1)
    conversation = converse(ScriptedServer(keywords=STREAM), big)
    assert [len(burst) > OPTIONS.window_bytes for burst in conversation.bursts] == [False, False, True]
    assert fates(conversation) == {1: [ACCEPTED, ACCEPTED]}


def test_content_that_nobody_wants_is_not_sent_when_it_is_big() -> None:
    server = ScriptedServer(keywords=STREAM, policy=refusing(("RCPT", "r0-0@b.test", "550 no")))
    mails = [*letters(1, size=OPTIONS.window_bytes + 1), *letters(2)[1:]]
    conversation = converse(server, mails)
    assert len(conversation.sent) < 1000
    assert conversation.bursts[2].startswith(b"RSET\r\nMAIL FROM:<s1@a.test>")
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.RCPT)], 2: [ACCEPTED]}


# refusals


@PACES
@CUTS
def test_a_refused_sender_refuses_all_and_disturbs_nobody(keywords: tuple[str, ...], cut: Cut) -> None:
    server = ScriptedServer(keywords=keywords, policy=refusing(("MAIL", "s1@a.test", "550 5.7.1 not you")))
    conversation = converse(server, letters(3, recipients=2), cut=cut)
    assert conversation.verdicts[2][1].status == Status(550, "5.7.1", "not you")
    assert fates(conversation)[2] == [(Fate.REFUSED, Step.MAIL)] * 2
    assert [taken.sender for taken in server.taken] == ["s0@a.test", "s2@a.test"]


@PACES
@CUTS
def test_when_all_recipients_are_refused_the_next_message_is_safe(keywords: tuple[str, ...], cut: Cut) -> None:
    """The server still has a transaction open, which a MAIL must not fall into."""
    policy = refusing(("RCPT", "r0-0@b.test", "550 no"), ("RCPT", "r0-1@b.test", "450 later"))
    server = ScriptedServer(keywords=keywords, policy=policy)
    conversation = converse(server, letters(2, recipients=2), cut=cut)
    assert "RSET" in server.commands
    assert [verdict.status and verdict.status.code for verdict in conversation.verdicts[1]] == [550, 450]
    assert fates(conversation)[2] == [ACCEPTED, ACCEPTED]


@PACES
def test_refused_content_is_followed_by_the_next_message(keywords: tuple[str, ...]) -> None:
    server = ScriptedServer(keywords=keywords, policy=refusing(("CONTENT", "s0@a.test", "554 5.6.0 bad")))
    conversation = converse(server, letters(2))
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.CONTENT)], 2: [ACCEPTED]}


@pytest.mark.parametrize("keywords", [GROUP, LOCK_STEP], ids=["group", "lock-step"])
def test_a_refused_data_command_refuses_the_accepted_recipients(keywords: tuple[str, ...]) -> None:
    policy = refusing(("DATA", "s0@a.test", "451 4.3.0 later"), ("RCPT", "r0-0@b.test", "550 5.1.1 who"))
    server = ScriptedServer(keywords=keywords, policy=policy)
    conversation = converse(server, letters(2, recipients=2))
    assert fates(conversation)[1] == [(Fate.REFUSED, Step.RCPT), (Fate.REFUSED, Step.DATA)]
    assert "RSET" in server.commands
    assert fates(conversation)[2] == [ACCEPTED, ACCEPTED]


def test_a_354_for_nobody_is_answered_with_a_lone_dot() -> None:
    """RFC 2920 §3.1."""
    policy = refusing(("RCPT", "r0-0@b.test", "550 no"), ("DATA without recipients", "", "yes"))
    server = ScriptedServer(keywords=GROUP, policy=policy)
    conversation = converse(server, letters(2))
    assert conversation.bursts[2].startswith(b".\r\nMAIL FROM:<s1@a.test>")
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.RCPT)], 2: [ACCEPTED]}
    assert [taken.sender for taken in server.taken] == ["s1@a.test"]


@pytest.mark.parametrize("reply", ["452 4.5.3 too many", "452 too many", "552 too many"])
@PACES
def test_too_many_recipients_go_in_a_further_transaction(keywords: tuple[str, ...], reply: str) -> None:
    server = ScriptedServer(keywords=keywords)
    server.policy = lambda step, _: reply if step == "RCPT" and len(server._recipients) == 2 else None
    conversation = converse(server, letters(1, recipients=5))
    assert fates(conversation) == {1: [ACCEPTED] * 5}
    assert [len(taken.recipients) for taken in server.taken] == [2, 2, 1]


def test_the_rest_of_a_message_goes_before_the_next_message() -> None:
    server = ScriptedServer(keywords=LOCK_STEP)
    server.policy = lambda step, _: "452 4.5.3" if step == "RCPT" and len(server._recipients) == 2 else None
    converse(server, letters(2, recipients=3))
    assert [taken.sender for taken in server.taken] == ["s0@a.test", "s0@a.test", "s1@a.test", "s1@a.test"]


def test_a_452_before_anybody_was_accepted_is_a_refusal() -> None:
    server = ScriptedServer(policy=lambda step, _: "452 4.5.3 too many" if step == "RCPT" else None)
    conversation = converse(server, letters(1, recipients=2))
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.RCPT)] * 2}


def test_a_full_mailbox_is_not_too_many_recipients() -> None:
    server = ScriptedServer(policy=refusing(("RCPT", "r0-1@b.test", "452 4.2.2 full")))
    conversation = converse(server, letters(1, recipients=3))
    assert fates(conversation) == {1: [ACCEPTED, (Fate.REFUSED, Step.RCPT), ACCEPTED]}
    assert len(server.taken) == 1


# limits


@PACES
def test_a_transaction_has_no_more_recipients_than_the_server_wants(keywords: tuple[str, ...]) -> None:
    server = ScriptedServer(keywords=(*keywords, "LIMITS RCPTMAX=2"))
    conversation = converse(server, letters(2, recipients=3))
    assert [len(taken.recipients) for taken in server.taken] == [2, 1, 2, 1]
    assert fates(conversation) == {1: [ACCEPTED] * 3, 2: [ACCEPTED] * 3}


def test_a_session_has_no_more_transactions_than_the_server_wants() -> None:
    server = ScriptedServer(keywords=(*STREAM, "LIMITS MAILMAX=2"))
    conversation = Conversation(server)
    conversation.run()
    assert conversation.client.room[0] == 2
    for mail, content in letters(3):
        conversation.start(mail, content)
    conversation.run()
    assert fates(conversation) == {1: [ACCEPTED], 2: [ACCEPTED], 3: [(Fate.NOT_SENT, Step.MAIL)]}
    assert conversation.client.is_used_up
    assert conversation.client.room == (0, 0)


def test_a_message_cut_off_by_the_session_limit_is_partly_sent() -> None:
    server = ScriptedServer(keywords=(*STREAM, "LIMITS MAILMAX=1 RCPTMAX=1"))
    conversation = converse(server, letters(1, recipients=2))
    assert fates(conversation) == {1: [ACCEPTED, (Fate.NOT_SENT, Step.MAIL)]}


def test_what_we_refuse_ourselves_costs_no_byte() -> None:
    server = ScriptedServer(keywords=("SIZE 30", "PIPELINING"))
    conversation = converse(server, letters(1))
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.CHECK)]}
    assert server.commands == ["EHLO laptop.test"]


def test_the_window_counts_messages_and_bytes() -> None:
    conversation = Conversation(ScriptedServer(), replace(OPTIONS, window_bytes=100, window_transactions=3))
    conversation.run()
    assert conversation.client.room == (3, 100)
    mail, content = letters(1)[0]
    conversation.start(mail, content)
    assert conversation.client.room == (2, 60)
    conversation.start(mail, content)
    conversation.start(mail, content)
    assert conversation.client.room == (0, 0)
    conversation.run()
    assert conversation.client.room == (3, 100)
    assert conversation.client.is_idle


# LMTP


@PACES
@CUTS
def test_lmtp_answers_for_each_recipient(keywords: tuple[str, ...], cut: Cut) -> None:
    """RFC 2033 §4.2."""
    policy = refusing(("RCPT", "r0-0@b.test", "550 no"), ("CONTENT", "r0-2@b.test", "452 4.2.2 full"))
    server = ScriptedServer(keywords=keywords, policy=policy, lmtp=True)
    conversation = converse(server, letters(2, recipients=4), replace(OPTIONS, lmtp=True), cut)
    assert fates(conversation) == {
        1: [(Fate.REFUSED, Step.RCPT), ACCEPTED, (Fate.REFUSED, Step.CONTENT), ACCEPTED],
        2: [ACCEPTED] * 4,
    }


def test_lmtp_says_one_thing_when_nobody_was_accepted() -> None:
    server = ScriptedServer(keywords=STREAM, policy=refusing(("RCPT", "r0-0@b.test", "550 no")), lmtp=True)
    conversation = converse(server, letters(2), replace(OPTIONS, lmtp=True))
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.RCPT)], 2: [ACCEPTED]}


def test_lmtp_does_not_ask_for_content_for_nobody() -> None:
    policy = refusing(("RCPT", "r0-0@b.test", "550 no"), ("DATA without recipients", "", "yes"))
    server = ScriptedServer(keywords=GROUP, policy=policy, lmtp=True)
    with pytest.raises(PeerError, match="354 although"):
        converse(server, letters(1), replace(OPTIONS, lmtp=True))


# replies that do not fit


@pytest.mark.parametrize(
    ("step", "subject", "reply"),
    [
        ("RSET", "", "451 no"),
        ("MAIL", "s1@a.test", "354 go on"),
        ("RCPT", "r1-0@b.test", "500 what?"),
        ("RCPT", "r1-0@b.test", "503 what?"),
        ("MAIL", "s1@a.test", "503 nested"),
        ("CONTENT", "s1@a.test", "354 go on"),
        ("CONTENT", "s1@a.test", "503 what?"),
    ],
)
def test_a_reply_that_fits_nothing_ends_a_stream(step: str, subject: str, reply: str) -> None:
    server = ScriptedServer(keywords=STREAM, policy=refusing((step, subject, reply)))
    conversation = Conversation(server)
    conversation.run()
    for mail, content in letters(3):
        conversation.start(mail, content)
    with pytest.raises(PeerError):
        conversation.run()
    conversation.client.abandon()
    conversation._collect()
    assert fates(conversation)[1] == [ACCEPTED]
    assert fates(conversation)[3][0][0] is Fate.IN_DOUBT


@pytest.mark.parametrize("code", [500, 503])
def test_in_lock_step_every_refusal_is_one(code: int) -> None:
    server = ScriptedServer(keywords=(), policy=refusing(("RCPT", "r0-0@b.test", f"{code} no")))
    conversation = converse(server, letters(2))
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.RCPT)], 2: [ACCEPTED]}


def test_a_recipient_cannot_be_accepted_after_its_sender_was_refused() -> None:
    conversation = Conversation(ScriptedServer(keywords=STREAM))
    conversation.run()
    mail, _ = letters(1)[0]
    conversation.client.start(mail)
    conversation.client.data_to_send()
    conversation.client.receive(b"550 no\r\n250 yes\r\n")
    with pytest.raises(PeerError, match="after MAIL was refused"):
        conversation.client.next_event()


def test_a_message_cannot_be_accepted_before_it_was_complete() -> None:
    conversation = Conversation(ScriptedServer(keywords=STREAM))
    conversation.run()
    mail, content = letters(1)[0]
    conversation.client.start(mail)
    conversation.client.data_to_send()
    conversation.client.body_data(content[:10])
    conversation.client.receive(b"250 a\r\n250 b\r\n250 c\r\n")
    with pytest.raises(PeerError, match="before it was complete"):
        conversation.client.next_event()
    conversation.client.abandon()
    conversation._collect()
    assert fates(conversation) == {1: [(Fate.NOT_SENT, Step.CONTENT)]}


def test_a_message_can_be_refused_before_it_was_complete() -> None:
    conversation = Conversation(ScriptedServer(keywords=STREAM))
    conversation.run()
    mail, content = letters(1)[0]
    conversation.client.start(mail)
    conversation.client.data_to_send()
    conversation.client.body_data(content[:10])
    conversation.client.receive(b"250 a\r\n250 b\r\n552 5.3.4 c\r\n")
    conversation._collect()
    assert conversation.client.body_data(content[10:]) + conversation.client.body_end() == content[10:]
    conversation._collect()
    assert fates(conversation) == {1: [(Fate.REFUSED, Step.CONTENT)]}


def test_a_chunk_is_complete_with_its_last_octet() -> None:
    """The answer may come, or the connection break, before `body_end` is called."""
    for reply, fate in ((b"250 a\r\n250 b\r\n250 c\r\n", Fate.ACCEPTED), (b"", Fate.IN_DOUBT)):
        conversation = Conversation(ScriptedServer(keywords=STREAM))
        conversation.run()
        mail, content = letters(1)[0]
        conversation.client.start(mail)
        conversation.client.data_to_send()
        conversation.client.body_data(content)
        conversation.client.receive(reply)
        conversation._collect()
        if reply:
            conversation.client.body_end()
        conversation.client.abandon()
        conversation._collect()
        assert [found for found, _ in fates(conversation)[1]] == [fate]


def test_content_is_sent_only_when_it_is_wanted() -> None:
    conversation = Conversation(ScriptedServer())
    conversation.run()
    for call in (lambda: conversation.client.body_data(b"x"), conversation.client.body_end):
        with pytest.raises(UsageError):
            call()


# the end of a connection


def test_abandoning_concludes_what_was_never_begun() -> None:
    conversation = Conversation(ScriptedServer())
    conversation.run()
    conversation.client.start(letters(1)[0][0])
    conversation.client.abandon()
    conversation._collect()
    assert fates(conversation) == {1: [(Fate.NOT_SENT, Step.MAIL)]}


def test_recipients_put_off_are_never_in_doubt() -> None:
    server = ScriptedServer(keywords=STREAM)
    server.policy = lambda step, _: {"RCPT": "452 4.5.3" if server._recipients else None, "CONTENT": DROP}.get(step)
    conversation = converse(server, letters(1, recipients=2))
    assert [fate for fate, _ in fates(conversation)[1]] == [Fate.IN_DOUBT, Fate.NOT_SENT]


def test_the_same_person_twice_is_two_recipients() -> None:
    server = ScriptedServer(keywords=ALL_KEYWORDS)
    content = b"x\r\n\r\n"
    conversation = converse(server, [(message("a@a.test", ["b@b.test", "b@b.test"], content), content)])
    assert fates(conversation) == {1: [ACCEPTED, ACCEPTED]}
