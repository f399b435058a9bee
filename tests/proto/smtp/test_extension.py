"""What a server offers is read from its EHLO reply; what makes no sense is passed over."""

import pytest

from masqmail.proto.smtp.extension import Extensions, Limits, parse_ehlo


def test_a_typical_reply_is_read_whole() -> None:
    text = (
        "mx.example.org greets you\nPIPELINING\nSIZE 52428800\nSTARTTLS\nAUTH PLAIN LOGIN\n"
        "ENHANCEDSTATUSCODES\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING\nLIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1"
    )
    assert parse_ehlo(text) == Extensions(
        server_name="mx.example.org",
        size_bytes=52428800,
        pipelining=True,
        chunking=True,
        eight_bit_mime=True,
        smtputf8=True,
        dsn=True,
        enhanced_status_codes=True,
        starttls=True,
        auth=("PLAIN", "LOGIN"),
        limits=Limits(mail_max=5, rcpt_max=20, rcpt_domain_max=1),
    )


def test_nothing_is_offered_by_a_greeting_alone() -> None:
    assert parse_ehlo("mx") == Extensions(server_name="mx")


def test_keywords_are_read_without_case() -> None:
    offered = parse_ehlo("mx\npipelining\nAuth plain\nsize 10")
    assert (offered.pipelining, offered.auth, offered.size_bytes) == (True, ("PLAIN",), 10)


@pytest.mark.parametrize(
    ("line", "size_bytes", "limit"),
    [("SIZE", 0, None), ("SIZE 0", 0, None), ("SIZE 10", 10, 10), ("SIZE ten", 0, None), ("SIZE -1", 0, None)],
)
def test_a_size_without_a_number_is_no_limit(line: str, size_bytes: int, limit: int | None) -> None:
    offered = parse_ehlo(f"mx\n{line}")
    assert (offered.size_bytes, offered.max_message_bytes) == (size_bytes, limit)


@pytest.mark.parametrize("lines", ["AUTH LOGIN PLAIN\nAUTH=LOGIN PLAIN", "AUTH=LOGIN\nAUTH PLAIN LOGIN"])
def test_the_old_spelling_of_auth_is_read(lines: str) -> None:
    assert parse_ehlo(f"mx\n{lines}").auth == ("LOGIN", "PLAIN")


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        ("", Limits()),
        ("RCPTMAX=0", Limits()),
        ("RCPTMAX", Limits()),
        ("RCPTMAX=x MAILMAX=3", Limits(mail_max=3)),
        ("rcptmax=7 NEWMAX=9", Limits(rcpt_max=7)),
        ("RCPTMAX=1000000000", Limits()),
    ],
)
def test_limits_that_are_none_are_passed_over(arguments: str, limits: Limits) -> None:
    assert parse_ehlo(f"mx\nLIMITS {arguments}").limits == limits
