"""What holds for every input: slices never matter, the table is never left, nothing is raised."""

from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from masqmail.mail.status import LOCAL_ERROR, OK, Status
from masqmail.proto.smtp.server import Server
from masqmail.proto.smtp.session import NEXT, Authenticate, Begin, Body, Discard, End, Offers, State, Wait
from masqmail.proto.smtp.turn import NO_MAIL
from support.dialogue import Settings, Shell, slices
from support.smtpinput import PIECES


def new_settings() -> Settings:
    return Settings(
        max_size_bytes=200,
        max_recipients=3,
        auth=True,
        xsubmit=True,
        atrn=True,
        etrn=True,
        logins={"ann": "sesame"},
        refused={"refused@example.net": Status(550, "5.1.1", "No such mailbox"), "refused.example": NO_MAIL},
    )


def play(pieces: Sequence[bytes]) -> tuple[object, ...]:
    """Everything that can be seen from outside."""
    shell = Shell(new_settings())
    output = shell.server.take_output()
    for piece in pieces:
        shell.feed(piece)
        output += shell.server.take_output()
    server = shell.server
    return shell.events, output, server.state, server.wait, server.protocol, server.is_idle


def play_late(pieces: Sequence[bytes], patience: Iterator[int]) -> tuple[object, ...]:
    """The same, but verdicts on messages come only after so many pieces, or when there is no other way on."""
    shell = Shell(new_settings(), is_late=True)
    output, left = shell.server.take_output(), next(patience, 0)
    for piece in pieces:
        while shell.late and (left <= 0 or shell.server.is_blocked):
            shell.conclude()
            left = next(patience, 0)
        left -= 1
        shell.feed(piece)
        output += shell.server.take_output()
    while shell.late:
        shell.conclude()
    output += shell.server.take_output()
    return [message.content for message in shell.messages], output, shell.server.state, shell.server.wait


def transaction(text: bytes) -> bytes:
    return b"EHLO x\r\nMAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n" + text + b"\r\n.\r\n"


ENDS = (b"BDAT 4 LAST\r\nhi\r\n", b"DATA\r\nhi\r\n.\r\n", b"BDAT 2\r\nhi", b"BDAT 3 LAST\r\na\nb")
inputs = st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)
MESSAGES = (
    b"EHLO x\r\n",
    *[b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\n" + end for end in ENDS],
    b"MAIL FROM:<ann@example.org>\r\nRCPT TO:<refused@example.net>\r\nBDAT 4 LAST\r\nhi\r\n",
)
texts = st.text(alphabet="ab.\r\n\0", max_size=60).map(str.encode)


@given(inputs, st.lists(st.integers(0, 1500), max_size=12))
def test_any_slicing_gives_the_same_events_and_replies(data: bytes, cuts: list[int]) -> None:
    assert play(slices(data, cuts)) == play([data])


@given(texts, st.lists(st.integers(0, 200), max_size=12))
def test_any_slicing_of_a_message_gives_the_same_events_and_replies(text: bytes, cuts: list[int]) -> None:
    data = transaction(text) + b"NOOP\r\n"
    assert play(slices(data, cuts)) == play([data])


@given(st.lists(st.sampled_from([*PIECES, *MESSAGES]), max_size=25), st.lists(st.integers(1, 8), max_size=25))
def test_late_verdicts_change_nothing_that_the_client_can_see(pieces: list[bytes], patience: list[int]) -> None:
    assert play_late(pieces, iter(patience)) == play_late(pieces, iter(()))


@settings(max_examples=30)
@given(inputs)
def test_byte_by_byte_is_the_same_as_all_at_once(data: bytes) -> None:
    assert play([bytes([byte]) for byte in data]) == play([data])


@given(st.lists(st.text(alphabet="ab.", max_size=6), max_size=8))
def test_clean_text_arrives_as_it_was_sent(lines: list[str]) -> None:
    text = "".join(f"{line}\r\n" for line in lines).encode()
    stuffed = "\r\n".join(f".{line}" if line.startswith(".") else line for line in lines).encode()
    shell = Shell(Settings())
    shell.feed(transaction(stuffed) if lines else transaction(b"")[: -len(b"\r\n.\r\n")] + b".\r\n")
    assert [message.content for message in shell.messages] == [text]


@given(st.lists(st.binary(max_size=30) | st.sampled_from(PIECES), max_size=20))
def test_no_input_raises(pieces: list[bytes]) -> None:
    play(pieces)


class AnySession(RuleBasedStateMachine):
    """Random commands, random verdicts: the machine moves along its table and keeps its promises."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server(
            Offers("mail.example.net", 200, max_recipients=3, auth=True, xsubmit=True, atrn=True, etrn=True)
        )
        self.is_open = False
        self.is_asked = False
        self.seen = self.server.state

    @rule(piece=st.sampled_from(PIECES))
    def send(self, piece: bytes) -> None:
        if self.server.wait is not Wait.NOTHING:
            self.server.receive(piece)

    @precondition(lambda self: not self.is_asked)
    @rule()
    def pull(self) -> None:
        event = self.server.next_event()
        self.is_asked = self.server._asked is not None
        match event:
            case Begin():
                assert not self.is_open
            case Body():
                assert self.is_open
            case Discard() | End():
                assert self.is_open
                self.is_open = False
        self.asked = event

    @precondition(lambda self: self.server.owes_verdicts)
    @rule(status=st.sampled_from([OK, LOCAL_ERROR]))
    def conclude(self, status: Status) -> None:
        self.server.conclude(status)

    @precondition(lambda self: self.is_asked)
    @rule(status=st.sampled_from([OK, LOCAL_ERROR, Status(550, "5.7.1", "No")]))
    def answer(self, status: Status) -> None:
        while not isinstance(self.asked, Authenticate) and (event := self.server.next_event()) is not None:
            self.asked = event  # what was found before the question
        self.server.answer(status)
        self.is_asked = False
        if isinstance(self.asked, Begin):
            self.is_open = status.is_success

    @invariant()
    def states_follow_the_table(self) -> None:
        reached, self.seen = self.server.state, self.server.state
        assert reached in set(NEXT.values()) | {State.BROKEN, State.CLOSED}
        assert (self.server.wait is Wait.NOTHING) == (reached is State.CLOSED)
        if reached in (State.START, State.READY):
            assert self.server.is_idle
        if self.server.wait is Wait.COMMAND and not self.is_asked and not self.server.is_idle:
            assert reached in (State.MAIL, State.RCPT, State.CHUNKS, State.BROKEN)

    @invariant()
    def replies_are_replies(self) -> None:
        for line in self.server.take_output().splitlines(keepends=True):
            assert line.endswith(b"\r\n")
            assert line[:3].isdigit()
            assert len(line) <= 512


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=30, stateful_step_count=40)
