import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from masqmail.system import events
from masqmail.system.events import EVENTS, FORMATS, LEVELS, MESSAGE_RECEIVED, configure, emit, is_tracing, trace

Configure = Callable[..., io.StringIO]


@pytest.fixture
def output() -> Iterator[Configure]:
    """Configures logging into a string, and puts everything back."""
    before = events._output

    def start(level: str = "info", format: str = "text") -> io.StringIO:
        stream = io.StringIO()
        configure(level, format, stream)
        return stream

    yield start
    events._output = before


def constants() -> dict[str, str]:
    return {
        name: value
        for name, value in vars(events).items()
        if name.isupper() and isinstance(value, str) and not name.startswith("_")
    }


def test_every_event_has_a_name_of_its_own_and_a_meaning() -> None:
    assert sorted(constants().values()) == sorted(EVENTS)
    assert all(meaning.endswith(".") for meaning in EVENTS.values())
    assert all(name.lower().replace("_", " ").split()[0] in value for name, value in constants().items())


def test_every_event_is_in_the_reference() -> None:
    text = (Path(__file__).parents[2] / "docs/reference/events.md").read_text()
    assert re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", text, re.MULTILINE) == list(EVENTS.items())


def test_an_event_is_one_line_of_text(output: Configure) -> None:
    stream = output()
    emit(MESSAGE_RECEIVED, queue_id="1x5", size=1234, user=None)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    message received +queue_id=1x5 size=1234\n", stream.getvalue()
    )


def test_an_event_without_fields_has_no_blanks_behind_it(output: Configure) -> None:
    stream = output()
    emit(events.DAEMON_READY)
    assert stream.getvalue().endswith("daemon ready\n")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a=b", '"a=b"'),
        ("C:\\mail", '"C:\\\\mail"'),
        ("line\nforged", '"line\\nforged"'),
        ("\x1b[31mred\x07", '"\\x1b[31mred\\x07"'),
        ("\u2028\u202e", '"\\u2028\\u202e"'),
        ("Bücher", "Bücher"),
        ("\udc80", '"\\udc80"'),
        (b"caf\xe9", '"caf\\\\xe9"'),
        (b"\r\n", '"\\r\\n"'),
        (True, "True"),
        (events.logging.Formatter, "\"<class 'logging.Formatter'>\""),
    ],
)
def test_no_value_can_forge_a_line(output: Configure, value: object, written: str) -> None:
    stream = output()
    emit(MESSAGE_RECEIVED, value=value)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().rstrip("\n").partition("value=")[2] == written


def test_times_durations_and_enums_are_written_for_people(output: Configure) -> None:
    from datetime import UTC, datetime, timedelta

    from masqmail.routing.link import LinkState

    stream = output()
    emit(MESSAGE_RECEIVED, at=datetime(2026, 5, 1, 8, tzinfo=UTC), wait=timedelta(minutes=15), state=LinkState.UP)
    assert stream.getvalue().endswith(" at=2026-05-01T08:00:00Z wait=900s state=up\n")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["password", "secret", "token", "credentials"])
def test_a_field_that_looks_like_a_secret_is_hidden(output: Configure, format: str, name: str) -> None:
    stream = output("debug", format)
    emit(MESSAGE_RECEIVED, **{name: "hunter2"})  # type: ignore[arg-type]
    trace("C:", b"AUTH PLAIN ***", **{name: "hunter2"})
    assert "hunter2" not in stream.getvalue()


def test_json_is_one_object_per_line(output: Configure) -> None:
    stream = output("info", "json")
    emit(MESSAGE_RECEIVED, queue_id="1x5", size=1234, tls=True, text="a\nb", event_like=None)
    (line,) = stream.getvalue().splitlines()
    document = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", document.pop("at"))
    assert document == {
        "level": "info",
        "event": "message received",
        "queue_id": "1x5",
        "size": 1234,
        "tls": True,
        "text": "a\nb",
    }


def test_journal_lines_carry_their_priority(output: Configure) -> None:
    stream = output("debug", "journal")
    for level in (logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG):
        emit(events.DAEMON_READY, level=level)
    assert stream.getvalue() == "<6>daemon ready\n<4>daemon ready\n<3>daemon ready\n<7>daemon ready\n"


def crash() -> Exception:
    try:
        raise ValueError("bad\nvalue\x1b")
    except ValueError as error:
        return error


