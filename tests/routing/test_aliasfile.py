"""Alias files are read as sendmail writes them; what is wrong is named by its line and spoils nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.mail.address import Mailbox
from masqmail.routing.aliasfile import ItemKind, parse, parse_included, split_command, split_targets


def items(text: str) -> list[tuple[ItemKind, str]]:
    """What one target list says; addresses and users by their mailbox."""
    return [(item.kind, str(item.mailbox) if item.mailbox else item.text) for item in split_targets(text)]


TARGETS = [
    ("bob", [(ItemKind.ADDRESS, "bob")]),
    ("bob, ann@x ,carl", [(ItemKind.ADDRESS, "bob"), (ItemKind.ADDRESS, "ann@x"), (ItemKind.ADDRESS, "carl")]),
    ("", []),
    (" , ,", []),
    (r"\bob", [(ItemKind.USER, "bob")]),
    (r'"\bob"', [(ItemKind.USER, "bob")]),
    (r"\bob@home.example", [(ItemKind.USER, "bob@home.example")]),
    ('"|/bin/filter -a b, c"', [(ItemKind.PIPE, "/bin/filter -a b, c")]),
    ('|"/bin/filter -a b"', [(ItemKind.PIPE, "/bin/filter -a b")]),
    ("|/bin/filter -a b, bob", [(ItemKind.PIPE, "/bin/filter -a b"), (ItemKind.ADDRESS, "bob")]),
    (r'"|/bin/filter \"a b\" \\x"', [(ItemKind.PIPE, r'/bin/filter "a b" \x')]),
    ("/var/mail/archive", [(ItemKind.FILE, "/var/mail/archive")]),
    ('"/var/mail/my archive/"', [(ItemKind.FILE, "/var/mail/my archive/")]),
    (":include:/etc/list", [(ItemKind.INCLUDE, "/etc/list")]),
    (':Include: "/etc/my list"', [(ItemKind.INCLUDE, "/etc/my list")]),
    ('":include:/etc/my list"', [(ItemKind.INCLUDE, "/etc/my list")]),
    ('"a b"@x', [(ItemKind.ADDRESS, '"a b"@x')]),
    ('"a b"', [(ItemKind.ADDRESS, '"a b"')]),
    ('"bob@x"', [(ItemKind.ADDRESS, "bob@x")]),
    ("Bob <bob@x>", [(ItemKind.ADDRESS, "bob@x")]),
    ("<bob@x>, ann", [(ItemKind.ADDRESS, "bob@x"), (ItemKind.ADDRESS, "ann")]),
    ('"Doe, Bob" <bob@x>', [(ItemKind.ADDRESS, "bob@x")]),
    ("bob@x (at work)", [(ItemKind.ADDRESS, "bob@x")]),
    ("Bob <bob@x> ann", [(ItemKind.BAD, "Bob <bob@x> ann")]),
    ("Bob <bob@x", [(ItemKind.BAD, "Bob <bob@x")]),
    ("bob: Ann <ann@x>", [(ItemKind.BAD, "bob: Ann <ann@x>")]),
    ("bob: ann@x (Ann)", [(ItemKind.BAD, "bob: ann@x (Ann)")]),
    ("bob ann", [(ItemKind.BAD, "bob ann")]),
    ("b#ob", [(ItemKind.ADDRESS, "b#ob")]),
    ("bob #comment", [(ItemKind.BAD, "bob #comment")]),
    ('bob, "|cmd, ann', [(ItemKind.ADDRESS, "bob"), (ItemKind.BAD, '"|cmd, ann')]),
    ("|, bob", [(ItemKind.BAD, "|"), (ItemKind.ADDRESS, "bob")]),
    ("|cmd 'x", [(ItemKind.BAD, "|cmd 'x")]),
    (":include:list", [(ItemKind.BAD, ":include:list")]),
    ("\\", [(ItemKind.BAD, "\\")]),
    ("a@, bob", [(ItemKind.BAD, "a@"), (ItemKind.ADDRESS, "bob")]),
    ("/a\0b", [(ItemKind.BAD, "/a\0b")]),
    ("/a\udcff, bob", [(ItemKind.BAD, r"'/a\udcff'"), (ItemKind.ADDRESS, "bob")]),
    ("jürgen@bücher.example, /ü", [(ItemKind.ADDRESS, "jürgen@bücher.example"), (ItemKind.FILE, "/ü")]),
]


@pytest.mark.parametrize(("text", "expected"), TARGETS)
def test_targets_are_read(text: str, expected: list[tuple[ItemKind, str]]) -> None:
    assert items(text) == expected


FILE = """\
# a comment
postmaster: root
# another one

staff: ann,
\tbob,
# between the lines
  carl@elsewhere.example
