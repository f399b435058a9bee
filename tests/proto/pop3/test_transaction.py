"""What is asked for behind the log-in: each answer is that to its command, in time and within bounds."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.proto.errors import PeerError, UsageError
from masqmail.proto.pop3.client import Client
from masqmail.proto.pop3.reply import Kind, Reply
from masqmail.proto.pop3.session import DELETING_TIME, REPLY_TIMES, ClientOptions, Ended, Event, Phase, Ready
from masqmail.proto.pop3.transaction import (
    ANSWER_TIMES,
    MAX_DEPTH,
    MAX_EXPECTED_BYTES,
    MAX_MESSAGES,
    MAX_UID_BYTES,
    Command,
    Counted,
    Done,
    Names,
    Refused,
    Sizes,
    Text,
    Verb,
)
from masqmail.proto.sasl import Credentials, Secret

STAT, LIST, UIDL, NOOP = (Command(verb) for verb in (Verb.STAT, Verb.LIST, Verb.UIDL, Verb.NOOP))


def top(number: int) -> Command:
    return Command(Verb.TOP, number)


def retr(number: int) -> Command:
    return Command(Verb.RETR, number)


def dele(number: int) -> Command:
    return Command(Verb.DELE, number)


def ready(*, offers: bytes = b"PIPELINING", pipelining: bool = True) -> Client:
    """A client that is logged in."""
    options = ClientOptions(Credentials("ann", Secret("sesame")), tls_is_on=True, pipelining=pipelining)
    client = Client(options)
    client.receive(b"+OK\r\n+OK\r\n" + offers + b"\r\n.\r\n+OK\r\n+OK\r\n")
    assert client.next_event() == Ready()
    client.data_to_send()
    return client


def events(client: Client, data: bytes, size: int = 0) -> list[Event]:
    found: list[Event] = []
    for start in range(0, len(data), size or len(data)):
        client.receive(data[start : start + (size or len(data))])
        found += iter(client.next_event, None)
    return found


def merged(found: list[Event]) -> list[Event]:
    """The same with pieces that belong together in one."""
    result: list[Event] = []
    for event in found:
        last = result[-1] if result else None
        match last, event:
            case Text(before, data), Text(command, more) if before == command:
                result[-1] = Text(command, data + more)
            case Sizes(rows), Sizes(further):
                result[-1] = Sizes(rows + further)
            case Names(names), Names(further_names):
                result[-1] = Names(names + further_names)
            case _, Sizes([]) | Names([]):
                pass
            case _:
                result.append(event)
    return result


#: Commands, what goes out, what comes back, and what that means.
ASKED: list[tuple[Command, bytes, bytes, list[Event]]] = [
    (STAT, b"STAT", b"+OK 2 320\r\n", [Counted(2, 320)]),
    (STAT, b"STAT", b"+OK 2 320 and more\r\n", [Counted(2, 320)]),
    (LIST, b"LIST", b"+OK\r\n1 120\r\n2  200 octets\r\n.\r\n", [Sizes([(1, 120), (2, 200)]), Done(LIST)]),
    (LIST, b"LIST", b"+OK none\r\n.\r\n", [Done(LIST)]),
    (
        UIDL,
        b"UIDL",
        b"+OK\r\n1 whqtswO00WBw418f9t5JxYwZ\r\n.\r\n",
        [Names([(1, "whqtswO00WBw418f9t5JxYwZ")]), Done(UIDL)],
    ),
    (
        UIDL,
        b"UIDL",
        b"+OK\r\n1\r\n2 \r\n3 \xff\r\n4 a b\r\n.\r\n",
        [Names([(1, ""), (2, ""), (3, ""), (4, "a")]), Done(UIDL)],
    ),
    (UIDL, b"UIDL", b"+OK\r\n1 " + b"x" * 256 + b"\r\n.\r\n", [Names([(1, "")]), Done(UIDL)]),
    (top(3), b"TOP 3 0", b"+OK\r\nSubject: x\r\n\r\n.\r\n", [Text(top(3), b"Subject: x\r\n\r\n"), Done(top(3))]),
    (retr(7), b"RETR 7", b"+OK 9 octets\r\n..\r\nx\r\n.\r\n", [Text(retr(7), b".\r\nx\r\n"), Done(retr(7))]),
    (retr(7), b"RETR 7", b"+OK\r\n.\r\n", [Done(retr(7))]),
    (
        retr(7),
        b"RETR 7",
        b"-ERR no such message\r\n",
        [Refused(retr(7), Reply(Kind.ERR, "no such message", "", b"no such message"))],
    ),
    (dele(7), b"DELE 7", b"+OK\r\n", [Done(dele(7))]),
    (NOOP, b"NOOP", b"+OK\r\n", [Done(NOOP)]),
]


@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize(("command", "said", "answer", "expected"), ASKED, ids=[str(row[2]) for row in ASKED])
def test_each_command_has_its_answer(
    command: Command, said: bytes, answer: bytes, expected: list[Event], size: int
) -> None:
    client = ready()
    client.ask(command)
    assert client.data_to_send() == said + b"\r\n"
    assert merged(events(client, answer, size)) == expected
    assert client.is_idle


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (STAT, b"+OK\r\n"),
        (STAT, b"+OK two\r\n"),
        (LIST, b"+OK\r\nx 1\r\n"),
        (LIST, b"+OK\r\n1\r\n"),
        (LIST, b"+OK\r\n1 x\r\n"),
        (LIST, b"+OK\r\n1 -1\r\n"),
        (LIST, b"+OK\r\n0 1\r\n"),
        (LIST, b"+OK\r\n\r\n"),
        (LIST, b"+OK\r\n1 1\n2 2\n"),
        (LIST, f"+OK\r\n{MAX_MESSAGES + 1} 1\r\n".encode()),
        (LIST, b"+OK\r\n1 " + b"1" * 10_000),
        (UIDL, b"+OK\r\nx\r\n"),
        (UIDL, b"+OK\r\n\r\n"),
        (UIDL, b"+OK\r\n\xb2 x\r\n"),
        (retr(1), b"Subject: x\r\n"),
        (retr(1), b"+ YQ==\r\n"),
        (dele(1), b"+OKAY\r\n"),
    ],
)
def test_what_cannot_be_an_answer_breaks_the_session_off(command: Command, answer: bytes) -> None:
    client = ready()
    client.ask(command)
    with pytest.raises(PeerError):
        events(client, answer + b"1 1\r\n" * 2000)


def test_a_reply_to_nothing_breaks_the_session_off() -> None:
    client = ready()
    client.ask(dele(1))
    with pytest.raises(PeerError, match="a reply to nothing"):
        events(client, b"+OK\r\n+OK\r\n")


def test_a_server_that_goes_while_nothing_is_asked_says_why() -> None:
    client = ready()
    assert isinstance(events(client, b"-ERR too late\r\n")[0], Ended)


# --- how much at a time


def test_without_pipelining_one_command_is_under_way() -> None:
    for client in (ready(offers=b"UIDL"), ready(pipelining=False)):
        assert not client.pipelines
        client.ask(retr(1))
        assert not client.may_ask
        with pytest.raises(UsageError):
            client.ask(retr(2))
        events(client, b"+OK\r\nx\r\n.")
        assert not client.may_ask
        events(client, b"\r\n")
        assert client.may_ask


def test_pipelining_has_a_depth() -> None:
    client = ready()
    for number in range(1, MAX_DEPTH + 1):
        assert client.may_ask
        client.ask(dele(number))
    assert not client.may_ask
    events(client, b"+OK\r\n")
    assert client.may_ask


def test_only_so_much_mail_is_expected_at_a_time_however_big_a_message_is() -> None:
    client = ready()
    client.ask(retr(1), MAX_EXPECTED_BYTES - 1)
    assert client.may_ask
    client.ask(retr(2), 100 * MAX_EXPECTED_BYTES)
    assert not client.may_ask
    events(client, b"+OK\r\n" + b"x" * MAX_EXPECTED_BYTES + b"\r\n.\r\n")
    assert not client.may_ask, "the second is bigger than that"
    events(client, b"+OK\r\n" + b"x" * 99 * MAX_EXPECTED_BYTES)
    assert not client.may_ask
    events(client, b"xx")
    assert client.may_ask, "what is left of it is little"


def test_a_message_that_is_not_as_long_as_expected_takes_no_room_when_it_is_over() -> None:
    client = ready()
    client.ask(retr(1), 50 * MAX_EXPECTED_BYTES)
    events(client, b"+OK\r\nx\r\n.\r\n")
    for number in range(2, 10):
        client.ask(retr(number), MAX_EXPECTED_BYTES // 10)
    assert client.may_ask


def test_pipelining_can_be_given_up_and_taken_up_again_where_it_is_offered() -> None:
    client = ready()
    client.ask(dele(1))
    client.pipelines = False
    assert not client.may_ask
    client.pipelines = True
    assert client.may_ask
    stubborn = ready(offers=b"UIDL")
    stubborn.pipelines = True
    assert not stubborn.pipelines


def test_quit_waits_for_every_answer() -> None:
    client = ready()
    client.ask(NOOP)
    with pytest.raises(UsageError):
        client.quit()
    events(client, b"+OK\r\n")
    client.quit()
    with pytest.raises(UsageError):
        client.ask(NOOP)


def test_nothing_can_be_asked_before_the_login() -> None:
    with pytest.raises(UsageError):
        Client(ClientOptions(Credentials("ann", Secret("x")))).ask(STAT)


# --- time


def test_each_command_says_how_long_its_answer_may_take() -> None:
    assert set(ANSWER_TIMES) == set(Verb)
    client = ready()
    assert client.reply_time is None
    client.ask(dele(1))
    client.ask(retr(2))
    assert (client.reply_time, client.doing) == (ANSWER_TIMES[Verb.DELE], "DELE 1")
    events(client, b"+OK\r\n")
    assert (client.reply_time, client.doing) == (ANSWER_TIMES[Verb.RETR], "RETR 2")


def test_a_server_that_deletes_gets_more_time_for_quit() -> None:
    client = ready()
    client.quit()
    assert client.reply_time == REPLY_TIMES[Phase.QUIT]
    client = ready()
    client.ask(dele(1))
    events(client, b"+OK\r\n")
    client.quit()
    assert client.reply_time == DELETING_TIME > REPLY_TIMES[Phase.QUIT]


# --- whatever comes

_COMMANDS = st.one_of(
    st.sampled_from([STAT, LIST, UIDL, NOOP]),
    st.builds(Command, st.sampled_from([Verb.TOP, Verb.RETR, Verb.DELE]), st.integers(1, 5)),
)
_BODIES = st.lists(st.sampled_from([b".", b"+OK", b"-ERR", b"x", b"\r\n", b"..", b""]), max_size=6).map(b"".join)


def _good_answer(command: Command, body: bytes, is_refused: bool) -> tuple[bytes, list[Event]]:
    if is_refused:
        return b"-ERR no\r\n", [Refused(command, Reply(Kind.ERR, "no", "", b"no"))]
    match command.verb:
        case Verb.STAT:
            return b"+OK 3 4\r\n", [Counted(3, 4)]
        case Verb.LIST:
            return b"+OK\r\n1 9\r\n.\r\n", [Sizes([(1, 9)]), Done(command)]
        case Verb.UIDL:
            return b"+OK\r\n1 a\r\n.\r\n", [Names([(1, "a")]), Done(command)]
        case Verb.TOP | Verb.RETR:
            lines = [b"." * line.startswith(b".") + line + b"\r\n" for line in body.split(b"\r\n")]
            return b"+OK\r\n" + b"".join(lines) + b".\r\n", [Text(command, body + b"\r\n"), Done(command)]
        case _:
            return b"+OK\r\n", [Done(command)]


@given(st.lists(st.tuples(_COMMANDS, _BODIES, st.booleans()), min_size=1, max_size=12), st.integers(1, 40))
def test_pipelined_answers_never_get_crossed_whatever_mail_looks_like(
    asked: list[tuple[Command, bytes, bool]], size: int
) -> None:
    client = ready()
    data, expected = b"", []
    for command, body, is_refused in asked:
        client.ask(command)
        answer, meaning = _good_answer(command, body, is_refused)
        data += answer
        expected += meaning
    assert merged(events(client, data, size)) == expected
    assert client.is_idle


@given(
    st.lists(_COMMANDS, min_size=1, max_size=6),
    st.lists(
        st.sampled_from([b"+OK\r\n", b"-ERR\r\n", b"+\r\n", b".\r\n", b"1 2\r\n", b"1 a\r\n"]) | st.binary(max_size=8)
    ),
    st.integers(1, 7),
)
def test_whatever_a_server_says_only_a_breach_of_the_protocol_is_raised(
    commands: list[Command], answers: list[bytes], size: int
) -> None:
    data = b"".join(answers)
    breaches = []
    for slice_bytes in (len(data) or 1, size):
        client, seen = ready(), list[Event]()
        for command in commands:
            client.ask(command)
        try:
            seen.extend(_pulled(client, data, slice_bytes))
            breaches.append("")
        except PeerError as error:
            breaches.append(error.status.text[:10])
        ended = [STAT if isinstance(event, Counted) else event.command for event in seen if _is_end(event)]
        assert ended == commands[: len(ended)]
    assert breaches[0] == breaches[1]


def _is_end(event: Event) -> bool:
    return isinstance(event, Counted | Done | Refused)


def _pulled(client: Client, data: bytes, size: int) -> Iterator[Event]:
    for start in range(0, len(data), size):
        client.receive(data[start : start + size])
        while (event := client.next_event()) is not None:
            yield event


def test_a_name_may_be_longer_than_the_standard_has_it() -> None:
    assert MAX_UID_BYTES > 70