def test_an_exception_comes_with_its_traceback(output: Configure) -> None:
    stream = output("info", "journal")
    emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=crash(), queue_id="1x5")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("<3>internal error") and lines[0].endswith("queue_id=1x5")
    assert all(line.startswith("<3>  ") for line in lines[1:])
    assert any("ValueError: bad" in line for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_an_exception_in_json_is_a_field(output: Configure) -> None:
    stream = output("info", "json")
    emit(events.INTERNAL_ERROR, level=logging.ERROR, exception=crash())
    assert "ValueError" in json.loads(stream.getvalue())["traceback"]


def test_protocol_lines_show_at_level_debug_only(output: Configure) -> None:
    stream = output("info")
    trace("C:", b"QUIT\r\n", session_id=7)
    assert (stream.getvalue(), is_tracing()) == ("", False)
    stream = output("debug")
    trace("C:", b"QUIT\r\n", session_id=7)
    assert stream.getvalue().endswith(" protocol line        session_id=7 direction=C: line=QUIT\n")
    assert is_tracing()


def test_each_level_hides_the_ones_below(output: Configure) -> None:
    shown = {}
    for name in LEVELS:
        stream = output(name)
        for level in (logging.ERROR, logging.WARNING, logging.INFO, events.TRACE):
            emit(events.DAEMON_READY, level=level)
        shown[name] = len(stream.getvalue().splitlines())
    assert shown == {"error": 1, "warning": 2, "info": 3, "debug": 4}


def test_configuring_again_replaces_the_output(output: Configure) -> None:
    first, second = output(), output()
    emit(events.DAEMON_READY)
    assert (first.getvalue(), second.getvalue().count("\n")) == ("", 1)


class Stream(io.StringIO):
    """Counts writes; fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.failure: Exception | None = None

    def write(self, text: str) -> int:
        if self.failure:
            raise self.failure
        self.writes.append(text)
        return super().write(text)


def told(stream: Stream) -> list[list[str]]:
    """The numbers of the events in each write."""
    return [re.findall(r"number=(\w+)", text) for text in stream.writes]


@pytest.fixture
def stream(output: Configure) -> Stream:
    output()
    stream = Stream()
    configure("info", "text", stream)
    return stream


def test_what_is_told_in_one_turn_of_the_event_loop_is_one_write_in_order(stream: Stream) -> None:
    async def turns() -> None:
        with events.gathering(asyncio.get_running_loop().call_soon):
            for number in range(6):
                emit(MESSAGE_RECEIVED, number=number)
                if number in (1, 4):
                    await asyncio.sleep(0)
        assert told(stream) == [["0", "1"], ["2", "3", "4"], ["5"]]  # what is left goes out at the end
        emit(MESSAGE_RECEIVED, number=6)

    asyncio.run(turns())
    assert told(stream)[3:] == [["6"]]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR, logging.CRITICAL])
def test_a_warning_waits_for_nothing_and_takes_along_what_was_told_before(stream: Stream, level: int) -> None:
    with events.gathering(lambda flush: None):
        emit(MESSAGE_RECEIVED, number=1)
        assert told(stream) == []
        emit(events.SPOOL_BROKEN, level=level, number=2)
        assert told(stream) == [["1", "2"]]


def test_another_thread_does_not_wait_for_the_event_loop(stream: Stream) -> None:
    with events.gathering(lambda flush: None):
        emit(MESSAGE_RECEIVED, number=1)
        thread = threading.Thread(target=lambda: emit(MESSAGE_RECEIVED, number=2))
        thread.start()
        thread.join()
        assert told(stream) == [["1", "2"]]


def test_a_new_output_leaves_nothing_behind_in_the_old_one(stream: Stream) -> None:
    with events.gathering(lambda flush: None):
        emit(MESSAGE_RECEIVED, number=1)
        configure("info", "text", Stream())
        assert told(stream) == [["1"]]


@pytest.mark.parametrize("failure", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_log_that_cannot_be_written_stops_nothing(stream: Stream, failure: Exception) -> None:
    stream.failure = failure
    emit(MESSAGE_RECEIVED, number=1)
    stream.failure = None
    emit(MESSAGE_RECEIVED, number=2)
    assert told(stream) == [["2"]]


def test_libraries_keep_their_own_log(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("some.library").warning("about something")
    assert caplog.messages == ["about something"]
    assert stream.writes == []


def test_until_it_is_configured_events_are_records_of_logging(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "_output", None)
    caplog.set_level(logging.INFO, "masqmail")
    emit(MESSAGE_RECEIVED, number=1)
    assert [(record.getMessage(), vars(record)["fields"]) for record in caplog.records] == [
        (MESSAGE_RECEIVED, {"number": 1})
    ]
