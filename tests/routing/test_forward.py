"""A .forward leads to its targets; who names himself in it, and whoever leads in a circle, means a mailbox."""

from dataclasses import replace

import pytest

from masqmail.mail.address import parse_mailbox
from masqmail.routing.alias import (
    MAX_FORWARDS,
    AddressBook,
    Expansion,
    TargetKind,
    expand,
    expand_forward,
    forward_owners,
    forward_source,
)
from masqmail.routing.aliasfile import parse
from support.routes import LOCAL

ALIASES = "staff: ann, bob\nbob: bob, x@isp.example\nfax: |/bin/fax\n"
BOOK = AddressBook(LOCAL, {"ann", "bob", "carl"}.__contains__, [parse(ALIASES, "/etc/aliases")], forwards=True)
HOME = "/home/bob/.forward"


def run(text: str, came_by: tuple[str, ...] = (), **files: str) -> Expansion:
    texts = {HOME: text, **{f"/{name}": value for name, value in files.items()}}
    return expand_forward("bob", came_by, texts, BOOK)


def shown(expansion: Expansion) -> list[tuple[str, str, str]]:
    return [(target.kind.value, str(target), target.source) for target in expansion.targets]


OWN, ALIAS = "~bob/.forward", "/etc/aliases:bob"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x@isp.example", [("remote", "x@isp.example", OWN)]),
        ("\\bob, x@isp.example", [("mailbox", "bob", OWN), ("remote", "x@isp.example", OWN)]),
        ("bob\nbob@home.example\nBob+x", [("mailbox", "bob", OWN)]),
        ("ann", [("user", "ann", OWN)]),
        ("\\ann", [("mailbox", "ann", OWN)]),
        ('"|/bin/x ${user}"', [("pipe", "|/bin/x ${user}", OWN)]),
        ("/tmp/f, /tmp/d/", [("file", "/tmp/f", OWN), ("file", "/tmp/d/", OWN)]),
        ("fax", [("pipe", "|/bin/fax", "/etc/aliases:fax")]),
        ("staff", [("user", "ann", OWN), ("mailbox", "bob", ALIAS), ("remote", "x@isp.example", ALIAS)]),
        ("# me\n:include:/list, :include:/list", [("user", "carl", OWN), ("mailbox", "bob", OWN)]),
        (":include:/empty", [("mailbox", "bob", OWN)]),
    ],
)  # fmt: skip
def test_a_forward_file_leads_to_its_targets(text: str, expected: list[tuple[str, str, str]]) -> None:
    expansion = run(text, list="carl\nbob", empty="#\n")
    assert shown(expansion) == expected
    assert not expansion.faults


def test_a_circle_of_users_ends_in_a_mailbox() -> None:
    """Ann sends on to Bob, and he to her: she has been asked already."""
    assert shown(run("ann, carl", came_by=("ann",))) == [
        ("mailbox", "ann", OWN),
        ("user", "carl", "~ann/.forward ~bob/.forward"),
    ]


def test_a_long_chain_ends_in_a_mailbox() -> None:
    came_by = tuple(f"u{number}" for number in range(MAX_FORWARDS))
    assert [kind for kind, _, _ in shown(run("ann", came_by))] == ["mailbox"]


def test_bad_targets_are_named_with_their_file_and_the_good_ones_stay() -> None:
    expansion = run("x@isp.example, nobody, :include:/gone, y@, |'x")
    assert shown(expansion) == [("remote", "x@isp.example", OWN)]
    reasons = [fault.reason for fault in expansion.faults]
    assert reasons[0] == "there is no user nobody here (~bob/.forward)"
    assert reasons[1] == "/gone cannot be read safely by bob (~bob/.forward)"
    assert all(reason.endswith("(~bob/.forward)") for reason in reasons[2:])
    assert len(reasons) == 4


def test_until_delivery_a_user_is_kept_as_one_but_a_backslash_means_the_mailbox() -> None:
    book = replace(BOOK, tables=[parse("both: ann, \\carl, \\ann", "/etc/aliases")])
    expansion = expand(parse_mailbox("both"), book)
    assert shown(expansion) == [("user", "ann", "/etc/aliases:both"), ("mailbox", "carl", "/etc/aliases:both")]
    assert shown(expand(parse_mailbox("ann"), book)) == [("user", "ann", "")]
    assert not expand(parse_mailbox("ann"), book).is_expanded
    assert expand(parse_mailbox("ann"), replace(book, forwards=False)).targets[0].kind is TargetKind.MAILBOX


@pytest.mark.parametrize("users", [("bob",), ("ann", "bob"), ("ann", "b.o+b", "carl")])
def test_sources_name_their_users(users: tuple[str, ...]) -> None:
    assert forward_owners(" ".join(map(forward_source, users))) == users


@pytest.mark.parametrize("source", ["", "/etc/aliases:bob", "/etc/~bob/.forward", "[host] postmaster"])
def test_the_source_of_an_alias_names_no_user(source: str) -> None:
    assert forward_owners(source) == ()
