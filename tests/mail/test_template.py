"""Templates: what may stand in them, and what is said about what may not."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.template import OLD_LINES, OLD_NAMES, VARIABLES, TemplateError, parse_template


def test_names_are_replaced_and_everything_else_stays() -> None:
    template = parse_template("Dear ${sender_local},\r\n$5 for ${recipient}: {no} $ ${subject}")
    values = {"sender_local": "bob", "recipient": "ann@x", "subject": "${sender_local}"}
    assert template.filled(values) == "Dear bob,\n$5 for ann@x: {no} $ ${sender_local}\n"


def test_any_line_end_is_one_and_the_text_ends_with_one() -> None:
    assert parse_template("a\rb\r\nc\n\n\n").text == "a\nb\nc\n"


@pytest.mark.parametrize(
    ("text", "line", "found", "instead"),
    [
        ("Hi\n${recipent}", 2, "${recipent}", "${recipient}"),
        ("${rcpt_local}", 1, "${rcpt_local}", "${recipient_local}"),
        ("${return_path}", 1, "${return_path}", "${sender}"),
        ("a\nb\n${recipient", 3, "${recipient without a }", "${recipient}"),
        ("@failed_rcpts\n", 1, "@failed_rcpts", "${failed_recipients}"),
        ("a\n@msg_headers\n", 2, "@msg_headers", "${message_header}"),
        ("${zzzz}", 1, "${zzzz}", "one of " + " ".join(VARIABLES)),
    ],
)
def test_what_stands_for_nothing_is_found_with_what_was_meant(text: str, line: int, found: str, instead: str) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(text)
    assert (caught.value.line, caught.value.found, caught.value.instead) == (line, found, instead)
    assert str(caught.value) == f"line {line} has {found}"


def test_what_old_templates_had_is_there_under_another_name() -> None:
    assert set(OLD_NAMES.values()) | set(OLD_LINES.values()) <= VARIABLES.keys()
    assert {"host_name", "package", "version", "received_host", "ident"} <= VARIABLES.keys()
    assert not OLD_NAMES.keys() & VARIABLES.keys()


def test_the_page_about_reports_lists_every_variable_and_every_old_name() -> None:
    page = (Path(__file__).parents[2] / "docs/explanation/reports.md").read_text()
    rows = dict(re.findall(r"^\| `\$\{(\w+)\}` \| (.+) \|$", page, re.MULTILINE))
    assert rows == {**VARIABLES, **{old: f"`${{{new}}}`" for old, new in OLD_NAMES.items()}}
    lines = dict(re.findall(r"^\| a line `(\S+)` \| `\$\{(\w+)\}` \|$", page, re.MULTILINE))
    assert lines == OLD_LINES


@given(st.text())
def test_a_text_is_refused_or_can_be_filled_in(text: str) -> None:
    try:
        template = parse_template(text)
    except TemplateError:
        return
    assert "\r" not in template.filled({}) and template.filled({}).endswith("\n")
