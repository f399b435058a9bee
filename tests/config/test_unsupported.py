"""What is refused by name."""

import pytest

from masqmail.config.reader import settings_of
from masqmail.config.sections import HEADERS
from masqmail.config.unsupported import ANY, KEYS, SECTIONS, WORDS
from support.configuration import configuration, faults

NOT_YET = "is not supported yet in this version"
ROUTE = '[routes.x]\nsmarthost = "mail.example.org:587"\n'

REFUSED: list[tuple[str, list[str]]] = [
    ('[web]\nlisten = "127.0.0.1:8025"', [f"1: [web] {NOT_YET}; take it out"]),
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
            'write "always", "command", "file", "interface", "internet", "manual" or "masqdialer"'
        ],
    ),
    (ROUTE + '[routes.x.dkim]\ndomain = "a.example"', [f"3: [routes.x.dkim] {NOT_YET}; take it out"]),
    (
        ROUTE + 'username = "a"\npassword_file = "b"\nauth = ["plain", "xoauth2", "scram-sha-256"]',
        [
            f'5: routes.x.auth = "xoauth2" {NOT_YET}; write "plain", "login" or "cram-md5"',
            f'5: routes.x.auth = "scram-sha-256" {NOT_YET}; write "plain", "login" or "cram-md5"',
        ],
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
    ROUTE + "send_first = false\nwrapper = []",
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
