"""The window grows while it is what holds us back, and stops when the line does."""

from itertools import count

from masqmail.delivery.window import MAX_WINDOW_BYTES, Window


def test_nothing_measured_leaves_the_start() -> None:
    assert Window(65536).size_bytes == 65536


def test_a_long_line_with_room_doubles_the_window_in_each_round_trip() -> None:
    """Whatever is sent is answered one second later, all at once: the window alone is the limit."""
    window, numbers = Window(64_000), count(1)
    sizes = []
    for second in range(5):
        batch = [next(numbers) for _ in range(window.size_bytes // 1000)]
        for number in batch:
            window.note_sent(number, float(second))
        for number in batch:
            window.note_answered(number, 1000, second + 1.0)
        sizes.append(window.size_bytes)
    assert sizes == [128_000, 256_000, 512_000, 1_024_000, 2_048_000]


def test_a_slow_line_keeps_the_window_small() -> None:
    """One answer of 1000 bytes a second, whatever is on its way: two of them are all the line holds."""
    window = Window(2000)
    window.note_sent(1, 0.0)
    for number in range(2, 50):
        window.note_sent(number, number - 1.0)
        window.note_answered(number - 1, 1000, float(number))
    assert window.size_bytes <= 4000


def test_the_window_never_shrinks_nor_grows_without_end() -> None:
    window = Window(5000)
    window.note_sent(1, 0.0)
    window.note_answered(1, 10, 100.0)
    assert window.size_bytes == 5000
    window.note_sent(2, 100.0)
    window.note_answered(2, 1 << 40, 101.0)
    assert window.size_bytes == MAX_WINDOW_BYTES


def test_what_was_answered_without_its_content_is_no_measure() -> None:
    window = Window(5000)
    window.note_sent(2, 0.0)
    window.note_answered(1, 1 << 30, 1.0)
    assert window.size_bytes == 5000
    window.note_answered(3, 10, 2.0)
    assert window.size_bytes == 5000
