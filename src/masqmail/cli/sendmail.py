"""`sendmail`: the submission command that every Unix program expects.

It starts in a few milliseconds because it, and the modules beside it, import only `posix`, `sys` and `_socket`,
which belong to the interpreter (`os` costs a millisecond more). Everything that needs thought is done by the daemon,
which knows the user from the socket's peer credentials. Exit code 0 means that the message is on stable storage.
Without a daemon it leaves a file in the pickup folder. What is not submission is a job for the `masqmail` program.

Start with `main`; the parts are `sendmail_options`, `sendmail_places`, `sendmail_message`, `sendmail_session`,
`sendmail_pickup` and `sendmail_handover`.
"""

import posix
import sys

from masqmail import __version__
from masqmail.cli.sendmail_message import Message, write_all
from masqmail.cli.sendmail_options import USAGE, Failure, Options, UsageError, parse, read_sender
from masqmail.cli.sendmail_places import Place, Unavailable, connect, find_places
from masqmail.cli.sendmail_session import Conversation


def start() -> None:
    """Runs the command and ends the process without taking the interpreter apart, which nobody would wait for."""
    posix._exit(main())  # everything was written with posix.write: there is no buffer to flush


def main(program: str = "", words: list[str] | None = None) -> int:
    """Runs the command and returns its exit code. The arguments are those of the process unless they are given."""
    for descriptor in (0, 1, 2):
        try:
            posix.fstat(descriptor)
        except OSError:  # it is closed: no file or connection of ours may take its place
            posix.open("/dev/null", posix.O_WRONLY)  # which cannot be read
    try:
        options = parse(program or sys.argv[0].rpartition("/")[2], sys.argv[1:] if words is None else words)
        return run(options)
    except Failure as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def run(options: Options) -> int:
    """Does what the options ask for."""
    if options.mode == "help":
        write_all(1, USAGE.encode())
    elif options.mode == "version":
        write_all(1, f"sendmail (MasqMail) {__version__}\n".encode())
    elif options.fetch and options.command and options.command != ["serve"]:
        return run_both(options)
    elif options.command or options.fetch:  # a daemon fetches by itself
        return run_masqmail(options, options.command or options.fetch)
    elif options.mode != "i":
        try:
            places = find_places(options.config)
        except OSError as error:
            complain(f"cannot read the configuration {error.filename}: {error.strerror}")
            return posix.EX_CONFIG
        return speak_smtp(options, places) if options.mode == "s" else submit(options, places)
    return posix.EX_OK


def submit(options: Options, places: list[Place]) -> int:
    """Hands the message to the first daemon that is there, else leaves it in the first pickup folder."""
    if not options.recipients and not options.header_recipients:
        raise UsageError("to whom? Give recipients, or -t to take those of the message")
    message = Message(0, ignore_dots=options.ignore_dots)
    if options.is_from_uucp and (sender := message.take_uucp_sender()) is not None and options.sender is None:
        options.sender = read_sender(sender)
    for place in places:
        try:
            conversation = Conversation(connect(place), verbose=options.verbose)
            conversation.submit(options, message)
        except Unavailable as error:
            if options.verbose:
                complain(f"no daemon: {error}")
            continue
        conversation.close()
        return posix.EX_OK
    return leave_for_later(options, message, places)


def leave_for_later(options: Options, message: Message, places: list[Place]) -> int:
    """The way without a daemon."""
    import os

    from masqmail.cli.sendmail_pickup import leave

    place = next((place for place in places if os.path.isdir(place.pickup)), places[0])
    try:
        leave(place.pickup, options, message)
    except FileNotFoundError:
        complain(f"the mail system is not running, and there is no {place.pickup} (masqmail init makes it)")
        return posix.EX_TEMPFAIL
    except OSError as error:
        complain(f"the mail system is not running, and {place.pickup} cannot be written: {error.strerror}")
        return posix.EX_TEMPFAIL
    try:
        connect(place)  # a daemon that started meanwhile looks at the folder
    except Unavailable:
        pass
    return posix.EX_OK


def speak_smtp(options: Options, places: list[Place]) -> int:
    """-bs: whoever called us speaks SMTP with the daemon through us.

    To the daemon that is the user we run as, who may send anywhere. So a connection of the network, which inetd
    accepted, is given to the daemon as it is, or turned away.
    """
    from masqmail.cli.sendmail_handover import hand_over, is_this_host, peer_of

    peer = peer_of(0)
    trouble = ""
    for place in places:
        try:
            if peer:
                hand_over(place, 0)
                return posix.EX_OK
        except Unavailable as error:
            trouble = str(error)
        try:
            if not peer or is_this_host(peer):
                Conversation(connect(place), verbose=False).copy()
                return posix.EX_OK
        except Unavailable:
            continue
    if peer and not is_this_host(peer):
        return turn_away(peer, trouble)
    write_all(1, b"421 4.3.2 The mail system is not running, try again later\r\n")
    return posix.EX_TEMPFAIL


def turn_away(peer: str, trouble: str) -> int:
    """Tells a host of the network that inetd cannot give its connection to the daemon."""
    from masqmail.cli.sendmail_handover import peer_of

    write_all(1, b"421 4.3.2 No mail is taken here now, try again later\r\n")
    if not peer_of(2):  # inetd would have it sent to the client
        complain(f"-bs cannot give {peer} to the daemon, which only root may do: {trouble}")
    return posix.EX_UNAVAILABLE


def run_both(options: Options) -> int:
    """Flushes the queue and then fetches mail, whatever became of the first; the first trouble counts."""
    flushed, fetched = _run_and_wait(options, options.command), _run_and_wait(options, options.fetch)
    return flushed or fetched


def _run_and_wait(options: Options, command: list[str]) -> int:
    """The exit code of the `masqmail` program; that of a shell when a signal ended it."""
    import os

    child = os.fork()
    if not child:
        status = posix.EX_UNAVAILABLE
        try:
            status = run_masqmail(options, command)
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def run_masqmail(options: Options, command: list[str]) -> int:
    """Becomes the `masqmail` program: the one beside us, beside the interpreter, or on the PATH."""
    import os

    config = ["--config", options.config] if options.config else []
    words = ["masqmail", *config, *command]
    try:
        for beside in (sys.argv[0], sys.executable):
            program = os.path.join(os.path.dirname(os.path.realpath(beside)), "masqmail")
            if os.access(program, os.X_OK) and os.path.isfile(program):
                os.execv(program, words)  # noqa: S606 - an argument list, no shell
        os.execvp("masqmail", words)  # noqa: S606 - an argument list, no shell
    except OSError as error:
        complain(f"cannot start the masqmail program: {error.strerror}")
        return posix.EX_UNAVAILABLE


def complain(text: str) -> None:
    """One line for people."""
    try:
        write_all(2, f"sendmail: {text}\n".encode(errors="replace"))
    except OSError:
        pass  # nobody listens, which changes nothing else
