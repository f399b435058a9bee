"""`masqmail demo`: a guided tour with the real daemon, the real commands and a pretend provider.

Without options it plays by itself; with `--serve` it stays and says what to type. Neither needs root or a
network, and both end everything they started.
"""

import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import anyio
from anyio.abc import Process

from masqmail.cli.client import NotRunning
from masqmail.cli.pretend import Arrival, Provider
from masqmail.cli.stage import LINK, CannotPlay, Stage, check_loopback, chosen_port, scratch_folder
from masqmail.cli.text import paint
from masqmail.net.errors import ListenFailure

RECIPIENT = "ann@example.net"
LETTER_FILE = "letter.txt"
LETTER = f"""\
To: Ann <{RECIPIENT}>
Subject: Greetings from the boat

No network out here, but MasqMail has this letter.
"""
ARRIVAL_SECONDS = 30.0
_POLL_SECONDS = 0.05
_MOMENT_SECONDS = 0.2
_INTERRUPTED = 130
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_WHAT_TO_TYPE = """\
MasqMail is running, with a pretend provider behind the link "{link}", which is {state}. Ctrl-C ends it all.

    folder       {folder}
    SMTP server  127.0.0.1:{port}

Open another terminal and type:

    {export}

Send a letter. The link is down, so it waits:

    printf 'To: {recipient}\\nSubject: Hello\\n\\nHow are you?\\n' | sendmail -t

Look at the queue, and ask why:

    masqmail queue
    masqmail explain {recipient}

Bring the link up, wait until the letter has gone, and see it as the provider got it:

    masqmail link up {link}
    masqmail flush --wait
    cat {arrived}/new/*

Take the link down again; the next letter waits. And see what has happened:

    masqmail link down {link}
    masqmail log

What arrives at the provider is told here as well.
"""


def run(folder: str | None, stay: bool) -> int:
    """Plays the demo and returns a sysexits code: 0 only if a letter really arrived, or somebody ended `stay`."""
    try:
        with scratch_folder(folder) as place:
            return anyio.run(_play, place, stay)
    except CannotPlay as error:
        return _complain(error, error.exit_code)


async def _play(folder: Path, stay: bool) -> int:
    status = os.EX_OK if stay else _INTERRUPTED
    with anyio.open_signal_receiver(*_ENDINGS) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_on_signal, signals, tasks.cancel_scope)
            try:
                provider = Provider(folder / "arrived")
                tasks.start_soon(provider.serve)
                check_loopback(provider.port)
                with chosen_port() as port:
                    stage = Stage(folder, port, provider.port)
                    async with stage.daemon() as daemon:
                        status = await (_stay(stage, provider, daemon) if stay else _tour(stage, provider))
            except CannotPlay as error:
                status = _complain(error, error.exit_code)
            except (ListenFailure, NotRunning) as error:
                status = _complain(error, os.EX_UNAVAILABLE)
            tasks.cancel_scope.cancel()
    for number in _ENDINGS:  # only tidying up is left, and that must be done
        signal.signal(number, signal.SIG_IGN)
    return status


async def _end_on_signal(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    """The first one ends the play; a second one (make hands on a SIGTERM that its group got) changes nothing."""
    await anext(signals)
    scope.cancel()


# --- with --serve


async def _stay(stage: Stage, provider: Provider, daemon: Process) -> int:
    """Says what to type, then what arrives, until it is cancelled. Raises `CannotPlay` when the daemon ends."""
    _say(
        _WHAT_TO_TYPE.format(
            link=LINK,
            state=await stage.link_state(),
            folder=stage.folder,
            port=stage.port,
            export=stage.export_line,
            recipient=RECIPIENT,
            arrived=shlex.quote(str(stage.arrived)),
        )
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_announce, provider)
        await daemon.wait()
        await anyio.sleep(_MOMENT_SECONDS)  # a Ctrl-C that reached the daemon first is about to reach us
        tasks.cancel_scope.cancel()
    raise CannotPlay(f"the daemon has ended; its log ends so:\n{stage.last_words()}")


async def _announce(provider: Provider) -> None:
    async for arrival in provider.arrivals:
        _say(f"{datetime.now():%H:%M:%S}  arrived at the provider: {arrival}")


# --- the tour


async def _tour(stage: Stage, provider: Provider) -> int:
    """Plays every step. Raises `CannotPlay` when one goes wrong."""
    (stage.folder / LETTER_FILE).write_text(LETTER)
    _say(f"A scratch folder, {stage.folder}, with a configuration: one link, and a route over it.")
    await _show(stage, "cat", "masqmail.toml")
    _say("\nThe daemon runs, and a pretend provider at the other end of the link. The link is down.")
    await _show(stage, "masqmail", "status")
    _say("\nSomebody writes a letter. sendmail returns as soon as it is safe on disk.")
    await _show(stage, "cat", LETTER_FILE)
    await _show(stage, "sendmail", RECIPIENT, letter=LETTER)
    _say("\nIt waits. Being offline costs it nothing: no attempt, no warning, no lifetime.")
    await _show(stage, "masqmail", "queue")
    await _show(stage, "masqmail", "explain", RECIPIENT)
    _say("\nThe link comes up, and the letter leaves at once.")
    await _show(stage, "masqmail", "link", "up", LINK)
    arrival = await _wait_for_arrival(stage, provider)
    _say(f"\nThe provider has it: {arrival}.")
    await _show(stage, "cat", str(arrival.file.relative_to(stage.folder)))
    _say("\nThe queue is empty, and the log knows what happened.")
    await _show(stage, "masqmail", "queue")
    await _show(stage, "masqmail", "log")
    _say("\nThat was all. Now try it yourself: masqmail demo --serve")
    return os.EX_OK


async def _show(stage: Stage, *command: str, letter: str = "") -> None:
    """Prints a command and runs it. Raises `CannotPlay` when it fails."""
    line = shlex.join(command) + (f" < {LETTER_FILE}" if letter else "")
    _say("\n" + paint(f"$ {line}", "bold"))
    status = await stage.run(command, letter)
    if status not in (os.EX_OK, -signal.SIGPIPE):  # SIGPIPE: nobody reads what it prints, and it did no harm
        raise CannotPlay(f"`{line}` ended with status {status}; the daemon's log ends so:\n{stage.last_words()}")


async def _wait_for_arrival(stage: Stage, provider: Provider) -> Arrival:
    """Returns when the provider has the letter and the daemon knows that it has."""
    with anyio.move_on_after(ARRIVAL_SECONDS):
        arrival = await provider.arrivals.receive()
        while await stage.queue():  # noqa: ASYNC110 - it is another process that empties it
            await anyio.sleep(_POLL_SECONDS)
        return arrival
    raise CannotPlay(f"the letter did not arrive; the daemon's log ends so:\n{stage.last_words()}")


# --- what people see


def _say(text: str) -> None:
    """Prints at once. When nobody reads any more, the play goes on for nobody."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: Exception, status: int) -> int:
    print(f"masqmail demo: {error}", file=sys.stderr)
    return status
