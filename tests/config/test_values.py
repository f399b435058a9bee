"""Each type of value: what is read from TOML, how it is written again, and what is refused."""

from datetime import date, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masqmail.config.fetch import Interval, Keep, Trigger
from masqmail.config.model import Delimiter, Network
from masqmail.config.routes import Tls
from masqmail.config.values import (
    KINDS,
    BadValue,
    complaint,
    format_duration,
    format_size,
    kind_of,
    parse_duration,
)
from masqmail.mail.address import Mailbox
from masqmail.routing.route import AddressMap
from masqmail.settings import (
    Bytes,
    Command,
    Domain,
    DomainPattern,
    Fingerprint,
    HostPort,
    LmtpAddress,
    Pattern,
    TemplateSource,
    UserPath,
)

GOOD: list[tuple[object, object, object]] = [
    (str, "word", "word"),
    (int, 0, 0),
    (int, 1000, 1000),
    (bool, True, True),
    (Path, "/etc/file", Path("/etc/file")),
    (UserPath, "/var/mail/${user}", "/var/mail/${user}"),
    (UserPath, "~/Maildir", "~/Maildir"),
    (LmtpAddress, "/run/dovecot/lmtp", "/run/dovecot/lmtp"),
    (LmtpAddress, "/run/${user}/lmtp", "/run/${user}/lmtp"),
    (LmtpAddress, "[::1]:24", "[::1]:24"),
    (LmtpAddress, "mail.home.example:24", "mail.home.example:24"),
    (timedelta, "90s", timedelta(seconds=90)),
    (timedelta, "15m", timedelta(minutes=15)),
    (timedelta, "4h", timedelta(hours=4)),
    (timedelta, "5d", timedelta(days=5)),
    (timedelta, "1h30m", timedelta(minutes=90)),
    (Interval, "5m", timedelta(minutes=5)),
    (Interval, "manual", Trigger.MANUAL),
    (Interval, "idle", Trigger.IDLE),
    (Keep, True, True),
    (Keep, False, False),
    (Keep, "7d", timedelta(days=7)),
    (Bytes, "250KB", 250_000),
    (Bytes, "50MB", 50_000_000),
    (Bytes, "1.5 GB", 1_500_000_000),
    (Bytes, "7B", 7),
    (Bytes, 12345, 12345),
    (Command, "pass show 'my isp'", ("pass", "show", "my isp")),
    (Command, ["a b", "", "$HOME"], ("a b", "", "$HOME")),
    (Pattern, "*@*.home.example", "*@*.home.example"),
    (Pattern, "<>", "<>"),
    (Pattern, "root", "root"),
    (Domain, "home.example", "home.example"),
    (Domain, "bücher.example", "bücher.example"),
    (DomainPattern, "*.home.example", "*.home.example"),
    (DomainPattern, "host?", "host?"),
    (Domain, "हिन्दी.example", "हिन्दी.example"),
    (Domain, "mail_2.a-b.example", "mail_2.a-b.example"),
    (Domain, "a" * 63, "a" * 63),
    (Domain, "[192.0.2.1]", "[192.0.2.1]"),
    (HostPort, "mail.example.org:587", HostPort("mail.example.org", 587)),
    (HostPort, "192.168.1.1", HostPort("192.168.1.1")),
    (HostPort, "[::1]:25", HostPort("::1", 25)),
    (HostPort, "[fe80::1%eth0]", HostPort("fe80::1%eth0")),
    (Network, "192.168.1.0/24", ip_network("192.168.1.0/24")),
    (Network, "192.168.1.7", ip_network("192.168.1.7/32")),
    (Network, "fd00::/8", ip_network("fd00::/8")),
    (Mailbox, "oliver", Mailbox("oliver")),
    (Mailbox, "ann@example.org", Mailbox("ann", "example.org")),
    (Fingerprint, "ab" * 32, "ab" * 32),
    (Fingerprint, "sha256:" + ":".join(["AB"] * 32), "ab" * 32),
    (TemplateSource, "bounce.txt", TemplateSource(path=Path("bounce.txt"))),
    (TemplateSource, "/etc/my own/$x.txt", TemplateSource(path=Path("/etc/my own/$x.txt"))),
    (TemplateSource, "~/a b", TemplateSource(path=Path("~/a b"))),
    (TemplateSource, "../b", TemplateSource(path=Path("../b"))),
    (TemplateSource, "Sorry, ${recipient}", TemplateSource("Sorry, ${recipient}\n")),
    (TemplateSource, "${reasons}", TemplateSource("${reasons}\n")),
    (TemplateSource, "/Sorry/\r\n\tbob", TemplateSource("/Sorry/\n\tbob\n")),
    (Delimiter, "+", "+"),
    (Delimiter, "", ""),
    (AddressMap, {}, ()),
    (
        AddressMap,
        {"john": "John Smith <j@isp.example>", "*": "*@isp.example"},
        (("john", "John Smith <j@isp.example>"), ("*", "*@isp.example")),
    ),
    (Tls, "starttls", Tls.STARTTLS),
]

