"""Whatever a server refuses, and however the bytes are cut, no recipient gets another's reply."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.mail.status import Status
from masqmail.proto.smtp.clientsession import ClientOptions
from masqmail.proto.smtp.transfer import Fate, Step, Verdict
from support.conversation import OPTIONS, Conversation, Cut, letters, whole
from support.dialogue import Settings, Shell
from support.scripted_server import DROP, TAKE_AND_DROP, Policy, ScriptedServer

#: How a moody server answers at each step; most of the time it has nothing to say against it.
REFUSALS = {
    "MAIL": ["450 4.1.8", "550 5.7.1", "599 5.0.0"],
    "RCPT": ["450 4.2.1", "550 5.1.1", "452 4.5.3", "452 4.2.2", "551 5.7.1"],
    "DATA": ["451 4.3.0", "554 5.7.1"],
    "CONTENT": ["452 4.3.1", "554 5.6.0", "552 5.3.4"],
}
KEYWORDS = st.sampled_from(
    [
        ("PIPELINING", "CHUNKING"),
        ("PIPELINING", "CHUNKING", "LIMITS RCPTMAX=2"),
        ("PIPELINING",),
        ("PIPELINING", "SIZE 300", "DSN"),
        ("CHUNKING",),
        (),
    ]
)


def moody(seed: int, *, tries_to_end: bool = False) -> Policy:
    """Refuses at random and names whom it refuses; may also hang up."""
    dice = random.Random(seed)

    def policy(step: str, subject: str) -> str | None:
        if step == "DATA without recipients":
            return dice.choice(["yes", None])
        if tries_to_end and step in REFUSALS and dice.random() < 0.05:
            return dice.choice([DROP, TAKE_AND_DROP if step == "CONTENT" else DROP, f"421 4.3.2 {subject}"])
        if step in REFUSALS and dice.random() < 0.25:
            return f"{dice.choice(REFUSALS[step])} {subject}"
        return None

    return policy


def random_cut(seed: int) -> Cut:
    dice = random.Random(seed)

    def cut(data: bytes) -> Iterator[bytes]:
        position = 0
        while position < len(data):
            size = dice.choice([1, 2, 7, 60, 1000])
            yield data[position : position + size]
            position += size

    return cut


def exchange(server: ScriptedServer, number: int, options: ClientOptions, cut: Cut, batch: int) -> Conversation:
    """Sends that many messages, a batch at a time."""
    conversation = Conversation(server, options, cut)
    conversation.run()
    mails = letters(number, recipients=3, size=120)
    for start in range(0, number, batch):
        for mail, content in mails[start : start + batch]:
            conversation.start(mail, content)
        conversation.run()
    conversation.client.abandon()
    conversation._collect()
    return conversation


def check_verdicts(conversation: Conversation, number: int) -> None:
    """Every recipient has one verdict, which is about itself and agrees with what the server did."""
    taken = {
        (message.sender, recipient): message.content
        for message in conversation.server.taken
        for recipient in message.recipients
    }
    assert len(taken) == sum(len(message.recipients) for message in conversation.server.taken), "sent twice"
    verdicts = conversation.verdicts
    assert verdicts.keys() == set(range(1, number + 1))
    for index in range(number):
        sender = f"s{index}@a.test"
        for position, verdict in enumerate(verdicts[index + 1]):
            recipient = f"r{index}-{position}@b.test"
            content = taken.get((sender, recipient))
            check_one(verdict, sender, recipient, was_taken=content is not None)
            assert content is None or content == conversation.contents[index + 1]


def check_one(verdict: Verdict, sender: str, recipient: str, *, was_taken: bool) -> None:
    match verdict:
        case Verdict(Fate.ACCEPTED, Step.CONTENT, Status(code=250)):
            assert was_taken
        case Verdict(Fate.REFUSED, Step.RCPT, Status(text=text)):
            assert text == recipient
            assert not was_taken
        case Verdict(Fate.REFUSED, _, Status(text=text)):
            assert text == sender
            assert not was_taken
        case Verdict(Fate.NOT_SENT):
            assert not was_taken
        case _:
            assert verdict.fate is Fate.IN_DOUBT


SEEDS = st.integers(0, 2**32)


@settings(max_examples=25, deadline=None)
@given(SEEDS, KEYWORDS, st.booleans(), st.sampled_from([1, 3, 30]))
def test_no_recipient_gets_anothers_reply(seed: int, keywords: tuple[str, ...], pipelining: bool, batch: int) -> None:
    server = ScriptedServer(keywords=keywords, policy=moody(seed))
    options = replace(OPTIONS, pipelining=pipelining, window_bytes=1 << 20)
    conversation = exchange(server, 12, options, random_cut(seed), batch)
    check_verdicts(conversation, 12)
    verdicts = [verdict for found in conversation.verdicts.values() for verdict in found]
    assert {verdict.fate for verdict in verdicts} <= {Fate.ACCEPTED, Fate.REFUSED}, "nothing was left undecided"


@settings(max_examples=40, deadline=None)
@given(SEEDS, KEYWORDS, st.booleans())
def test_however_the_connection_ends_nobody_is_lost(seed: int, keywords: tuple[str, ...], pipelining: bool) -> None:
    server = ScriptedServer(keywords=keywords, policy=moody(seed, tries_to_end=True))
    conversation = exchange(server, 12, replace(OPTIONS, pipelining=pipelining), random_cut(seed), 12)
    check_verdicts(conversation, 12)


@settings(max_examples=30, deadline=None)
@given(SEEDS, KEYWORDS)
def test_slices_never_matter(seed: int, keywords: tuple[str, ...]) -> None:
    cuts = whole, random_cut(seed)
    found = [
        exchange(ScriptedServer(keywords=keywords, policy=moody(seed)), 5, OPTIONS, cut, 5).events for cut in cuts
    ]
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "keywords", [("PIPELINING", "CHUNKING"), ("PIPELINING",), ()], ids=["stream", "group", "lock"]
)
def test_after_twenty_thousand_transactions_replies_still_fit(keywords: tuple[str, ...]) -> None:
    server = ScriptedServer(keywords=keywords, policy=moody(20_000))
    check_verdicts(exchange(server, 20_000, OPTIONS, whole, 64), 20_000)


class OurServer(ScriptedServer):
    """The project's own server machine behind the same face."""

    def __post_init__(self) -> None:
        refused = {
            "s1@a.test": Status(550, "5.7.1", "s1@a.test"),
            "r2-0@b.test": Status(550, "5.1.1", "r2-0@b.test"),
            "r3-2@b.test": Status(450, "4.2.1", "r3-2@b.test"),
            **{f"r4-{index}@b.test": Status(550, "5.1.1", f"r4-{index}@b.test") for index in range(3)},
        }
        self._shell = Shell(Settings(refused=refused))

    def connect(self) -> bytes:
        return self._shell.server.take_output()

    def receive(self, data: bytes) -> bytes:
        self._shell.feed(data)
        return self._shell.server.take_output()

    @property
    def messages(self) -> list[tuple[str, bytes]]:
        return [(message.envelope, message.content) for message in self._shell.messages]


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.booleans(), st.sampled_from([1, 7]))
def test_our_client_and_our_server_understand_each_other(seed: int, pipelining: bool, batch: int) -> None:
    server = OurServer()
    conversation = exchange(server, 7, replace(OPTIONS, pipelining=pipelining), random_cut(seed), batch)
    fates = [[verdict.fate.value[0] for verdict in conversation.verdicts[number]] for number in range(1, 8)]
    assert ["".join(fate) for fate in fates] == ["aaa", "rrr", "raa", "aar", "rrr", "aaa", "aaa"]
    assert [content for _, content in server.messages] == [
        conversation.contents[number] for number in (1, 3, 4, 6, 7)
    ]
    assert server.messages[1][0] == "<s2@a.test> to <r2-1@b.test> <r2-2@b.test>"
