"""Many cheap random inputs: the server machine survives them all. Run with `-m slow`."""

import random

import pytest

from masqmail.proto.smtp.session import Wait
from support.dialogue import Settings, Shell
from support.smtpinput import PIECES

SEED = 5321
INPUTS = 300_000
INPUTS_PER_SESSION = 40
GREETING = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"


def mutate(chance: random.Random, piece: bytes) -> bytes:
    """One piece, most often with something changed, cut out, doubled or put in."""
    if not piece or chance.random() < 0.3:
        return piece
    place, end = chance.randrange(len(piece)), chance.randrange(len(piece) + 1)
    match chance.randrange(5):
        case 0:
            return piece[:place] + bytes([chance.randrange(256)]) + piece[place + 1 :]
        case 1:
            return piece[:place]
        case 2:
            return piece[:end] + piece[place:]
        case 3:
            return (
                piece[:place]
                + chance.choice((b"\r\n", b"\n", b"\r", b".", b"\0", b" ", b"<", b"\xff"))
                + piece[place:]
            )
        case _:
            return piece[:place] + chance.choice(PIECES)[:end]


@pytest.mark.slow
def test_the_server_survives_random_input() -> None:
    chance = random.Random(SEED)
    settings = Settings(max_size_bytes=500, max_recipients=5, auth=True, xsubmit=True, logins={"ann": "sesame"})
    messages = inputs = 0
    while inputs < INPUTS:
        shell = Shell(settings)
        if chance.random() < 0.7:
            shell.feed(GREETING)
        for _ in range(INPUTS_PER_SESSION):
            inputs += 1
            shell.feed(mutate(chance, chance.choice(PIECES[:-1])))
            output = shell.server.take_output()
            assert not output or output.endswith(b"\r\n")
            if shell.server.wait is Wait.NOTHING:
                break
        messages += len(shell.messages)
        for message in shell.messages:
            assert b"\n" not in message.content.replace(b"\r\n", b"")
            assert b"\r" not in message.content.replace(b"\r\n", b"")
            assert len(message.content) <= settings.max_size_bytes + 2
    assert messages > 100