BAD: list[tuple[object, object]] = [
    (str, ""),
    (str, 1),
    (str, "a\nb"),
    (str, "nul\0"),
    (int, True),
    (int, 1.5),
    (int, -1),
    (int, "1"),
    (int, 10**30),
    (int, 2**62),
    (bool, 1),
    (bool, "yes"),
    (Path, "~bob/file"),
    (UserPath, "Maildir"),
    (UserPath, "/var/mail/${usr}"),
    (LmtpAddress, "127.0.0.1"),
    (LmtpAddress, "/run/${usr}/lmtp"),
    (LmtpAddress, "run/lmtp"),
    (timedelta, 90),
    (Interval, "Idle"),
    (Interval, 5),
    (Interval, True),
    (Keep, "yes"),
    (Keep, 7),
    (timedelta, "90"),
    (timedelta, "5 days"),
    (timedelta, "-5d"),
    (timedelta, "1.5h"),
    (timedelta, "٣d"),
    (timedelta, "99999999d"),
    (timedelta, "99999999d" * 10),
    (Bytes, "50M"),
    (Bytes, "MB"),
    (Bytes, -1),
    (Bytes, 1.5),
    (Bytes, True),
    (Bytes, "999999999999999GB"),
    (Command, ""),
    (Command, []),
    (Command, [""]),
    (Command, ["a", 1]),
    (Command, ["a", "b\0"]),
    (Command, "a 'b"),
    (Command, " "),
    (Pattern, "a b@example.org"),
    (Pattern, "<ann@example.org>"),
    (Pattern, "ann@a.example,bob@b.example"),
    (Domain, "a b"),
    (Domain, "*.example"),
    (DomainPattern, "a b"),
    (DomainPattern, "*..example"),
    (Domain, ".example"),
    (Domain, "example."),
    (Domain, "*.example"),
    (Domain, "-a.example"),
    (Domain, "a-.example"),
    (Domain, "a`.example"),
    (Domain, "a" * 64 + ".example"),
    (Domain, ".".join(["a" * 60] * 5)),
    (HostPort, "::1:25"),
    (HostPort, "::1"),
    (HostPort, "1:2:3"),
    (HostPort, "[nonsense]:25"),
    (HostPort, "host:0"),
    (HostPort, "host:65536"),
    (HostPort, "host:smtp"),
    (HostPort, ":25"),
    (HostPort, 25),
    (Network, "192.168.1.7/24"),
    (Network, "192.168.1.0/33"),
    (Network, "home"),
    (Network, 10),
    (Mailbox, "a b"),
    (Mailbox, "ann@"),
    (Mailbox, "Ann <ann@example.org>"),
    (Fingerprint, "ab" * 31),
    (Fingerprint, "sha1:" + "ab" * 32),
    (TemplateSource, ""),
    (TemplateSource, " \n"),
    (TemplateSource, "a \0"),
    (TemplateSource, "to ${recipent}"),
    (TemplateSource, "/a\0b"),
    (TemplateSource, 1),
    (Delimiter, "a"),
    (Delimiter, "@"),
    (Delimiter, 1),
    (AddressMap, "ann@example.org"),
    (AddressMap, {"ann": "ann"}),
    (AddressMap, {"ann": 1}),
    (AddressMap, {"ann": ""}),
    (AddressMap, {"ann": "Ann <ann>"}),
    (AddressMap, {"ann": "not an address@"}),
    (AddressMap, {"ann@home.example": "ann@isp.example"}),
    (AddressMap, {"": "ann@isp.example"}),
    (AddressMap, {"a b": "ann@isp.example"}),
    (Tls, "tls"),
    (Tls, 1),
    (Tls, ["starttls"]),
]


@pytest.mark.parametrize(("hint", "value", "expected"), GOOD, ids=repr)
def test_a_good_value_is_read(hint: object, value: object, expected: object) -> None:
    assert kind_of(hint).read(value) == expected


@pytest.mark.parametrize(("hint", "value", "expected"), GOOD, ids=repr)
def test_what_is_written_reads_as_the_same_value(hint: object, value: object, expected: object) -> None:
    kind = kind_of(hint)
    assert kind.read(kind.write(expected)) == expected


@pytest.mark.parametrize(("hint", "value"), BAD, ids=lambda value: repr(value)[:40])
def test_a_bad_value_is_refused(hint: object, value: object) -> None:
    with pytest.raises(BadValue):
        kind_of(hint).read(value)


