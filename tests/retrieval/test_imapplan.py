import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.retrieval.imapplan import (
    MAX_COMMANDS,
    MAX_MESSAGES,
    PIECE_BYTES,
    Ask,
    Download,
    Folder,
    Listed,
    Missing,
    Piece,
    parse_uid_set,
    uid_sets,
)
from masqmail.spool.api import Uid

BIG = 3 * PIECE_BYTES + 1000


def asks(download: Download) -> list[Ask]:
    found = []
    while (ask := download.next_ask()) is not None:
        found.append(ask)
    return found


def serve(
    download: Download, contents: dict[int, bytes], *, most: int = 1 << 30
) -> tuple[dict[int, bytes], list[Ask]]:
    """Answers everything; what was received and what was asked for."""
    received: dict[int, bytes] = {}
    asked: list[Ask] = []
    flying: list[Ask] = []
    over: set[int] = set()
    while not download.is_over:
        flying += (new := asks(download))
        asked += new
        ask = flying.pop(0)
        count = min(ask.length, most)
        bodies = {uid: contents[uid][ask.offset : ask.offset + count] for uid in ask.uids if uid in contents}
        for event in download.answer(bodies):
            assert isinstance(event, Piece)
            assert event.uid not in over
            received[event.uid] = received.get(event.uid, b"") + event.data
            if event.is_last:
                over.add(event.uid)
    assert over == set(contents)
    return received, asked


def test_small_messages_share_a_command_and_the_smallest_come_first() -> None:
    contents = {uid: b"x" * (5000 - uid) for uid in range(1, 11)}
    received, asked = serve(Download(Listed(len(body), uid) for uid, body in contents.items()), contents)
    assert asked == [Ask(tuple(range(10, 0, -1)), 0, PIECE_BYTES)]
    assert received == contents


def test_a_big_message_comes_in_pieces_of_which_two_are_on_their_way() -> None:
    download = Download([Listed(BIG, 1)])
    assert asks(download) == [Ask((1,), 0, PIECE_BYTES), Ask((1,), PIECE_BYTES, PIECE_BYTES)]
    received, _ = serve(Download([Listed(BIG, 1)]), {1: bytes(BIG)})
    assert len(received[1]) == BIG


def test_there_is_a_limit_to_messages_in_a_command_and_to_commands() -> None:
    download = Download(Listed(0, uid) for uid in range(1, 10_000))
    found = asks(download)
    assert len(found) == MAX_COMMANDS
    assert {len(ask.uids) for ask in found} == {MAX_MESSAGES}


