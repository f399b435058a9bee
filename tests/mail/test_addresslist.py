"""Address lists are read whatever they look like, and every span points at what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.addresslist import MAX_MAILBOXES, AddressList, parse_address_list, phrase_text


def read(value: bytes) -> list[str]:
    """The addresses of a value that has no fault."""
    found = parse_address_list(value)
    assert not found.faults
    return [str(mailbox) for mailbox in found.mailboxes]


ADDRESSES = [
    (b"john@home.example", ["john@home.example"]),
    (b"a@x, b@y", ["a@x", "b@y"]),
    (b"a@x,\r\n\tb@y\r\n", ["a@x", "b@y"]),
    (b"John Doe <a@x>", ["a@x"]),
    (b'"Doe, John" <a@x>, b@y', ["a@x", "b@y"]),
    (b"J. Doe <a@x>", ["a@x"]),
    (b"=?utf-8?Q?J=C3=B6rg?= <a@x>", ["a@x"]),
    ("Jörg <jörg@bücher.example>".encode(), ["jörg@bücher.example"]),
    (b"J\xf6rg <a@x>", ["a@x"]),
    (b"a@x <b@y>", ["b@y"]),
    (b"Foo [bar] \\ <a@x>", ["a@x"]),
    (b"a@x (John), (Ann) b@y", ["a@x", "b@y"]),
    (b"a(one (two) \\) three)@(four)x", ["a@x"]),
    (b"john . doe @ home . example", ["john.doe@home.example"]),
    (b'"john" . doe@x', ["john.doe@x"]),
    (b'"a b"@x', ['"a b"@x']),
    (b'"a\r\n b"@x', ['"a b"@x']),
    (b"a..b.@x", ['"a..b."@x']),
    (b"<a@x>", ["a@x"]),
    (b"<@relay.example,@second.example:a@x>, b@y", ["a@x", "b@y"]),
    (b"a@[192.0.2.1]", ["a@[192.0.2.1]"]),
    (b"root", ["root"]),
    (b"undisclosed-recipients:;", []),
    (b"The List: a@x, Ann <b@y>; , c@z", ["a@x", "b@y", "c@z"]),
    (b"one: a@x; two: b@y;", ["a@x", "b@y"]),
    (b"a@x; b@y", ["a@x", "b@y"]),
    (b",, a@x , ,", ["a@x"]),
    (b"", []),
    (b"(nobody)", []),
]


@pytest.mark.parametrize(("value", "addresses"), ADDRESSES)
def test_addresses_are_found(value: bytes, addresses: list[str]) -> None:
    assert read(value) == addresses


FAULTS = [
    (b"John Doe, a@x", "'John Doe' is no address: two words stand side by side; is there a comma missing?"),
    (b"b@y c@z, a@x", "'b@y c@z' is no address: two words stand side by side; is there a comma missing?"),
    (b"<>, a@x", "'<>' is no address: there is nothing between < and >"),
    (b"<b@y, a@x", "'<b@y' is no address: the > is missing, or something stands behind it"),
    (b"<b@y> c, a@x", "'<b@y> c' is no address: the > is missing, or something stands behind it"),
    (b"@y, a@x", "'@y' is no address: there is nothing before the @"),
    (b"<@relay:>, a@x", "'<@relay:>' is no address: it is empty"),
    (b'"", a@x', "'\"\"' is no address: it is empty"),
    (b"b@, a@x", "'b@' is no address: there is nothing behind the @"),
    (b"b@y@z, a@x", "'b@y@z' is no address: @ cannot stand there"),
    (b"b\x00c@y, a@x", "'b\\x00c@y' is no address: a character cannot stand there"),
    (b"b@-y, a@x", "'b@-y' is no address: no valid domain after the @ in 'b@-y'"),
    (b"\xff@y, a@x", "'\ufffd@y' is no address: it is not UTF-8"),
    (b'a@x, "b, c@z', "'\"b, c@z' is no address: the \" is never closed"),
    (b"a@x, b (c, d@z", "'b (c, d@z' is no address: the ( is never closed"),
    (b"a@x, b@[c, d@z", "'b@[c, d@z' is no address: the [ is never closed"),
    (b"b" * 70 + b"@y, a@x", "'" + "b" * 60 + "…' is no address: the local-part is longer than 64 bytes"),
    (b"b" * 3000 + b"@y, a@x", "'" + "b" * 60 + "…' is no address: it is too long"),
    (b"b." * 6000 + b"@y, a@x", "'" + "b." * 30 + "…' is no address: it is too long"),
]


@pytest.mark.parametrize(("value", "reason"), FAULTS)
def test_what_is_no_address_is_reported_and_the_rest_is_read(value: bytes, reason: str) -> None:
    found = parse_address_list(value)
    assert [fault.reason for fault in found.faults] == [reason]
    assert [str(mailbox) for mailbox in found.mailboxes] == ["a@x"]


def parts(value: bytes, found: AddressList) -> list[tuple[bytes, bytes | None, bool]]:
    return [
        (
            value[one.spec.start : one.spec.end],
            value[one.name.start : one.name.end] if one.name else None,
            one.has_comment,
        )
        for one in found.listed
    ]


def test_spans_point_at_the_address_and_the_name() -> None:
    value = b' "A, B" C <a@x> , < b . c @ y > (Bob),\r\n d@z, <@r:e@x>'
    found = parse_address_list(value)
    assert parts(value, found) == [
        (b"a@x", b'"A, B" C', False),
        (b"b . c @ y", None, True),
        (b"d@z", None, False),
        (b"@r:e@x", None, False),
    ]
    assert [one.angle and value[one.angle : one.angle + 1] for one in found.listed] == [b"<", b"<", None, b"<"]


def test_spans_count_from_the_beginning_of_the_bytes() -> None:
    raw = b"From: a@x\r\n"
    (one,) = parse_address_list(raw, raw.index(b":") + 1).listed
    assert raw[one.spec.start : one.spec.end] == b"a@x"


def test_there_is_a_bound_on_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masqmail.mail.addresslist.MAX_MAILBOXES", 2)
    found = parse_address_list(b"a, b, c, d")
    assert [str(mailbox) for mailbox in found.mailboxes] == ["a", "b"]
    assert [fault.reason for fault in found.faults] == ["more than 2 addresses; the rest was passed over"]


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        (b"John  Doe", "John Doe"),
        (b'"Doe,\r\n \\"J\\"" x', 'Doe, "J" x'),
        (b"J. Doe", "J. Doe"),
        ("Jörg".encode(), "Jörg"),
    ],
)
def test_a_display_name_is_read_as_people_do(phrase: bytes, text: str) -> None:
    assert phrase_text(phrase) == text


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["(", "()", ",", "a,", "<", "<@", '"', "[", "a:", ":", "a:;", "(\\", "\\", ".a", "a@x,"]
)
def test_a_megabyte_of_anything_is_read(piece: str) -> None:
    value = piece.encode() * (1_000_000 // len(piece))
    found = parse_address_list(value)
    assert len(found.listed) <= MAX_MAILBOXES
    assert all(0 <= fault.span.start < fault.span.end <= len(value) for fault in found.faults)


PIECES = st.sampled_from(
    [
        b"a",
        b"b@x",
        b"@",
        b".",
        b"<",
        b">",
        b",",
        b";",
        b":",
        b'"',
        b"(",
        b")",
        b"[",
        b"]",
        b"\\",
        b" ",
        b"\r\n ",
        b"\xc3",
        b"\x00",
    ]
)


@given(st.lists(PIECES, max_size=25).map(b"".join) | st.binary(max_size=60))
def test_any_bytes_are_read_in_order_and_without_overlap(value: bytes) -> None:
    found = parse_address_list(value)
    position = 0
    for one in found.listed:
        start = one.spec.start if one.name is None else one.name.start
        assert position <= start <= one.spec.start < one.spec.end <= len(value)
        position = one.spec.end
    for fault in found.faults:
        assert 0 <= fault.span.start < fault.span.end <= len(value)


@given(st.lists(st.sampled_from(["a@x", '"a b"@y', "ü@z", "j@[192.0.2.1]"]), max_size=5))
def test_a_list_of_written_mailboxes_is_read_back(addresses: list[str]) -> None:
    assert read(", ".join(addresses).encode()) == addresses


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_an_address_can_be_replaced_without_touching_the_rest(value: bytes) -> None:
    for one in parse_address_list(value).listed:
        replaced = value[: one.spec.start] + b"new@home" + value[one.spec.end :]
        assert "new@home" in map(str, parse_address_list(replaced).mailboxes)
