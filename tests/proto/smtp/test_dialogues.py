"""Every file in tests/dialogues against the server machine."""

import pytest

from support.dialogue import FOLDER, Dialogue, difference, read_dialogue, run

DIALOGUES = [read_dialogue(path) for path in sorted(FOLDER.glob("*.dialogue"))]
IN_EVERY_MODE = [
    pytest.param(dialogue, mode, id=f"{dialogue.name}-{mode}")
    for dialogue in DIALOGUES
    for mode in dialogue.settings.modes
]


@pytest.mark.parametrize(("dialogue", "mode"), IN_EVERY_MODE)
def test_the_server_answers_as_in_the_dialogue(dialogue: Dialogue, mode: str) -> None:
    run(dialogue, mode)


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_a_dialogue_expects_something(dialogue: Dialogue) -> None:
    assert sum(len(turn.expected) for turn in dialogue.turns) > 1


@pytest.mark.parametrize(
    ("expected", "received"),
    [
        (["250 OK"], b"250 NO\r\n"),
        (["250 ..."], b"251 yes\r\n"),
        (["250*"], b"250-one\r\n251 two\r\n"),
        (["250 OK"], b""),
        ([], b"250 OK\r\n"),
        (["250 OK"], b"250 OK"),
    ],
)
def test_the_runner_sees_a_difference(expected: list[str], received: bytes) -> None:
    assert difference(expected, received)


@pytest.mark.parametrize(
    ("expected", "received"),
    [
        (["250 OK"], b"250 OK\r\n"),
        (["250 2.1..."], b"250 2.1.0 Sender\r\n"),
        (["250*", "354 ..."], b"250-one\r\n250-two\r\n250 three\r\n354 go\r\n"),
        ([], b""),
    ],
)
def test_the_runner_accepts_what_fits(expected: list[str], received: bytes) -> None:
    assert not difference(expected, received)
