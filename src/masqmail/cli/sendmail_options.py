"""The options of `sendmail`, read the way every sendmail reads them: clustered, glued or separate.

Like `cli.sendmail` this imports nothing that costs time to load.
"""

import posix

USAGE = """\
usage: sendmail [options] [recipient ...]        the message is read from standard input

  -t            take the recipients from To, Cc and Bcc, too
  -i, -oi       a line with a single dot does not end the message
  -f ADDRESS    the envelope sender (also -r); "<>" is the null sender
  -F NAME       your full name, for a From field that is missing
  -N WHEN       reports wanted: "never", or a list of success, failure, delay
  -R PART       what a failure report returns: full or hdrs
  -V ID         an envelope ID that reports repeat
  -B TYPE       7BIT or 8BITMIME
  -odq          queue only, send at the next flush
  -v            show the conversation with the mail server
  -C FILE       read this configuration file (also --config)

  -bm  send a message (default)     -bp  list the queue         -q        flush the queue
  -bs  SMTP on standard input       -bd  run the daemon         -qo NAME  flush as if link NAME were up
  -bi  does nothing (newaliases)    -g   fetch mail             -Mrm ID   remove from the queue
  -bV  the version

  --help, --version
"""

_FLAGS = "GImnUtiv"
_WITH_ARGUMENT = "ABCFLNORVXbefhopr"
_OPTIONAL_ARGUMENT = "qgMd"
_NOTIFY = frozenset({"success", "failure", "delay"})


