"""The `masqmail` command: one sub-command per thing a person wants to do or know; `parser` lists them.

`serve` goes its own way, before anything else is imported: the privileged parent would keep all of it in memory for
good. The other commands are in `run`. What looks like a command line of `sendmail` is one: the original MasqMail was
called `masqmail -qo NAME` and `masqmail -bd` by many a script.
"""

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if is_classic(words):
        from masqmail.cli.sendmail import main as sendmail

        return sendmail("masqmail", list(words))
    _open_closed_streams()
    match words:
        case ["serve"]:
            config = ""
        case ["--config" | "-C", config, "serve"] | ["serve", "--config" | "-C", config]:
            pass
        case _:
            from masqmail.cli.run import run

            return run(words)
    from masqmail.cli.serve import serve

    return serve(config)


def _open_closed_streams() -> None:
    """What was closed is /dev/null: Python has None for it, and a file of ours could take its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - until the process ends


#: The words that are no user's name behind a -v; `parser` has them with their options.
COMMANDS = frozenset(
    ("check", "demo", "explain", "fetch", "flush", "import", "link", "log", "passwd", "queue", "serve", "status")
)


def is_classic(words: Sequence[str]) -> bool:
    """Whether the first word that is not --config or --json is a short option of sendmail's, or an address.

    A -v before one of our commands is none of them.
    """
    rest = iter(words)
    is_verbose = False
    for word in rest:
        if word in ("--config", "-C"):
            next(rest, "")
        elif word == "-v":
            is_verbose = True
        elif not word.startswith(("--", "-C")):
            is_option = word.startswith("-") and word not in ("-", "-h")
            return is_option or "@" in word or (is_verbose and word not in COMMANDS)
    return is_verbose


def mailq() -> int:
    """The classic name for `masqmail queue list`; -v and -A are options of other programs of this name."""
    return main(["queue", "list", *(word for word in sys.argv[1:] if word != "-v" and not word.startswith("-A"))])


if __name__ == "__main__":
    sys.exit(main())
