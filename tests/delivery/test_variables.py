"""`${…}` is filled in word by word, and a path never leaves its directory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.delivery.variables import (
    NAMES,
    VariableError,
    Variables,
    environment_of,
    expand,
    expand_path,
    expand_words,
    variables_of,
)
from masqmail.mail.address import Mailbox

SOME = variables_of(
    user="fax",
    recipient=Mailbox("fax+12 34", "home.example"),
    sender=Mailbox("ann", "example.org"),
    received_host="printer\n[192.168.1.7]",
    ident="bob",
    queue_id="0a1b2c",
)


def test_the_names_are_those_of_the_interface() -> None:
    expected = """user recipient recipient_local recipient_domain sender sender_local sender_domain
        received_host ident queue_id"""
    assert list(NAMES) == expected.split()


def test_each_name_is_filled_in() -> None:
    template = "${recipient}|${recipient_local}|${sender}|${sender_domain}|${received_host}|$5 ${queue_id}"
    assert expand(template, SOME) == (
        '"fax+12 34"@home.example|fax+12 34|ann@example.org|example.org|printer?[192.168.1.7]|$5 0a1b2c'
    )


def test_the_null_sender_is_empty() -> None:
    null = variables_of(user="fax", recipient=Mailbox("fax"), sender=None)
    assert (null.sender, null.sender_local, null.sender_domain) == ("", "", "")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(VariableError, match="is unknown; there are user"):
        expand("${sendr}", SOME)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_a_value_never_makes_a_word_more(value: str) -> None:
    words = expand_words(("/bin/echo", "to ${sender}", "--"), Variables(sender=value))
    assert words == ("/bin/echo", f"to {value}", "--")


def test_a_value_is_not_expanded_again() -> None:
    assert expand("${sender}", Variables(sender="${user}", user="bob")) == "${user}"


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("/var/mail/${user}", "/var/mail/fax"),
        ("~/Maildir", "/home/fax/Maildir"),
        ("/srv/${recipient_domain}/${user}/", "/srv/home.example/fax/"),
    ],
)
def test_a_path_is_filled_in(template: str, path: str) -> None:
    assert expand_path(template, SOME, "/home/fax/") == path


@pytest.mark.parametrize("user", ["../root", "a/b", "", ".", ".."])
def test_a_value_cannot_lead_out_of_its_directory(user: str) -> None:
    with pytest.raises(VariableError, match="cannot be part of a path"):
        expand_path("/var/mail/${user}", Variables(user=user), "/")


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(VariableError, match="not an absolute path"):
        expand_path("Maildir", SOME, "/home/fax")


def test_the_environment_has_what_is_promised_and_nothing_else() -> None:
    environment = environment_of(SOME, host_name="gateway.example", home="/home/fax", shell="/bin/sh")
    assert environment == {
        "SENDER": "ann@example.org",
        "RETURN_PATH": "ann@example.org",
        "SENDER_DOMAIN": "example.org",
        "SENDER_LOCAL": "ann",
        "RECEIVED_HOST": "printer?[192.168.1.7]",
        "LOCAL_PART": "fax+12 34",
        "USER": "fax",
        "LOGNAME": "fax",
        "MESSAGE_ID": "0a1b2c",
        "QUALIFY_DOMAIN": "gateway.example",
        "HOME": "/home/fax",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "SHELL": "/bin/sh",
        "DOMAIN": "home.example",
    }


def test_a_program_of_an_alias_has_the_alias_as_its_user() -> None:
    environment = environment_of(Variables(recipient_local="fax"), host_name="", home="/", shell="/bin/sh")
    assert (environment["USER"], environment["LOGNAME"], environment["LOCAL_PART"]) == ("fax", "fax", "fax")
