"""Local is what its domain or an exception says; names lose their detail only when they must."""

from dataclasses import replace

import pytest

from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.routing.local import LocalDomains
from support.routes import LOCAL


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("john", True),
        ("john@home.example", True),
        ("john@HOME.Example", True),
        ("john@localhost", True),
        ("john@printer.lan", True),
        ("john@lan", False),
        ("john@isp.example", False),
        ("bob@isp.example", True),
        ("Bob@isp.example", True),
        ("eric@home.example", False),
        ("Eric@home.example", False),
        ("eric@localhost", True),
    ],
)
def test_an_address_is_local_or_not(address: str, expected: bool) -> None:
    assert LOCAL.is_local(parse_mailbox(address)) is expected


def test_a_bare_name_that_is_declared_not_local_here_is_not() -> None:
    local = replace(LOCAL, not_local_addresses=("eric@gateway.home.example",))
    assert not local.is_local(Mailbox("eric"))
    assert local.is_local(Mailbox("john"))


def test_exceptions_have_case_when_local_parts_have() -> None:
    local = replace(LOCAL, match_case=True)
    assert not local.is_local(parse_mailbox("Bob@isp.example"))
    assert local.is_local(parse_mailbox("bob@ISP.example"))


def test_a_bare_name_is_qualified_with_the_name_of_the_host() -> None:
    assert LOCAL.qualify(Mailbox("john")) == Mailbox("john", "gateway.home.example")
    assert LOCAL.qualify(Mailbox("john", "x")) == Mailbox("john", "x")


@pytest.mark.parametrize(
    ("address", "expected"),
    [("postmaster", True), ("PostMaster@Home.example", True), ("postmaster@isp.example", False), ("john", False)],
)
def test_the_postmaster_is_known_in_any_case(address: str, expected: bool) -> None:
    assert LOCAL.is_postmaster(parse_mailbox(address)) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("john@home.example", True),
        ("john", True),
        ("bob@isp.example", False),
        ("eric@home.example", False),
        ("a@b", False),
    ],
)
def test_only_addresses_of_local_domains_may_be_rewritten(address: str, expected: bool) -> None:
    assert LOCAL.is_rewritable(parse_mailbox(address)) is expected


USERS = {"john", "ann+x", "Carl"}


@pytest.mark.parametrize(
    ("local_part", "user"),
    [
        ("john", "john"),
        ("John", "john"),
        ("john+lists", "john"),
        ("john+a+b", "john"),
        ("ann+x", "ann+x"),
        ("ann+y", None),
        ("Carl", "Carl"),
        ("carl", None),
        ("+john", None),
        ("nobody", None),
    ],
)
def test_a_user_is_found_by_name_then_without_case_and_detail(local_part: str, user: str | None) -> None:
    assert LOCAL.user_of(Mailbox(local_part), USERS.__contains__) == user


def test_without_a_delimiter_there_is_no_detail() -> None:
    assert replace(LOCAL, recipient_delimiter="").user_of(Mailbox("john+x"), USERS.__contains__) is None


def test_with_case_a_user_has_one_spelling() -> None:
    assert replace(LOCAL, match_case=True).user_of(Mailbox("John"), USERS.__contains__) is None


@pytest.mark.parametrize(
    ("domains", "address", "expected"),
    [
        (("Home.Example",), "ann@home.example", True),
        (("*.lan", "home.example"), "ann@PRINTER.lan", True),
        (("*.lan", "home.example"), "ann@lan", False),
        (("pc?.lan",), "ann@pc7.lan", True),
        ((), "ann@home.example", False),
        ((), "ann", True),
    ],
)
def test_a_local_domain_may_be_a_name_or_a_glob(domains: tuple[str, ...], address: str, expected: bool) -> None:
    assert LocalDomains("gw.home.example", domains).is_local(parse_mailbox(address)) is expected
