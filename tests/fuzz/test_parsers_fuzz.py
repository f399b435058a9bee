"""A million random inputs: every parser answers with a value or with its own error. Run with `-m slow`."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from masqmail.config.faults import ConfigError
from masqmail.config.load import parse as parse_configuration
from masqmail.mail.address import AddressError, parse_mailbox
from masqmail.mail.addresslist import parse_address_list
from masqmail.mail.header import field_names, join_fields, split_fields
from masqmail.mail.submission import Submission, fix_header, header_recipients
from masqmail.mail.trace import count_hops, for_mailbox
from masqmail.proto import sasl
from masqmail.proto.errors import PeerError
from masqmail.proto.pop3.client import Client as Pop3Client
from masqmail.proto.pop3.session import ClientOptions as Pop3Options
from masqmail.proto.pop3.session import Stls
from masqmail.proto.smtp.command import parse_command
from masqmail.proto.smtp.extension import parse_ehlo
from masqmail.proto.smtp.reply import ReplyParser
from masqmail.reception.pickupfile import BadFile, parse_ticket
from masqmail.routing.aliasfile import parse as parse_aliases
from masqmail.routing.aliasfile import split_command
from masqmail.routing.pattern import check_pattern, glob
from masqmail.routing.rewrite import parse_rewrite_value
from support.configuration import AS_USER

SEED = 5322
INPUTS = 1_000_000
CONFIGURATIONS = 2_000  # of them: whole files take longer


@dataclass(frozen=True)
class Parser:
    """One parser with inputs to start from, and the errors it may raise."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    errors: tuple[type[Exception], ...] = ()


def _replies(data: bytes) -> None:
    parser = ReplyParser()
    parser.receive(data)
    while parser.next_reply() is not None:
        pass


def _pop3(data: bytes) -> None:
    client = Pop3Client(Pop3Options(sasl.Credentials("ann", sasl.Secret("sesame")), Stls.NEVER, clear_password=True))
    client.receive(data)
    while client.next_event() is not None:
        pass


def _header(data: bytes) -> None:
    fields = split_fields(data)
    assert join_fields(fields) == data
    assert count_hops(field_names(data)) >= 0
    header_recipients(data)
    mailbox = parse_mailbox("ann@example.org")
    for_mailbox(data, reverse_path=None, mailbox=mailbox, envelope_to="ann@example.org")
    fix_header(data, Submission(mailbox, "", datetime(2026, 1, 1, tzinfo=UTC), "id", "host.example"))


def _text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


PARSERS = (
    Parser(
        parse_command,
        (
            b"MAIL FROM:<ann@example.org> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=a+2Bb SMTPUTF8",
            b'RCPT TO:<"a b"@[IPv6:::1]> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b',
            b"BDAT 86 LAST",
            b"AUTH PLAIN AGEAYg==",
            b"EHLO [127.0.0.1]",
        ),
        (PeerError,),
    ),
    Parser(
        _replies, (b"250-a.example\r\n250-SIZE 100\r\n250 2.0.0 OK\r\n", b"550 5.1.1 no\r\n421\r\n"), (PeerError,)
    ),
    Parser(
        _pop3,
        (
            b"+OK <1.2@pop.example>\r\n-ERR\r\n-ERR [IN-USE] Busy\r\n",
            b"+OK\r\n+OK\r\nUSER\r\nSASL PLAIN CRAM-MD5\r\n.\r\n+ PDFAbXgudGVzdD4=\r\n+OK\r\n",
        ),
        (PeerError,),
    ),
    Parser(_text(parse_ehlo), (b"a.example\nSIZE 100\nAUTH PLAIN LOGIN\nLIMITS RCPTMAX=100 MAILMAX=5\nAUTH=LOGIN",)),
    Parser(
        _text(parse_mailbox),
        (b"ann@example.org", b'"a\\"b"@[127.0.0.1]', "jürgen@müller.example".encode()),
        (AddressError,),
    ),
    Parser(
        parse_address_list,
        (
            b'Ann <ann@example.org>, "B, B" <b@c>, list: x@y, z@w;, (comment (nested)) d@e',
            b"<@route,@b:ann@example.org>, =?utf-8?q?J=C3=BC?= <j@k>",
        ),
    ),
    Parser(
        _header,
        (
            b"From: Ann <ann@example.org>\r\nTo: b@c,\r\n d@e\r\nBcc: x@y\r\nSubject: s\r\n",
            b"Resent-From: a@b\r\nReceived: from x by y; z\r\nDate: now\r\n",
        ),
    ),
    Parser(
        _text(lambda text: parse_aliases(text, "aliases")),
        (b'postmaster: root\nlist: a, "|/bin/x \\"y z\\"", :include:/f,\n  \\bob, /var/x/\n# no\n',),
    ),
    Parser(_text(split_command), (b'/bin/x \'a b\' "c \\" d" e\\ f',), (ValueError,)),
    Parser(
        _text(lambda text: (check_pattern(text), glob(text)("ann"))), (b"*@*.example", b"<>", b"a?b"), (ValueError,)
    ),
    Parser(_text(parse_rewrite_value), (b"John <j@example.org>", b"*@example.org"), (ValueError,)),
    Parser(sasl.decode_initial, (b"AGEAYg==", b"="), (PeerError,)),
    Parser(
        lambda data: parse_ticket(data),
        (b"MasqMail-Pickup: 1\nSender: <a@b>\nRecipient: <c@d>\nNotify: SUCCESS\nRet: HDRS\n",),
        (BadFile,),
    ),
)

CONFIGURATION = Parser(
    lambda data: parse_configuration(data, Path("/etc/masqmail/masqmail.toml"), AS_USER),
    ((Path(__file__).parents[1] / "config" / "whole.toml").read_bytes(),),
    (ConfigError,),
)

_BITS = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b'"',
    b"\\",
    b"<",
    b">",
    b"@",
    b",",
    b"(",
    b":",
    b";",
    b" ",
    b"\xff",
    b"\xc3",
    b"=",
)


def mutate(chance: random.Random, data: bytes) -> bytes:
    """One to four changes: octets replaced, cut out, doubled, or something awkward put in."""
    for _ in range(chance.randrange(1, 5)):
        place, end = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
            case 1:
                data = data[:place] + data[max(place, end) :]
            case 2:
                data = data[:end] + data[place:] if len(data) < 2000 else data
            case _:
                data = data[:place] + chance.choice(_BITS) + data[place:]
    return data


def feed(parser: Parser, chance: random.Random, inputs: int) -> None:
    for number in range(inputs):
        data = mutate(chance, chance.choice(parser.seeds))
        try:
            parser.read(data)
        except parser.errors:
            pass
        except Exception as error:
            raise AssertionError(f"input {number}: {data!r}") from error


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(len(PARSERS)))
def test_a_parser_survives_its_share_of_a_million_inputs(number: int) -> None:
    feed(PARSERS[number], random.Random(SEED + number), INPUTS // len(PARSERS) + 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_configuration_survives_too() -> None:
    feed(CONFIGURATION, random.Random(SEED), CONFIGURATIONS)
