"""The recipient matrix: what each reply, refusal and drop at each step means for each recipient.

Three messages go over one connection; the one in the middle meets the trouble.
"""

import pytest

from masqmail.proto.smtp.transfer import Fate, Step
from support.conversation import Cut, bytewise, converse, letters, whole
from support.scripted_server import DROP, TAKE_AND_DROP, Policy, ScriptedServer

PACES = {"stream": ("PIPELINING", "CHUNKING"), "group": ("PIPELINING",), "lock-step": ()}
ACCEPTED = (Fate.ACCEPTED, Step.CONTENT)

#: What stands for the fate of a message's recipients: the first one, the troubled one (index 1), the others.
Row = tuple[tuple[Fate, Step], tuple[Fate, Step], tuple[Fate, Step]]


def all_of(fate: Fate, step: Step) -> Row:
    return ((fate, step),) * 3


def one_of(fate: Fate, step: Step, others: tuple[Fate, Step] = ACCEPTED) -> Row:
    return (others, (fate, step), others)


ALL_ACCEPTED = all_of(*ACCEPTED)

#: (step, reply) → the message in the middle, and the one after it. The one before it is always accepted.
REPLIES: dict[tuple[str, str], tuple[Row, Row]] = {
    ("MAIL", "250 ok"): (ALL_ACCEPTED, ALL_ACCEPTED),
    ("MAIL", "450 later"): (all_of(Fate.REFUSED, Step.MAIL), ALL_ACCEPTED),
    ("MAIL", "550 never"): (all_of(Fate.REFUSED, Step.MAIL), ALL_ACCEPTED),
    ("RCPT", "250 ok"): (ALL_ACCEPTED, ALL_ACCEPTED),
    ("RCPT", "450 later"): (one_of(Fate.REFUSED, Step.RCPT), ALL_ACCEPTED),
    ("RCPT", "550 never"): (one_of(Fate.REFUSED, Step.RCPT), ALL_ACCEPTED),
    ("RCPT", "299 unknown code"): (ALL_ACCEPTED, ALL_ACCEPTED),
    ("RCPT", "599 unknown code"): (one_of(Fate.REFUSED, Step.RCPT), ALL_ACCEPTED),
    ("DATA", "354 ok"): (ALL_ACCEPTED, ALL_ACCEPTED),
    ("DATA", "450 later"): (all_of(Fate.REFUSED, Step.DATA), ALL_ACCEPTED),
    ("DATA", "550 never"): (all_of(Fate.REFUSED, Step.DATA), ALL_ACCEPTED),
    ("CONTENT", "250 ok"): (ALL_ACCEPTED, ALL_ACCEPTED),
    ("CONTENT", "450 later"): (all_of(Fate.REFUSED, Step.CONTENT), ALL_ACCEPTED),
    ("CONTENT", "550 never"): (all_of(Fate.REFUSED, Step.CONTENT), ALL_ACCEPTED),
}

UNSENT = all_of(Fate.NOT_SENT, Step.MAIL)

#: A 421 is the end, and nothing behind it was taken up, however much of it had left.
CLOSINGS: dict[str, tuple[Row, Step]] = {
    "MAIL": (all_of(Fate.NOT_SENT, Step.MAIL), Step.MAIL),
    "RCPT": (one_of(Fate.REFUSED, Step.RCPT, (Fate.NOT_SENT, Step.RCPT)), Step.RCPT),
    "DATA": (all_of(Fate.REFUSED, Step.DATA), Step.DATA),
    "CONTENT": (all_of(Fate.REFUSED, Step.CONTENT), Step.CONTENT),
}

#: pace, step of the drop → the message in the middle, and the one after it.
DROPS: dict[tuple[str, str], tuple[Row, Row]] = {
    ("stream", "MAIL"): (all_of(Fate.IN_DOUBT, Step.MAIL), all_of(Fate.IN_DOUBT, Step.MAIL)),
    ("stream", "RCPT"): (all_of(Fate.IN_DOUBT, Step.RCPT), all_of(Fate.IN_DOUBT, Step.RCPT)),
    ("stream", "CONTENT"): (all_of(Fate.IN_DOUBT, Step.CONTENT), all_of(Fate.IN_DOUBT, Step.CONTENT)),
    ("group", "MAIL"): (UNSENT, UNSENT),
    ("group", "RCPT"): (all_of(Fate.NOT_SENT, Step.RCPT), all_of(Fate.NOT_SENT, Step.RCPT)),
    ("group", "DATA"): (all_of(Fate.NOT_SENT, Step.DATA), all_of(Fate.NOT_SENT, Step.DATA)),
    ("group", "CONTENT"): (all_of(Fate.IN_DOUBT, Step.CONTENT), all_of(Fate.NOT_SENT, Step.CONTENT)),
    ("lock-step", "MAIL"): (UNSENT, UNSENT),
    ("lock-step", "RCPT"): (all_of(Fate.NOT_SENT, Step.RCPT), all_of(Fate.NOT_SENT, Step.RCPT)),
    ("lock-step", "DATA"): (all_of(Fate.NOT_SENT, Step.DATA), all_of(Fate.NOT_SENT, Step.DATA)),
    ("lock-step", "CONTENT"): (all_of(Fate.IN_DOUBT, Step.CONTENT), all_of(Fate.NOT_SENT, Step.CONTENT)),
}

