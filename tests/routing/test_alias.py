"""Aliases lead to every target once, and whatever cannot be used says which entry it stands in."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import parse_mailbox
from masqmail.routing.alias import MAX_DEPTH, AddressBook, Expansion, TargetKind, expand
from masqmail.routing.aliasfile import parse
from support.routes import LOCAL

USERS = {"ann", "bob", "carl", "oliver", "root"}


def book(aliases: str, *more: str, files: Mapping[str, str] | None = None) -> AddressBook:
    def read(path: str) -> str:
        if files is None or path not in files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return files[path]

    tables = [parse(text, f"/etc/aliases{number or ''}") for number, text in enumerate((aliases, *more))]
    return AddressBook(LOCAL, USERS.__contains__, tables, postmaster="oliver", read=read)


def run(address: str, aliases: str = "", *more: str, files: Mapping[str, str] | None = None) -> Expansion:
    return expand(parse_mailbox(address), book(aliases, *more, files=files))


def targets(expansion: Expansion) -> list[str]:
    return [str(target) for target in expansion.targets]


def reasons(expansion: Expansion) -> list[str]:
    return [fault.reason for fault in expansion.faults]


EXPANSIONS = [
    # address, alias file, targets
    ("ann", "", ["ann"]),
    ("Ann@Home.example", "", ["ann"]),
    ("ann+lists@home.example", "", ["ann"]),
    ("x@isp.example", "x: ann", ["x@isp.example"]),
    ("eric@home.example", "eric: ann", ["eric@home.example"]),
    ("staff", "staff: ann, bob", ["ann", "bob"]),
    ("STAFF@gateway.home.example", "staff: ann, x@isp.example", ["ann", "x@isp.example"]),
    ("staff+x", "staff: ann", ["ann"]),
    ("staff+x", "staff: ann\nstaff+x: bob", ["bob"]),
    ("a", "a: b, c\nb: d\nc: d\nd: ann, bob", ["ann", "bob"]),
    ("a", "a: ann, ann@home.example, Ann+x, \\ann", ["ann"]),
    ("a", "a: x@ISP.example, x@isp.example, X@isp.example", ["x@ISP.example", "X@isp.example"]),
    ("bob", "bob: bob, bob@isp.example, bob@elsewhere.example", ["bob", "bob@elsewhere.example"]),
    ("bob", "bob: \\bob, x@isp.example", ["bob", "x@isp.example"]),
    ("staff", "staff: \\bob\nbob: ann", ["bob"]),
    ("a", "a: \\x@isp.example", ["x@isp.example"]),
    ("bob@isp.example", "bob: ann", ["ann"]),
    ("a", 'a: "|/bin/x y", /var/mail/z, /var/mail/d/', ["|/bin/x y", "/var/mail/z", "/var/mail/d/"]),
    ("postmaster", "", ["oliver"]),
    ("PostMaster@home.example", "", ["oliver"]),
    ("postmaster", "postmaster: root\nroot: ann", ["ann"]),
    ("Postmaster", "POSTMASTER: ann", ["ann"]),
    ("postmaster", "oliver: ann", ["ann"]),
]


@pytest.mark.parametrize(("address", "aliases", "expected"), EXPANSIONS)
def test_an_address_leads_to_its_targets(address: str, aliases: str, expected: list[str]) -> None:
    expansion = run(address, aliases)
    assert targets(expansion) == expected
    assert not expansion.faults


GLOBS = """
*@shop.home.example: bob@shop.home.example
sales-*@home.example: ann, boss@home.example
SALES-*@home.example: carl
boss@home.example: carl, carl@isp.example
news?@*: "|/bin/news"
"""

GLOB_EXPANSIONS = [
    # address, alias file, targets
    ("x@shop.home.example", "", ["bob"]),
    ("x@shop.home.example", "bob: ann", ["ann"]),  # a glob that leads into itself leaves the word to the table
    ("bob@shop.home.example", "bob: ann", ["ann"]),
    ("Sales-EU@Home.Example", "sales-eu: bob", ["ann", "carl", "carl@isp.example"]),
    ("boss", "boss: bob", ["bob"]),  # its whole address is boss@gateway.home.example
    ("boss@home.example", "boss: bob", ["carl", "carl@isp.example"]),
    ("staff", "staff: boss@home.example, ann", ["carl", "carl@isp.example", "ann"]),
    ("news1@home.example", "", ["|/bin/news"]),
    ("postmaster@shop.home.example", "", ["bob"]),
    ("x@isp.example", "", ["x@isp.example"]),
]


@pytest.mark.parametrize(("address", "aliases", "expected"), GLOB_EXPANSIONS)
def test_globs_go_before_the_table_at_each_step(address: str, aliases: str, expected: list[str]) -> None:
    local = replace(LOCAL, domains=(*LOCAL.domains, "shop.home.example"))
    the_book = replace(book(aliases), local=local, globs=[parse(GLOBS, "/etc/globs", has_globs=True)])
    expansion = expand(parse_mailbox(address), the_book)
    assert targets(expansion) == expected
    assert not expansion.faults


def test_of_several_glob_files_the_first_counts() -> None:
    first, second = (parse(f"a*@*: {user}", f"/etc/{user}", has_globs=True) for user in ("ann", "bob"))
    expansion = expand(parse_mailbox("ax@home.example"), replace(book(""), globs=[first, second]))
    assert [(str(target), target.source) for target in expansion.targets] == [("ann", "/etc/ann:a*@*")]


def test_where_case_matters_it_does_in_globs_but_not_for_domains() -> None:
    globs = [parse("Ann*@HOME.example: bob", "/etc/globs", has_globs=True)]
    the_book = replace(book(""), local=replace(LOCAL, match_case=True), globs=globs)
    assert targets(expand(parse_mailbox("Ann1@home.example"), the_book)) == ["bob"]
    assert targets(expand(parse_mailbox("ann1@home.example"), the_book)) == []


def test_globs_that_lead_to_each_other_are_a_loop() -> None:
    globs = [parse("a@*: b@home.example, ann\nb@*: a@home.example", "/etc/globs", has_globs=True)]
    expansion = expand(parse_mailbox("a@home.example"), replace(book(""), globs=globs))
    assert targets(expansion) == ["ann"]
    assert "/etc/globs:a@* → /etc/globs:b@* → /etc/globs:a@*" in reasons(expansion)[0]


def test_whoever_fits_a_glob_is_known() -> None:
    globs = [parse("*@home.example: bob", "/etc/globs", has_globs=True)]
    the_book = replace(book(""), globs=globs)
    assert the_book.knows(parse_mailbox("anybody@home.example"))
    assert not the_book.knows(parse_mailbox("anybody@gateway.home.example"))


FAULTS = [
    # address, alias file, targets all the same, reasons
    ("nobody", "", [], ["there is no user nobody here"]),
    ("a", "a: ann, nobody", ["ann"], ["there is no user nobody here (alias /etc/aliases:a)"]),
    ("a", "a: b\nb: \\nobody, ann", ["ann"], ["there is no user nobody here (alias /etc/aliases:b)"]),
    ("a", "a: ann, x@", ["ann"], ["'x@' is no target: no valid domain after the @ in 'x@' (alias /etc/aliases:a)"]),
    (
        "a",
        "a: b, ann\nb: c, bob\nc: a",
        ["bob", "ann"],
        [
            "the alias leads back to itself: /etc/aliases:a → /etc/aliases:b → /etc/aliases:c → /etc/aliases:a"
            " (alias /etc/aliases:c)"
        ],
    ),
    ("x", "x: x", [], ["there is no user x here (alias /etc/aliases:x)"]),
    ("a", "a:", [], ["the alias leads to nobody"]),
    (
        "a",
        "a: :include:/list, ann",
        ["ann"],
        ["/list cannot be read: No such file or directory (alias /etc/aliases:a)"],
    ),
    ("oliver", "oliver: root\nroot: postmaster", [], None),
]


def test_where_one_user_alone_can_have_mail_the_reason_says_so() -> None:
    expansion = expand(parse_mailbox("bob"), replace(book(""), is_user="ann".__eq__, only_user="ann"))
    assert [fault.reason for fault in expansion.faults] == [
        "there is no user bob here: MasqMail runs as ann, not as root, and delivers to ann alone"
    ]


@pytest.mark.parametrize(("address", "aliases", "good", "expected"), FAULTS)
def test_a_bad_target_names_its_entry_and_spoils_no_other(
    address: str, aliases: str, good: list[str], expected: list[str] | None
) -> None:
    expansion = run(address, aliases)
    assert targets(expansion) == good
    assert expansion.faults
    assert expected is None or reasons(expansion) == expected


def test_a_loop_over_the_default_of_the_postmaster_is_found() -> None:
    expansion = run("postmaster", "oliver: postmaster")
    assert reasons(expansion) == [
        "the alias leads back to itself: [host] postmaster → /etc/aliases:oliver → [host] postmaster"
        " (alias /etc/aliases:oliver)"
    ]


def test_faults_have_the_status_of_what_is_wrong() -> None:
    expansion = run("a", "a: nobody, x@, b, :include:/none\nb: a")
    assert [fault.status.enhanced for fault in expansion.faults] == ["5.1.1", "5.1.3", "5.4.6", "5.3.5"]
    assert [fault.target for fault in expansion.faults] == ["nobody", "x@", "a", "/none"]
    assert {fault.source for fault in expansion.faults} == {"/etc/aliases:a", "/etc/aliases:b"}


def test_included_targets_belong_to_the_entry_that_includes_them() -> None:
    files = {"/list": "# the list\nann\nx@isp.example, |/bin/x\n:include:/more\n", "/more": "bob\nnobody"}
    expansion = run("a", "a: :include:/list", files=files)
    assert targets(expansion) == ["ann", "x@isp.example", "|/bin/x", "bob"]
    assert {target.source for target in expansion.targets} == {"/etc/aliases:a"}
    assert reasons(expansion) == ["there is no user nobody here (alias /etc/aliases:a)"]


def test_a_file_that_includes_itself_is_a_loop() -> None:
    expansion = run("a", "a: :include:/list", files={"/list": "ann\n:include:/list"})
    assert targets(expansion) == ["ann"]
    assert reasons(expansion) == ["the alias leads back to itself: /list → /list (alias /etc/aliases:a)"]


def test_a_list_that_names_its_own_alias_means_the_mailbox() -> None:
    assert targets(run("bob", "bob: :include:/list", files={"/list": "bob, ann"})) == ["bob", "ann"]


def test_the_first_table_counts_and_whole_names_go_first() -> None:
    assert targets(run("staff", "staff: ann", "staff: bob")) == ["ann"]
    assert targets(run("staff+x", "staff: ann", "staff+x: bob")) == ["bob"]


def test_the_same_command_in_two_entries_is_two_targets() -> None:
    expansion = run("a", 'a: b, c\nb: "|x"\nc: "|x", "|x"')
    assert [(str(target), target.source) for target in expansion.targets] == [
        ("|x", "/etc/aliases:b"),
        ("|x", "/etc/aliases:c"),
    ]


def test_targets_know_their_kind() -> None:
    expansion = run("a", "a: ann, x@isp.example, |y, /z")
    assert [target.kind for target in expansion.targets] == [
        TargetKind.MAILBOX,
        TargetKind.REMOTE,
        TargetKind.PIPE,
        TargetKind.FILE,
    ]


@pytest.mark.parametrize(
    ("address", "aliases", "expected"),
    [
        ("ann", "", False),
        ("ann+x", "", False),
        ("x@isp.example", "", False),
        ("nobody", "", False),
        ("ann", "ann: \\ann", False),
        ("ann", "ann: ann, bob", True),
        ("ann", "ann: bob", True),
        ("ann", "ann: x@isp.example", True),
        ("staff", "staff: ann", True),
        ("postmaster", "", True),
    ],
)
def test_an_address_is_expanded_when_it_becomes_another_or_many(address: str, aliases: str, expected: bool) -> None:
    assert run(address, aliases).is_expanded is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [("ann", True), ("ann+x", True), ("staff", True), ("staff+x", True), ("nobody", False), ("POSTMASTER", True)],
)
def test_who_is_known_can_be_asked_without_an_expansion(address: str, expected: bool) -> None:
    assert book("staff: ann").knows(parse_mailbox(address)) is expected


def test_with_case_an_alias_has_one_spelling_except_the_postmaster() -> None:
    exact = replace(book("Staff: ann\nPOSTMASTER: bob"), local=replace(LOCAL, match_case=True))
    assert not exact.knows(parse_mailbox("staff"))
    assert targets(expand(parse_mailbox("postmaster"), exact)) == ["bob"]


def test_too_many_entries_within_each_other_are_a_fault() -> None:
    chain = "\n".join(f"a{number}: a{number + 1}" for number in range(MAX_DEPTH + 5))
    assert reasons(run("a0", chain)) == [
        f"more than 50 aliases lie within each other (alias /etc/aliases:a{MAX_DEPTH - 1})"
    ]


def test_too_many_targets_are_a_fault_and_those_before_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masqmail.routing.alias.MAX_TARGETS", 3)
    expansion = run("a", "a: b, c\nb: x1@x, x2@x\nc: x3@x, x4@x, x5@x")
    assert targets(expansion) == ["x1@x", "x2@x", "x3@x"]
    assert reasons(expansion) == ["there are more than 3 targets (alias /etc/aliases:c)"]


def test_many_ways_to_the_same_entry_cost_nothing() -> None:
    tree = "\n".join(f"a{number}: {', '.join([f'a{number + 1}'] * 9)}" for number in range(40))
    assert targets(run("a0", f"{tree}\na40: ann")) == ["ann"]


NAMES = ("a", "b", "c", "ann", "x@isp.example", "\\ann", "a@")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from(NAMES), max_size=4)), max_size=4))
def test_every_table_leads_to_a_target_or_a_fault_and_to_none_twice(entries: list[tuple[str, list[str]]]) -> None:
    expansion = run("a", "\n".join(f"{name}: {', '.join(items)}" for name, items in entries))
    assert expansion.targets or expansion.faults
    assert len({target.key for target in expansion.targets}) == len(expansion.targets)