@pytest.mark.parametrize("hint", [hint for hint in KINDS if hint is not str], ids=repr)
@pytest.mark.parametrize("value", [date(2026, 1, 1), 1.5, [[]], {"a": {}}], ids=repr)
def test_a_value_of_a_type_that_fits_nowhere_is_refused(hint: object, value: object) -> None:
    with pytest.raises(BadValue):
        kind_of(hint).read(value)


def test_every_kind_has_good_and_bad_values_in_these_tables() -> None:
    assert {hint for hint, _, _ in GOOD} - {Tls} == set(KINDS) == {hint for hint, _ in BAD} - {Tls}


COMPLAINTS: list[tuple[object, object, str]] = [
    (timedelta, 5, 'x is the number 5, not a duration; write it like "90s", "15m", "4h" or "5d"'),
    (timedelta, "5 days", 'x is "5 days", not a duration; write it like "90s", "15m", "4h" or "5d"'),
    (timedelta, "99999d", 'x is "99999d", longer than ten years; write it like "90s", "15m", "4h" or "5d"'),
    (Bytes, "50M", 'x is "50M", not a size; write it like "250KB" or "50MB"'),
    (bool, "yes", 'x is "yes", not true or false; write true or false'),
    (int, 1 << 99999, "x is a number with too many digits, not a whole number; write it like 10"),
    (str, "", 'x is empty; write it like "word", or leave it out'),
    (str, "a\tb", 'x is "a\\u0009b", which has a control character in it; write it without'),
    (Path, "~bob/x", 'x is "~bob/x", which names somebody\'s home; write the whole path'),
    (UserPath, "/m/${usr}", 'x is "/m/${usr}", and there is no variable "usr"; write "user"'),
    (HostPort, "25", 'x is "25", a port without its host; write it like "mail.example.org:587" or "[::1]:25"'),
    (
        HostPort,
        "192.168.1.256:25",
        'x is "192.168.1.256:25", no IPv4 address; write it like "mail.example.org:587" or "[::1]:25"',
    ),
    (HostPort, "::1:25", 'x is "::1:25", an IPv6 address without brackets; write "[::1]:25"'),
    (
        Network,
        "192.168.1.7/24",
        'x is "192.168.1.7/24", an address within a network; write "192.168.1.0/24" for the network',
    ),
    (
        TemplateSource,
        "Hi\n${recipent}",
        'x is "Hi\\u000a${recipent}", whose line 2 has ${recipent}, which stands for nothing; write ${recipient}',
    ),
    (TemplateSource, 1, 'x is the number 1, not a text with variables; write it like "/etc/masqmail/bounce.txt"'),
    (Tls, "start-tls", 'x is "start-tls", not "starttls", "implicit", "opportunistic" or "none"; write "starttls"'),
    (AddressMap, {"a": "a*@b.c"}, 'x is a table, in which "a*@b.c" has a * beside other letters; write "*@b.c"'),
    (AddressMap, {"a": "b"}, 'x is a table, in which "b" has no domain; write "b@isp.example"'),
    (
        AddressMap,
        {"a": "Ann <ann@bücher.example>"},
        'x is a table, in which the domain of "Ann <ann@bücher.example>" has letters that not every server reads; '
        'write "Ann <ann@xn--bcher-kva.example>"',
    ),
    (AddressMap, {"a@b": "c@d"}, 'x is a table, whose key "a@b" is no local part; write "a"'),
    (AddressMap, {" a b": "c@d"}, 'x is a table, whose key " a b" is no local part; write "a?b"'),
    (Domain, date(2026, 1, 1), 'x is a date or time, not a domain; write it like "mail.example.org"'),
]


@pytest.mark.parametrize(("hint", "value", "expected"), COMPLAINTS, ids=range(len(COMPLAINTS)))
def test_a_complaint_says_what_was_found_and_what_to_write(hint: object, value: object, expected: str) -> None:
    kind = kind_of(hint)
    with pytest.raises(BadValue) as caught:
        kind.read(value)
    assert "; ".join(complaint("x", value, kind, caught.value)) == expected


@given(st.integers(0, 10 * 365 * 86400))
def test_durations_are_written_as_they_are_read(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@given(st.integers(0, 10**15))
def test_sizes_are_written_as_they_are_read(size: int) -> None:
    assert kind_of(Bytes).read(format_size(size)) == size


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=60)
@given(st.sampled_from(list(KINDS)), _ANYTHING)
def test_whatever_is_read_gives_a_value_or_a_complaint(hint: object, value: Any) -> None:
    kind = kind_of(hint)
    words: tuple[str, ...] = ()
    try:
        kind.write(kind.read(value))
    except BadValue as bad:
        words = complaint("x", value, kind, bad)
    assert all(words)
