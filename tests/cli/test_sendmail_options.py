"""The command line of sendmail is read as every sendmail reads it."""

import os

import pytest

from masqmail.cli.sendmail_options import Options, UsageError, parse, split_addresses


def options(*words: str, program: str = "sendmail") -> Options:
    return parse(program, list(words))


def facts(read: Options) -> dict[str, object]:
    """What differs from an empty command line."""
    empty = vars(options())
    return {name: value for name, value in vars(read).items() if value != empty[name]}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("-t", {"header_recipients": True}),
        ("-ti", {"header_recipients": True, "ignore_dots": True}),
        ("-oi", {"ignore_dots": True}),
        ("-o i", {"ignore_dots": True}),
        ("-oi -oem -odb -oMsSMTP -oQ/tmp", {"ignore_dots": True}),
        ("-odq", {"queue_only": True}),
        ("-odq -odi", {}),
        ("-fx@y", {"sender": b"x@y"}),
        ("-f x@y", {"sender": b"x@y"}),
        ("-rx@y", {"sender": b"x@y"}),
        ("-f <>", {"sender": b""}),
        ("-f <x@y>", {"sender": b"x@y"}),
        ("-FBob", {"full_name": "Bob"}),
        ("-N success,Delay", {"notify": "SUCCESS,DELAY"}),
        ("-Nnever", {"notify": "NEVER"}),
        ("-R hdrs", {"ret": "HDRS"}),
        ("-V 4711", {"envelope_id": "4711"}),
        ("-B 7bit", {"body": "7BIT"}),
        ("-B8BITMIME", {}),
        ("-bm -v", {"verbose": True}),
        ("-bs", {"mode": "s"}),
        ("-bi", {"mode": "i"}),
        ("-I", {"mode": "i"}),
        ("-C /x.toml", {"config": "/x.toml"}),
        ("--config=/x.toml", {"config": "/x.toml"}),
        ("--config /x.toml", {"config": "/x.toml"}),
        ("--help", {"mode": "help"}),
        ("--version", {"mode": "version"}),
        ("-bp", {"mode": "p", "command": ["queue", "list"]}),
        ("-bd", {"mode": "d", "command": ["serve"]}),
        ("-bd -q30m", {"mode": "d", "command": ["serve"]}),
        ("-q", {"command": ["flush"]}),
        ("-bD", {"mode": "d", "command": ["serve"]}),
        ("-q30m -bd", {"mode": "d", "command": ["serve"]}),
        ("-bd -q 1h30m", {"mode": "d", "command": ["serve"]}),
        ("-q30m", {"command": ["serve"]}),
        ("-q 10m -C /x.toml", {"command": ["serve"], "config": "/x.toml"}),
        ("-q -v", {"command": ["flush", "--wait"], "verbose": True}),
        ("-v -qo dsl", {"command": ["flush", "--assume-up", "dsl", "--wait"], "verbose": True}),
        ("-qf", {"command": ["flush"]}),
        ("-qo -v", {"command": ["flush", "--wait"], "verbose": True}),
        ("-bV", {"mode": "version"}),
        ("-d 4 a@b", {"recipients": [b"a@b"]}),
        ("-d0.1 -d a@b", {"recipients": [b"a@b"]}),
        ("-m -n -odb -odi -oee -oeq -odX a@b", {"recipients": [b"a@b"]}),
        ("-qo dsl", {"command": ["flush", "--assume-up", "dsl"]}),
        ("-qodsl", {"command": ["flush", "--assume-up", "dsl"]}),
        ("-qo", {"command": ["flush"]}),
        ("-g", {"fetch": ["fetch"]}),
        ("-g gmx", {"fetch": ["fetch", "--", "gmx"]}),
        ("-ggmx", {"fetch": ["fetch", "--", "gmx"]}),
        ("-go dsl", {"fetch": ["fetch", "--online", "--link", "dsl"]}),
        ("-godsl", {"fetch": ["fetch", "--online", "--link", "dsl"]}),
        (
            "-go dsl -qo dsl",
            {"fetch": ["fetch", "--online", "--link", "dsl"], "command": ["flush", "--assume-up", "dsl"]},
        ),
        ("-go", {"fetch": ["fetch", "--online"]}),
        ("-go5m dsl", {"fetch": ["fetch", "--online", "--link", "dsl"]}),
        ("-Mrm a b", {"command": ["queue", "remove", "--", "a", "b"]}),
        ("-Ac -G -h 3 -L tag -n -O Key=val -p ESMTP -U -X /dev/null a@b", {"recipients": [b"a@b"]}),
        ("a@b -i c@d", {"recipients": [b"a@b", b"c@d"], "ignore_dots": True}),
        ("-- -t a@b", {"recipients": [b"-t", b"a@b"]}),
        ("a@b,c@d", {"recipients": [b"a@b", b"c@d"]}),
    ],
)
def test_a_command_line_means(line: str, expected: dict[str, object]) -> None:
    assert facts(options(*line.split())) == expected


@pytest.mark.parametrize(
    "line",
    ["-Z", "--nonsense", "-f", "-bx", "-N often", "-N never,failure", "-R some", "-B 9BIT", "-Mxx 1", "-Mrm", "-tZ"],
)
def test_nonsense_is_a_usage_error(line: str) -> None:
    with pytest.raises(UsageError) as caught:
        options(*line.split())
    assert caught.value.exit_code == os.EX_USAGE


def test_the_classic_names_do_the_classic_things() -> None:
    assert options(program="newaliases").mode == "i"
    assert options("a@b", program="rmail").ignore_dots
    assert options("a", program="mailrm").command == ["queue", "remove", "--", "a"]
    assert options(program="runq").command == ["flush"]
    assert options(program="smtpd").mode == options(program="in.smtpd").mode == "s"


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("ann", [b"ann"]),
        ("Ann B <ann@x>", [b"ann@x"]),
        ("<ann@x>", [b"ann@x"]),
        (" a@x , b@x,", [b"a@x", b"b@x"]),
        ('"a, b"@x', [b'"a, b"@x']),
        ('"q\\"," <a@x>, b@x', [b"a@x", b"b@x"]),
        ("jörg@x", ["jörg@x".encode()]),
    ],
)
def test_one_word_may_hold_several_addresses(text: str, addresses: list[bytes]) -> None:
    assert split_addresses(text) == addresses


@pytest.mark.parametrize(
    "text", ["a b@x", "a@x\r\nDATA", "a@x> NOTIFY=NEVER", "<>", '"', "a@x\x00", "<a@x", "\udcff@x"]
)
def test_what_could_leave_its_line_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_addresses(text)
    assert caught.value.exit_code == os.EX_DATAERR