@given(
    sizes=st.lists(st.integers(0, 3 * PIECE_BYTES), min_size=1, max_size=8),
    lies=st.lists(st.integers(-5000, 5000), min_size=8, max_size=8),
    most=st.sampled_from([1 << 30, PIECE_BYTES - 7, PIECE_BYTES // 2]),
)
def test_every_message_comes_whole_whatever_the_server_says_of_sizes(
    sizes: list[int], lies: list[int], most: int
) -> None:
    contents = {uid: bytes([uid]) * size for uid, size in enumerate(sizes, 1)}
    # a server that cuts its answers must not also say that messages are shorter than they are
    said = [max(0, size + (abs(lie) if most < PIECE_BYTES else lie)) for size, lie in zip(sizes, lies, strict=False)]
    received, _ = serve(Download(Listed(size, uid) for uid, size in enumerate(said, 1)), contents, most=most)
    assert received == contents


def test_a_message_that_is_a_whole_number_of_pieces_ends_with_an_empty_one() -> None:
    received, asked = serve(Download([Listed(PIECE_BYTES, 1)]), {1: bytes(PIECE_BYTES)})
    assert len(received[1]) == PIECE_BYTES
    assert asked[-1].offset == PIECE_BYTES


def test_a_message_that_never_ends_is_given_up() -> None:
    download = Download([Listed(10, 1)])
    events: list[Piece | Missing] = []
    while not download.is_over:
        asks(download)
        events += download.answer({1: bytes(download.piece_bytes)})
    assert isinstance(events[-1], Missing)
    assert "a lot longer than the 10 octets" in events[-1].reason


def test_after_a_break_a_big_message_goes_on_where_it_was() -> None:
    download = Download([Listed(500, 1), Listed(BIG, 2)])
    assert asks(download) == [
        Ask((1,), 0, PIECE_BYTES),
        Ask((2,), 0, PIECE_BYTES),
        Ask((2,), PIECE_BYTES, PIECE_BYTES),
    ]
    download.answer({1: bytes(500)})
    download.answer({2: bytes(PIECE_BYTES)})
    assert download.begun == [Listed(BIG, 2)]
    download.lost()
    assert asks(download)[0] == Ask((2,), PIECE_BYTES, PIECE_BYTES)


def test_after_a_break_messages_that_had_not_begun_are_asked_for_again_in_their_order() -> None:
    download = Download(Listed(uid, uid) for uid in range(1, 300))
    before = asks(download)
    download.lost()
    assert asks(download) == before


def test_a_message_that_breaks_the_connection_each_time_is_found_and_given_up() -> None:
    download = Download([Listed(5, 1), Listed(6, 2)])
    asks(download)
    assert download.lost(is_repeated=True) is None
    assert asks(download) == [Ask((1,), 0, PIECE_BYTES), Ask((2,), 0, PIECE_BYTES)]
    download.answer({1: bytes(5)})
    missing = download.lost(is_repeated=True)
    assert missing is not None and missing.uid == 2
    assert download.is_over


def test_after_a_refusal_messages_are_asked_for_one_by_one() -> None:
    download = Download([Listed(5, 1), Listed(5, 2), Listed(5, 3)])
    asks(download)
    assert download.answer({1: b"12345"}, "no") == [Piece(1, b"12345", True)]
    assert asks(download) == [Ask((2,), 0, PIECE_BYTES), Ask((3,), 0, PIECE_BYTES)]
    assert download.answer({}, "no") == [Missing(2, "no")]
    assert download.answer({3: b"12345"}) == [Piece(3, b"12345", True)]
    assert download.is_over


def test_a_message_that_is_gone_meanwhile_is_no_trouble_but_one_without_content_is() -> None:
    download = Download([Listed(5, 1), Listed(5, 2)])
    asks(download)
    gone, empty = download.answer({2: None})
    assert gone == Missing(1, "")
    assert isinstance(empty, Missing) and empty.reason


def test_pieces_suit_the_line() -> None:
    download = Download([Listed(BIG, 1)])
    download.adapt(PIECE_BYTES, 20.0)
    assert download.piece_bytes < PIECE_BYTES
    for _ in range(20):
        download.adapt(PIECE_BYTES, 0.001)
    assert download.piece_bytes == 1024 * 1024
    download.adapt(100, 60.0)  # says nothing about the line
    assert download.piece_bytes == 1024 * 1024


@given(st.sets(st.integers(1, 2000)), st.integers(1, 50))
def test_sets_of_uids_hold_what_was_given_and_nothing_else(uids: set[int], limit: int) -> None:
    sets = uid_sets(uids, limit)
    assert sorted(uid for text in sets for uid in parse_uid_set(text, limit)) == sorted(uids)


def test_a_set_of_uids_is_short() -> None:
    assert uid_sets([1, 2, 3, 9, 11, 12]) == ["1:3,9,11:12"]


def test_a_set_that_is_too_big_is_refused() -> None:
    with pytest.raises(ValueError, match="more messages"):
        parse_uid_set("1:4294967295", 1000)


def test_names_and_numbers_are_inverse_and_other_times_have_none() -> None:
    folder = Folder("INBOX", 7, 1, 2, True)
    assert folder.uid_of(folder.name_of(12)) == 12
    assert folder.uid_of(Uid("INBOX", "8:12")) == 0
    assert folder.uid_of(Uid("Other", "7:12")) == 0
    assert folder.uid_of(Uid("INBOX", "sha256:12")) == 0
