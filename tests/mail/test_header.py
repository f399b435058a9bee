"""The header section is cut into fields without losing a byte."""

from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.header import Field, field_names, join_fields, make_field, split_fields, values

HEADER = b"Subject: one\r\n two\r\nX-Odd :\tyes \r\nTo: a@b.example\r\n"


def test_a_folded_field_is_one_field() -> None:
    assert [field.name for field in split_fields(HEADER)] == ["subject", "x-odd", "to"]


def test_a_value_is_unfolded_and_stripped() -> None:
    fields = split_fields(HEADER)
    assert list(values(fields, "subject")) == [b"one two"]
    assert list(values(fields, "x-odd")) == [b"yes"]


def test_a_line_without_a_colon_has_no_name() -> None:
    assert split_fields(b"no field here\r\nTo: x\r\n")[0] == Field("", b"no field here\r\n")


def test_a_continuation_with_nothing_before_it_has_no_name() -> None:
    assert split_fields(b" lost\r\nTo: x\r\n")[0].name == ""


def test_a_made_field_ends_in_crlf() -> None:
    assert make_field("Date", "today") == Field("date", b"Date: today\r\n")


@given(st.binary(max_size=200) | st.text("ab: \t\r\n", max_size=60).map(str.encode))
def test_joining_the_fields_gives_every_byte_back(header: bytes) -> None:
    assert join_fields(split_fields(header)) == header


@given(
    st.lists(
        st.sampled_from([b"A: b\r\n", b"Re-Ceived \t:\r\n", b" c: d\r\n", b"\te\n", b"no\r\n", b": f\r\n", b"g:"])
    )
)
def test_the_names_alone_are_those_of_the_fields(lines: list[bytes]) -> None:
    header = b"".join(lines)
    names = [field.name.encode() for field in split_fields(header) if field.name]
    assert field_names(header) == names
