"""The `masqmail` command: one sub-command per thing a person wants to do or know; `parser` lists them.

`serve` goes its own way, before anything else is imported: the privileged parent would keep all of it in memory for
good. The other commands are in `run`.
"""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
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


def mailq() -> int:
    """The classic name for `masqmail queue list`."""
    return main(["queue", "list", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