COUNTS = pytest.mark.parametrize("count", [2, 3, 50])
CUTS = pytest.mark.parametrize("cut", [whole, bytewise], ids=["whole", "bytewise"])
PACE = pytest.mark.parametrize("pace", PACES)


def steps_of(pace: str) -> list[str]:
    """Where something can be answered: a stream has no DATA."""
    return ["MAIL", "RCPT", "CONTENT"] if pace == "stream" else ["MAIL", "RCPT", "DATA", "CONTENT"]


def trouble_at(step: str, reply: str) -> Policy:
    """The middle message gets this reply; a RCPT that of its second recipient."""
    subject = "r1-1@b.test" if step == "RCPT" else "s1@a.test"
    return lambda at, about: reply if (at, about) == (step, subject) else None


def check(pace: str, policy: Policy, count: int, cut: Cut, middle: Row, last: Row) -> ScriptedServer:
    """Runs the three messages and compares every recipient with its row."""
    server = ScriptedServer(keywords=PACES[pace], policy=policy)
    conversation = converse(server, letters(3, recipients=count), cut=cut)
    found = [[(verdict.fate, verdict.step) for verdict in conversation.verdicts[number]] for number in (1, 2, 3)]
    assert found == [_spread(row, count) for row in (ALL_ACCEPTED, middle, last)]
    return server


def _spread(row: Row, count: int) -> list[tuple[Fate, Step]]:
    first, troubled, other = row
    return [first, troubled, *[other] * (count - 2)]


def taken_by(server: ScriptedServer) -> set[tuple[str, str]]:
    pairs = [(taken.sender, recipient) for taken in server.taken for recipient in taken.recipients]
    assert len(set(pairs)) == len(pairs), "somebody got a message twice"
    return set(pairs)


@CUTS
@COUNTS
@pytest.mark.parametrize(
    ("pace", "step", "reply"), [(pace, *key) for pace in PACES for key in REPLIES if key[0] in steps_of(pace)]
)
def test_a_reply_counts_for_its_recipients_alone(step: str, reply: str, pace: str, count: int, cut: Cut) -> None:
    middle, last = REPLIES[step, reply]
    server = check(pace, trouble_at(step, reply), count, cut, middle, last)
    expected = {
        (f"s{message}@a.test", f"r{message}-{index}@b.test")
        for message, row in enumerate((ALL_ACCEPTED, middle, last))
        for index, fate in enumerate(_spread(row, count))
        if fate == ACCEPTED
    }
    assert taken_by(server) == expected, "what we call accepted is what the server took"


@CUTS
@COUNTS
@pytest.mark.parametrize(("pace", "step"), [(pace, step) for pace in PACES for step in steps_of(pace)])
def test_a_421_leaves_nothing_in_doubt(step: str, pace: str, count: int, cut: Cut) -> None:
    middle, later = CLOSINGS[step]
    server = check(pace, trouble_at(step, "421 4.3.2 closing"), count, cut, middle, all_of(Fate.NOT_SENT, later))
    assert {sender for sender, _ in taken_by(server)} == {"s0@a.test"}


def test_every_step_of_every_pace_has_its_rows() -> None:
    steps = {(pace, step) for pace in PACES for step in steps_of(pace)}
    assert DROPS.keys() == steps
    assert {step for _, step in steps} == {step for step, _ in REPLIES} == CLOSINGS.keys()


@CUTS
@COUNTS
@pytest.mark.parametrize(("pace", "step"), DROPS)
def test_a_drop_leaves_in_doubt_what_was_completely_sent(step: str, pace: str, count: int, cut: Cut) -> None:
    check(pace, trouble_at(step, DROP), count, cut, *DROPS[pace, step])


@CUTS
@COUNTS
@PACE
def test_a_drop_after_the_message_was_taken_looks_the_same(pace: str, count: int, cut: Cut) -> None:
    """The one window for a duplicate: RFC 1047."""
    server = check(pace, trouble_at("CONTENT", TAKE_AND_DROP), count, cut, *DROPS[pace, "CONTENT"])
    assert ("s1@a.test", "r1-0@b.test") in taken_by(server)


@PACE
def test_a_refused_recipient_keeps_its_refusal_when_the_connection_drops(pace: str) -> None:
    replies = {("RCPT", "r1-1@b.test"): "550 who", ("CONTENT", "s1@a.test"): DROP}
    in_doubt = (Fate.IN_DOUBT, Step.CONTENT)
    middle = (in_doubt, (Fate.REFUSED, Step.RCPT), in_doubt)
    check(pace, lambda step, subject: replies.get((step, subject)), 3, whole, middle, DROPS[pace, "CONTENT"][1])