class Failure(Exception):
    """The command cannot do it: `exit_code` says why in the language of sysexits, the message to people."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class UsageError(Failure):
    """The command line makes no sense."""

    def __init__(self, text: str, exit_code: int = posix.EX_USAGE) -> None:
        super().__init__(text, exit_code)


class Options:
    """What the command line asks for. `command` is set when the `masqmail` program is to do it.

    `fetch` is a command, too, which may come with the one that flushes the queue.
    `mode` is the letter behind -b; "help" and "version".
    """

    def __init__(self) -> None:
        self.recipients: list[bytes] = []
        self.sender: bytes | None = None  # None: the user's own address; empty: the null reverse-path
        self.full_name = ""
        self.header_recipients = False
        self.ignore_dots = False
        self.is_from_uucp = False
        self.queue_only = False
        self.verbose = False
        self.notify = ""
        self.ret = ""
        self.envelope_id = ""
        self.body = "8BITMIME"
        self.config = ""
        self.mode = "m"
        self.command: list[str] = []
        self.fetch: list[str] = []


def parse(program: str, words: list[str]) -> Options:
    """Reads the command line. `program` is the name we were called by. Raises `UsageError`."""
    options = Options()
    if program == "newaliases":
        options.mode = "i"
    elif program == "rmail":
        options.ignore_dots = options.is_from_uucp = True
    elif program == "mailrm":
        options.command = ["queue", "remove"]
    elif program == "runq":
        options.command = ["flush"]
    elif program in ("smtpd", "in.smtpd"):
        options.mode = "s"
    operands = _read(options, list(reversed(words)))
    if options.mode in ("help", "version"):
        options.command = []
    elif options.command == ["queue", "remove"]:
        if not operands:
            raise UsageError("which messages? Give their IDs")
        options.command += ["--", *operands]
    elif options.command[:1] == ["flush"] and options.verbose:
        options.command.append("--wait")
    elif not options.command:
        options.recipients = [address for operand in operands for address in split_addresses(operand)]
    return options


def _read(options: Options, rest: list[str]) -> list[str]:
    """Takes every option from the words, whose last comes first, and returns the others."""
    operands: list[str] = []
    while rest:
        word = rest.pop()
        if word == "--":
            break
        if word.startswith("--"):
            _long(options, word[2:], rest)
        elif word.startswith("-") and word != "-":
            _short(options, word[1:], rest)
        else:
            operands.append(word)
    operands.extend(reversed(rest))
    return operands


def split_addresses(text: str) -> list[bytes]:
    """The addresses in one word, without brackets: "a@b", "Ann <a@b>", "a@b, c@d".

    Whether they are good is for the daemon to say; what could break out of a line of the envelope is refused
    here with `UsageError`.
    """
    parts, start = [], 0
    is_quoted = is_escaped = False
    for index, character in enumerate(text + ","):
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == '"':
            is_quoted = not is_quoted
        elif character == "," and (not is_quoted or index == len(text)):
            parts.append(text[start:index].strip())
            start = index + 1
    return [_address(part) for part in parts if part]


def read_sender(text: str) -> bytes:
    """An address for the envelope; `""` and `<>` are the null sender. Raises `UsageError`."""
    return b"" if text.strip() in ("", "<>") else _address(text.strip())


def _address(text: str) -> bytes:
    if text.endswith(">"):
        text = text[text.rfind("<") + 1 : -1].strip()
    bare = "".join(text.split('"')[::2])
    if not text.isprintable() or not bare.strip() or any(character in " <>" for character in bare):
        raise UsageError(f"{text!r} is not an address", posix.EX_DATAERR)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is neither ASCII nor UTF-8", posix.EX_DATAERR) from None


def _long(options: Options, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    if name == "config":
        options.config = value if equals else _next(rest, "--config")
    elif word in ("help", "version"):
        options.mode = word
    else:
        raise UsageError(f"there is no option --{word}")


def _short(options: Options, cluster: str, rest: list[str]) -> None:
    """One word of short options: flags first, then perhaps one that takes the rest as its argument."""
    while cluster:
        letter, cluster = cluster[0], cluster[1:]
        if letter in _FLAGS:
            _flag(options, letter)
            continue
        if letter in _WITH_ARGUMENT:
            _argument(options, letter, cluster or _next(rest, f"-{letter}"))
        elif letter in _OPTIONAL_ARGUMENT:
            _command(options, letter, cluster, rest)
        else:
            raise UsageError(f"there is no option -{letter}")
        return


def _next(rest: list[str], option: str) -> str:
    if not rest:
        raise UsageError(f"{option} needs an argument")
    return rest.pop()


def _flag(options: Options, letter: str) -> None:
    if letter == "t":
        options.header_recipients = True
    elif letter == "i":
        options.ignore_dots = True
    elif letter == "v":
        options.verbose = True
    elif letter == "I":
        options.mode = "i"


def _argument(options: Options, letter: str, value: str) -> None:
    """An option with an argument. Those other sendmails know and we need not are read and forgotten."""
    if letter in "fr":
        options.sender = read_sender(value)
    elif letter == "F":
        options.full_name = " ".join(value.split())
    elif letter == "C":
        options.config = value
    elif letter == "N":
        options.notify = _notify(value.lower())
    elif letter == "R":
        options.ret = _one_of(value.upper(), ("FULL", "HDRS"), "-R")
    elif letter == "V":
        options.envelope_id = value
    elif letter == "B":
        options.body = _one_of(value.upper(), ("7BIT", "8BITMIME"), "-B")
    elif letter == "o":
        options.ignore_dots = options.ignore_dots or value == "i"
        options.queue_only = value == "dq" or (options.queue_only and not value.startswith("d"))
    elif letter == "b":
        _mode(options, _one_of(value, ("m", "s", "p", "i", "d", "D", "V"), "-b"))


def _mode(options: Options, letter: str) -> None:
    """The last -b counts, but that -q goes with -bm."""
    if letter == "V":
        options.mode = "version"
        return
    options.mode = letter.lower()
    if options.mode == "p":
        options.command = ["queue", "list"]
    elif options.mode == "d":
        options.command = ["serve"]


def _command(options: Options, letter: str, argument: str, rest: list[str]) -> None:
    """An option whose argument may be missing; each but -d is a job for the `masqmail` program."""
    if letter == "d":
        _forget_level(argument, rest)
    elif letter == "M":
        if argument != "rm":
            raise UsageError(f"there is no option -M{argument}; -Mrm removes messages")
        options.command = ["queue", "remove"]
    elif letter == "g":
        options.fetch = _fetch(argument, rest)
    elif argument.startswith("o"):
        name = argument[1:] or _next_unless_option(rest)
        options.command = ["flush", "--assume-up", name] if name else ["flush"]
    elif _is_time(argument) or (not argument and rest and _is_time(rest[-1])):  # what a daemon is started with
        if not argument:
            rest.pop()
        options.command = ["serve"]
    elif options.command != ["serve"]:
        options.command = ["flush"]


def _fetch(argument: str, rest: list[str]) -> list[str]:
    """-g NAME is about an account; -go NAME about those of a link, and without a name of any that is up."""
    if argument[:1] != "o":
        name = argument or _next_unless_option(rest)
        return ["fetch", "--", name] if name else ["fetch"]
    name = "" if _is_time(argument[1:]) else argument[1:]  # the daemon has the interval from its configuration
    name = name or _next_unless_option(rest)
    return ["fetch", "--online", *(["--link", name] if name else [])]


def _forget_level(argument: str, rest: list[str]) -> None:
    """`-d 4` and `-d0.1`: how much to tell of what is going on, which is for `[log] level` to say."""
    if not argument and rest and rest[-1].isdigit():
        rest.pop()


def _next_unless_option(rest: list[str]) -> str:
    return rest.pop() if rest and not rest[-1].startswith("-") else ""


def _is_time(text: str) -> bool:
    """30m, 1h30m, 600: how often a daemon is to look at the queue. Ours knows by itself."""
    return text[:1].isdigit() and not text.strip("0123456789smhdw")


def _notify(value: str) -> str:
    words = value.split(",")
    if value != "never" and not _NOTIFY.issuperset(words):
        raise UsageError('-N is "never", or a list of success, failure and delay')
    return value.upper()


def _one_of(value: str, allowed: tuple[str, ...], option: str) -> str:
    if value not in allowed:
        raise UsageError(f"{option} takes {' or '.join(allowed)}, not {value!r}")
    return value
