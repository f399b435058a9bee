"""Old commands as argument lists, and wrappers that only spoke TLS."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.commands import (
    TlsProgram,
    as_tls,
    read_command,
    read_delivery_command,
    read_wrapper,
    with_our_variables,
)
from masqmail.importing.dialect import Dialect
from masqmail.importing.values import BadOldValue

V02, V03, V10 = Dialect.V02, Dialect.V03, Dialect.V10


@pytest.mark.parametrize(("dialect", "words"), [(V02, ("x", "a b")), (V03, ("x", '"a', 'b"')), (V10, ("x", "a b"))])
def test_quotes_mean_what_they_meant(dialect: Dialect, words: tuple[str, ...]) -> None:
    assert read_command('x "a b"', dialect).words == words


@pytest.mark.parametrize("text", ["a | b", "a; b", "a > b", "a `b`", ""])
def test_what_needs_a_shell_is_told(text: str) -> None:
    with pytest.raises(BadOldValue):
        read_command(text, V02)


def test_variables_get_our_names() -> None:
    command = read_delivery_command("/bin/x -d $rcpt_local ${return_path} \\$5 ${nobody}", V02)
    assert command.words == ("/bin/x", "-d", "${recipient_local}", "${sender}", "$5")
    assert len(command.remarks) == 1


def test_a_variable_stays_inside_its_word() -> None:
    assert read_delivery_command("x pre${rcpt}post", V10).words == ("x", "pre${recipient}post")


def test_redirections_of_a_wrapper_go_and_a_shell_stays_where_it_is_needed() -> None:
    assert read_wrapper("exec ssh -C shore 2>/dev/null", V03).words == ("ssh", "-C", "shore")
    assert read_wrapper("a | b", V03).words == ("/bin/sh", "-c", "a | b")
    assert read_wrapper("ssh 'a b'", V10).words == ("ssh", "a b")


TLS = [
    ("/usr/bin/openssl s_client -quiet -connect mail.example:465", TlsProgram("mail.example", 465, False)),
    ("openssl s_client -connect h:25 -starttls smtp -CAfile /ca", TlsProgram("h", 25, True, "/ca")),
    ("openssl s_client -host h -port 995", TlsProgram("h", 995, False)),
    ("gnutls-cli -p 465 mail.example", TlsProgram("mail.example", 465, False)),
    ("gnutls-cli --port=25 -s mail.example", TlsProgram("mail.example", 25, True)),
    ("gnutls-cli --x509cafile /ca --starttls-proto=smtp -p 587 h", TlsProgram("h", 587, True, "/ca")),
    ("stunnel -c -r mail.example:465", TlsProgram("mail.example", 465, False)),
    ("ssh -C shore nc localhost 25", None),
    ("openssl version", None),
    ("openssl s_client -starttls ldap -connect h:1", None),
]


@pytest.mark.parametrize(("text", "expected"), TLS)
def test_programs_that_only_speak_tls_are_known(text: str, expected: TlsProgram | None) -> None:
    assert as_tls(read_wrapper(text, V10).words) == expected


@given(st.text(max_size=40), st.sampled_from(Dialect))
def test_any_text_is_a_command_or_told(text: str, dialect: Dialect) -> None:
    for read in (read_command, read_delivery_command, read_wrapper):
        try:
            as_tls(read(text, dialect).words)
        except BadOldValue:
            pass
    with_our_variables(text)
