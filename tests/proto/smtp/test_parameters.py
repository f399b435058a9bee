"""The parameters of MAIL and RCPT."""

import pytest

from masqmail.mail.envelope import Notify
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.parameters import (
    decode_utf8_xtext,
    decode_xtext,
    parse_parameters,
    read_envid,
    read_notify,
    read_orcpt,
)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        (" SIZE=1", {"SIZE": "1"}),
        ("  size=1   body=8BITMIME ", {"SIZE": "1", "BODY": "8BITMIME"}),
        ("SMTPUTF8", {"SMTPUTF8": None}),
        ("X-A=<b@c>", {"X-A": "<b@c>"}),
    ],
)
def test_keys_are_folded_and_values_kept(text: str, parameters: dict[str, str | None]) -> None:
    assert parse_parameters(text) == parameters


@pytest.mark.parametrize("text", ["=1", "SIZE=", "SIZE=1=2", "-A=1", "A=1 a=2", "A=\t"])
def test_what_is_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        parse_parameters(text)


@pytest.mark.parametrize(
    ("text", "decoded"),
    [("", ""), ("abc", "abc"), ("a+2Bb", "a+b"), ("a+3Db", "a=b"), ("+20", " "), ("~!", "~!")],
)
def test_xtext_is_decoded(text: str, decoded: str) -> None:
    assert decode_xtext(text) == decoded


@pytest.mark.parametrize("text", ["+", "+2", "+2b", "+0D+0A", "+00", "+7F", "+C3+A4", "a b", "ä"])
def test_xtext_that_would_spoil_a_header_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        decode_xtext(text)


@pytest.mark.parametrize(
    ("text", "decoded"), [("", ""), ("Ann", "Ann"), ("Ann+20B.", "Ann B."), ("J+C3+B6rg", "Jörg"), ("+2B+3D", "+=")]
)
def test_utf8_under_xtext_is_decoded(text: str, decoded: str) -> None:
    assert decode_utf8_xtext(text) == decoded


@pytest.mark.parametrize("text", ["+", "+0A", "+00", "+C3", "+FF", "+C2+85", "+ED+A0+80", "ö", "a b"])
def test_what_is_no_utf8_or_hides_controls_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        decode_utf8_xtext(text)


@pytest.mark.parametrize(
    ("value", "orcpt"),
    [
        ("rfc822;ann@example.org", "rfc822;ann@example.org"),
        ("RFC822;ann+2Bx@example.org", "RFC822;ann+x@example.org"),
        ("x400;+2FS=Ann"[:9], "x400;/S"),
        ("utf-8;ann\\x{E4}@example.org", "utf-8;annä@example.org"),
        ("UTF-8;annä@example.org", "UTF-8;annä@example.org"),
    ],
)
def test_the_original_recipient_is_decoded(value: str, orcpt: str) -> None:
    assert read_orcpt(value) == orcpt


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "ann@example.org",
        ";ann",
        "rfc822;",
        "rfc 822;ann",
        "rfc822;" + "x" * 494,
        "utf-8;\\x{0A}",
        "utf-8;\\x{D800}",
        "utf-8;\\x{FFFFFF}",
    ],
)
def test_a_bad_original_recipient_is_refused(value: str | None) -> None:
    with pytest.raises(PeerError):
        read_orcpt(value)


@pytest.mark.parametrize(
    ("value", "notify"),
    [
        ("NEVER", Notify.NEVER),
        ("success", Notify.SUCCESS),
        ("FAILURE,DELAY", Notify.FAILURE | Notify.DELAY),
        ("DELAY,DELAY", Notify.DELAY),
    ],
)
def test_notify_is_never_or_a_list(value: str, notify: Notify) -> None:
    assert read_notify(value) == notify


@pytest.mark.parametrize("value", [None, "", "NEVER,DELAY", "SOMETIMES", "DELAY,"])
def test_another_notify_is_refused(value: str | None) -> None:
    with pytest.raises(PeerError):
        read_notify(value)


def test_an_envelope_id_has_at_most_a_hundred_octets() -> None:
    assert read_envid("x" * 100) == "x" * 100
    with pytest.raises(PeerError):
        read_envid("x" * 101)
