"""What is refused by name."""

import pytest

from masqmail.config.reader import settings_of
from masqmail.config.sections import HEADERS
from masqmail.config.unsupported import ANY, KEYS, SECTIONS, WORDS
from support.configuration import configuration, faults

NOT_YET = "is not supported yet in this version"
ROUTE = '[routes.x]\nsmarthost = "mail.example.org:587"\n'

REFUSED: list[tuple[str, list[str]]] = [
    ('[fetch.isp]\nprotocol = "pop3"', [f"1: [fetch] {NOT_YET}; take it out"]),
    ('[notices]\nlanguage = "en"', [f"1: [notices] {NOT_YET}; take it out"]),
    ('[web]\nlisten = "127.0.0.1:8025"', [f"1: [web] {NOT_YET}; take it out"]),
    ('smtp.ident_networks = ["192.168.1.0/24"]', [f"1: smtp.ident_networks {NOT_YET}; take it out"]),
    (
        'smtp.users = "pam"',
        [f'1: smtp.users = "pam" {NOT_YET}; write the path of a file made by `masqmail passwd`'],
    ),
    (
        '[links.dsl]\ndetect = "manual"\n[links.dsl.policy]\nmetered = true',
        [f"3: [links.dsl.policy] {NOT_YET}; take it out"],
    ),
    (
        '[links.umts]\ndetect = "networkmanager"\nconnection = "FastNet"',
        [
            f'2: links.umts.detect = "networkmanager" {NOT_YET}; '
            'write "always", "command", "file", "interface", "internet" or "manual"'
        ],
    ),
    (ROUTE + 'wrapper = "nc a 25"', [f"3: routes.x.wrapper {NOT_YET}; take it out"]),
    (ROUTE + "send_first = true", [f"3: routes.x.send_first {NOT_YET}; take it out"]),
    (ROUTE + 'pop_before_smtp = "isp"', [f"3: routes.x.pop_before_smtp {NOT_YET}; take it out"]),
    (ROUTE + '[routes.x.dkim]\ndomain = "a.example"', [f"3: [routes.x.dkim] {NOT_YET}; take it out"]),
    (
        ROUTE + 'username = "a"\npassword_file = "b"\nauth = ["plain", "xoauth2", "scram-sha-256"]',
        [
            f'5: routes.x.auth = "xoauth2" {NOT_YET}; write "plain", "login" or "cram-md5"',
            f'5: routes.x.auth = "scram-sha-256" {NOT_YET}; write "plain", "login" or "cram-md5"',
        ],
    ),
    (
        '[routes.fax]\ndeliver = "pipe"\ncommand = "sendfax"\nfrom_line = false',
        [
            f'2: routes.fax.deliver = "pipe" {NOT_YET}; write "direct", or a smarthost',
            f"3: routes.fax.command {NOT_YET}; take it out",
        ],
    ),
    ('local.delivery = "mda"', [f'1: local.delivery = "mda" {NOT_YET}; write "mbox" or "maildir"']),
    ('local.mda = "procmail"', [f"1: local.mda {NOT_YET}; take it out"]),
    ('local.lmtp = "/run/lmtp"', [f"1: local.lmtp {NOT_YET}; take it out"]),
    ('local.glob_aliases = "globs"', [f"1: local.glob_aliases {NOT_YET}; take it out"]),
    ("local.forward_files = true", [f"1: local.forward_files {NOT_YET}; take it out"]),
    (
        '[local.users.ann]\ndelivery = "lmtp"',
        [f'2: local.users.ann.delivery = "lmtp" {NOT_YET}; write "mbox" or "maildir"'],
    ),
    (
        'queue.store = "postgresql://ann:secret@db/mail"',
        [f'1: queue.store = "postgresql:…" {NOT_YET}; write "sqlite"'],
    ),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[text for text, _ in REFUSED])
def test_it_is_refused_by_name(text: str, expected: list[str]) -> None:
    assert faults(text) == expected


ASKS_FOR_NOTHING = [
    "local.forward_files = false",
    "local.glob_aliases = []",
    "smtp.ident_networks = []",
    ROUTE + "send_first = false\nwrapper = []\nfrom_line = false",
    "[fetch]",
]


@pytest.mark.parametrize("text", ASKS_FOR_NOTHING)
def test_what_asks_for_nothing_is_accepted(text: str) -> None:
    assert configuration(text)


def test_nothing_supported_is_refused() -> None:
    known = {
        (header.partition(",")[0].replace("NAME", ANY), key)
        for header, kind in HEADERS.items()
        for key in settings_of(kind)
    }
    assert not {(".".join(path[:-1]), path[-1]) for path in KEYS} & (known - {("links.*", "command")})


def test_every_section_that_is_refused_is_among_the_keys() -> None:
    assert set(KEYS) >= SECTIONS and not set(KEYS) & set(WORDS)


def test_a_misspelt_database_shows_no_password() -> None:
    assert "secret" not in faults('queue.store = "pgsql://ann:secret@db/mail"')[0]