"two words" : ann
Root : \\oliver , "|/bin/tee"
"""


def test_a_file_is_entries_with_continuation_lines_and_comments() -> None:
    table = parse(FILE, "/etc/aliases")
    assert not table.faults
    assert [(entry.name, entry.line, entry.source) for entry in table.entries] == [
        ("postmaster", 2, "/etc/aliases:postmaster"),
        ("staff", 5, "/etc/aliases:staff"),
        ("two words", 9, "/etc/aliases:two words"),
        ("Root", 10, "/etc/aliases:Root"),
    ]
    staff = table.find("staff", match_case=True)
    assert staff is not None
    assert [item.mailbox for item in staff.items] == [
        Mailbox("ann"),
        Mailbox("bob"),
        Mailbox("carl", "elsewhere.example"),
    ]


def test_line_ends_may_be_crlf() -> None:
    table = parse("a: b\r\nc: d\r\n", "f")
    assert [entry.items[0].mailbox for entry in table.entries] == [Mailbox("b"), Mailbox("d")]


def test_names_are_found_with_or_without_case() -> None:
    table = parse("Staff: ann", "f")
    assert table.find("STAFF", match_case=False) is not None
    assert table.find("STAFF", match_case=True) is None


FAULTS = [
    ("nonsense", "f:1: no `name:` at the beginning of 'nonsense'; a continuation line begins with a blank"),
    (": ann", "f:1: no `name:` at the beginning of ': ann'; a continuation line begins with a blank"),
    ('"open: ann', "f:1: no `name:` at the beginning of '\"open: ann'; a continuation line begins with a blank"),
    ('"": ann', "f:1: no `name:` at the beginning of '\"\": ann'; a continuation line begins with a blank"),
    ("\n\na@x: ann", "f:3: a@x: an alias is a local-part without a domain; it holds for every local domain"),
    ("a: b\na: c", "f:2: a: line 1 has an entry of this name already, and that one counts"),
    ("a\udcff: b", "f:1: 'a\\udcff' is not UTF-8"),
    ("a:", "f:1: a: the entry has no target"),
    ("a: b,\n c@", "f:1: a: 'c@' is no target: no valid domain after the @ in 'c@'"),
    ("a: |", "f:1: a: '|' is no target: there is no command"),
    ("a: |x 'y", 'f:1: a: "|x \'y" is no target: a quote is never closed, or a backslash stands at the end'),
    ('a: "|x', "f:1: a: '\"|x' is no target: a quote is never closed"),
    ("a: :include:b", "f:1: a: ':include:b' is no target: the path must begin with /"),
]


@pytest.mark.parametrize(("text", "fault"), FAULTS)
def test_a_fault_says_where_it_is_and_what_is_wrong(text: str, fault: str) -> None:
    assert [str(one) for one in parse(text, "f").faults] == [fault]


def test_a_bad_line_spoils_nothing_but_itself() -> None:
    table = parse("bad\na: b\n@: x\nc: d", "f")
    assert [entry.name for entry in table.entries] == ["a", "c"]


def test_the_first_entry_of_a_name_counts() -> None:
    table = parse("a: b\na: c", "f")
    entry = table.find("a", match_case=False)
    assert entry is not None and entry.items[0].mailbox == Mailbox("b")


def test_an_included_file_has_targets_line_by_line() -> None:
    included = parse_included("# list\nann\n  bob@x, carl\n\n|cmd\n")
    assert [item.text for item in included] == ["ann", "bob@x", "carl", "cmd"]


COMMANDS = [
    ("/bin/cat", ("/bin/cat",)),
    (" a  b\tc ", ("a", "b", "c")),
    ("a 'b c' \"d e\" f\\ g", ("a", "b c", "d e", "f g")),
    ("a'b'\"c\"d", ("abcd",)),
    ("a '' \"\"", ("a", "", "")),
    (r'a "b\"c\\d\e"', ("a", r'b"c\d\e')),
    ("a '\\' b", ("a", "\\", "b")),
    ("a ${user} $HOME `x` ; > y", ("a", "${user}", "$HOME", "`x`", ";", ">", "y")),
]


@pytest.mark.parametrize(("text", "words"), COMMANDS)
def test_a_command_is_split_without_expansion(text: str, words: tuple[str, ...]) -> None:
    assert split_command(text) == words


@pytest.mark.parametrize("text", ["", "  ", "a 'b", 'a "b', "a\\", "a b'c"])
def test_a_command_that_cannot_be_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quote|no command"):
        split_command(text)


ALPHABET = "ab,:\"\\| /\n\t#@'\r"


@given(st.text(ALPHABET, max_size=40))
def test_any_file_is_read_and_every_entry_can_be_found(text: str) -> None:
    table = parse(text, "f")
    for entry in table.entries:
        assert table.find(entry.name, match_case=True) is entry
        assert entry.items or any(entry.name in fault.reason for fault in table.faults)


@given(st.lists(st.text("ab '\"\\", min_size=1, max_size=6), min_size=1, max_size=4))
def test_quoted_words_come_back(words: list[str]) -> None:
    quoted = " ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    assert split_command(quoted) == tuple(words)
