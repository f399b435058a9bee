"""The old queue: `-H` and `-D` files, both layouts, and the lists of mail that was fetched already."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.migration import Account
from masqmail.importing.oldqueue import BadSpoolFile, body_offset, parse_envelope
from masqmail.importing.queuefolder import OldMessage, Unusable, old_messages, uid_lists
from masqmail.mail.address import Mailbox

ID = "1abCDe-0Xy-00"
HEAD = """\
1abCDe-0Xy-00
MF:<ann@home.example>
RT: <bob@isp.example>
RT:X<done@isp.example>
RT:F<lost@isp.example>
RT: |/usr/bin/fax
RT: <Bob@isp.example>
PR:local
XX:what
TR:1041379200
"""
HEADER = "HD:Subject: hello\n there\nHD:From: ann@home.example\nHD:X-Odd:   \xe4 \n"
FILE = (HEAD + "\n" + HEADER).encode("latin-1")


def test_an_envelope_says_who_waits_and_who_does_not() -> None:
    found = parse_envelope(FILE)
    assert found.id == ID
    assert found.sender == Mailbox("ann", "home.example")
    assert found.waiting == (Mailbox("bob", "isp.example"), Mailbox("Bob", "isp.example"))
    assert (found.delivered, found.failed) == (("<done@isp.example>",), ("<lost@isp.example>",))
    assert found.unusable == ("|/usr/bin/fax",)
    assert found.received_at == 1041379200


def test_the_header_keeps_every_byte() -> None:
    assert parse_envelope(FILE).header == b"Subject: hello\n there\nFrom: ann@home.example\nX-Odd:   \xe4 \n"


def test_the_null_sender_stays_one() -> None:
    assert parse_envelope(b"x\nMF:<>\nRT: <a@b>\n\nHD:A: b\n").sender is None


@pytest.mark.parametrize("data", [b"", b"x", b"x\n\n", b"x\nRT: <a@b>\n\nHD:A: b\n", b"x\nMF:<a b>\n\n"])
def test_what_is_no_envelope_is_told(data: bytes) -> None:
    with pytest.raises(BadSpoolFile):
        parse_envelope(data)


@given(st.binary(max_size=80), st.sampled_from([b"", b"x\nMF:<a@b>\nRT:", b"x\nMF:"]))
def test_any_bytes_are_an_envelope_or_told(data: bytes, start: bytes) -> None:
    try:
        parse_envelope(start + data)
    except BadSpoolFile:
        pass


def test_a_body_must_be_that_of_its_message() -> None:
    assert body_offset(b"x\nHello\n", "x") == 2
    for data in (b"y\nHello\n", b"x", b""):
        with pytest.raises(BadSpoolFile):
            body_offset(data, "x")


def put(folder: Path, name: str, head: bytes, body: bytes | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-H").write_bytes(head)
    if body is not None:
        (folder / f"{name}-D").write_bytes(body)


def test_both_layouts_are_read_the_oldest_first(tmp_path: Path) -> None:
    put(tmp_path, "b", b"b\nMF:<a@b>\nRT: <c@d>\nTR:20\n\nHD:A: b\n", b"b\nnew\n")
    put(tmp_path / "input", "a", b"a\nMF:<a@b>\nRT: <c@d>\nTR:10\n\nHD:A: b\n", b"a\nold\n")
    (tmp_path / "77-H.tmp").write_text("unfinished")
    found = old_messages(tmp_path)
    assert [item.envelope.id for item in found if isinstance(item, OldMessage)] == ["a", "b"]
    assert len(found) == 2


def test_what_is_no_whole_message_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a", FILE, None)
    put(tmp_path, "b", b"broken", b"b\n")
    put(tmp_path, "c", FILE, b"other\nbody\n")
    (tmp_path / "d-H").mkdir()
    assert all(isinstance(item, Unusable) for item in old_messages(tmp_path))
    assert len(old_messages(tmp_path)) == 4


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        old_messages(tmp_path / "nowhere")


ACCOUNTS = (
    Account("isp", "john", "pop.isp.example"),
    Account("one", "ann", "a.example"),
    Account("two", "ann", "b.example"),
)


def test_uid_lists_find_their_accounts(tmp_path: Path) -> None:
    folder = tmp_path / "popuidl"
    folder.mkdir()
    (folder / "john@pop7.isp.example").write_text("uid1\n uid2 \nuid1\nnot a uid\n\n")
    (folder / "ann@b.example").write_text("uid3\n")
    (folder / "ann@elsewhere.example").write_text("uid4\n")
    found = {item.file.name: (item.account, item.uids) for item in uid_lists(tmp_path, ACCOUNTS)}
    assert found == {
        "john@pop7.isp.example": ("isp", ("uid1", "uid2")),
        "ann@b.example": ("two", ("uid3",)),
        "ann@elsewhere.example": ("", ("uid4",)),
    }
    assert uid_lists(tmp_path / "input", ACCOUNTS) == uid_lists(tmp_path, ACCOUNTS)
    assert uid_lists(tmp_path / "a" / "b", ACCOUNTS) == []
