"""How faults are written."""

import pytest

from masqmail.config.faults import Fault, Faults, key_text, one_of, place_text, quote
from masqmail.config.lines import KeyPath


def test_a_fault_says_where_what_and_what_instead() -> None:
    assert str(Fault("a.toml", 3, "host.name", "it is wrong", "write it right")) == (
        "a.toml:3: it is wrong; write it right"
    )


def test_a_fault_of_the_whole_file_has_no_line() -> None:
    assert str(Fault("a.toml", 0, "", "it is missing", "make it")) == "a.toml: it is missing; make it"


def test_faults_are_listed_in_the_order_of_the_file() -> None:
    faults = Faults("a.toml", "[host]\nname = 1\n[log]\nkeep = 2\n")
    faults.add(("log", "keep"), "second", "x")
    faults.add(("host", "name"), "first", "y")
    assert [(fault.line, fault.key, fault.wrong) for fault in faults.listing()] == [
        (2, "host.name", "first"),
        (4, "log.keep", "second"),
    ]


def test_a_place_is_faulty_when_something_below_it_is() -> None:
    faults = Faults("a.toml", "")
    faults.add(("routes", "x", "links", 2), "wrong", "right")
    assert faults.at("routes", "x", "links") and faults.at("routes")
    assert not faults.at("routes", "y") and not faults.at("routes", "x", "tls")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", '"plain"'),
        ("a\x1b[31mb", '"a\\u001b[31mb"'),
        ("x" * 200, '"' + "x" * 119 + '…"'),
        ("postgresql://ann:secret@host/db", '"postgresql://…@host/db"'),
        ("http://host/a@b", '"http://host/a@b"'),
    ],
)
def test_text_of_the_file_is_shown_short_printable_and_without_a_password(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        (("queue", "retry"), "queue.retry", "queue.retry"),
        (("queue", "retry", 1), "queue.retry", "entry 2 of queue.retry"),
        (("routes", "a.b", "tls"), 'routes."a.b".tls', 'routes."a.b".tls'),
    ],
)
def test_a_key_is_written_as_in_the_file(path: KeyPath, key: str, place: str) -> None:
    assert (key_text(path), place_text(path)) == (key, place)


def test_words_to_choose_from_are_joined_for_reading() -> None:
    assert [one_of(["a"]), one_of(["a", "b"]), one_of(["a", "b", "c"])] == ['"a"', '"a" or "b"', '"a", "b" or "c"']
