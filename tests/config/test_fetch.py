"""The accounts that mail is fetched from: what is read, what is refused, and what `check` says."""

from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.config.check import examine
from masqmail.config.fetch import FetchSection, Trigger
from masqmail.config.routes import Tls
from masqmail.config.sections import HEADERS
from masqmail.config.surroundings import Surroundings
from masqmail.settings import HostPort
from support.configuration import AS_ROOT, FILE, configuration, faults

LOGIN = 'username = "ann"\npassword_file = "secret"\n'
POP3 = f'[fetch.x]\nprotocol = "pop3"\nserver = "pop.example.org"\n{LOGIN}'
IMAP = POP3.replace("pop3", "imap")
ODMR = POP3.replace("pop3", "odmr") + 'multidrop_domains = "home.example"\n'
ROUTE = '[routes.r]\nsmarthost = "mail.example.org:587"\npop_before_smtp = "x"\n'


def account(text: str) -> FetchSection:
    return configuration(text).fetch["x"]


def test_what_is_left_out_has_safe_defaults() -> None:
    found = account(POP3)
    assert (found.name, found.links, found.keep, found.interval) == ("x", ("internet",), False, timedelta(minutes=5))
    assert (found.deliver_to, found.folders, found.max_messages, found.auth) == (None, ("INBOX",), 0, ())
    assert found.password_file == FILE.parent / "secret"


@pytest.mark.parametrize(
    ("text", "port", "tls"),
    [
        (POP3, 995, Tls.IMPLICIT),
        (IMAP, 993, Tls.IMPLICIT),
        (ODMR, 366, Tls.STARTTLS),
        (POP3 + 'tls = "starttls"', 110, Tls.STARTTLS),
        (IMAP + 'tls = "none"', 143, Tls.NONE),
        (POP3.replace(".org", ".org:110"), 110, Tls.STARTTLS),
        (POP3.replace(".org", ".org:995"), 995, Tls.IMPLICIT),
        (POP3.replace(".org", ".org:1995"), 1995, Tls.STARTTLS),
        (IMAP.replace(".org", ".org:995"), 995, Tls.STARTTLS),
        (POP3.replace(".org", ".org:1995") + 'tls = "implicit"', 1995, Tls.IMPLICIT),
    ],
)
def test_port_and_encryption_say_each_other(text: str, port: int, tls: Tls) -> None:
    found = account(text)
    assert (found.server, found.effective_tls) == (HostPort("pop.example.org", port), tls)


def test_a_wrapper_that_asks_for_nothing_is_none() -> None:
    assert account(POP3 + "wrapper = []").wrapper is None


def test_an_idle_account_that_keeps_mail_for_a_week() -> None:
    found = account(IMAP + 'interval = "idle"\nkeep = "7d"\nfolders = ["INBOX", "Lists"]')
    assert (found.interval, found.keep, found.folders) == (Trigger.IDLE, timedelta(days=7), ("INBOX", "Lists"))


BROKEN: list[tuple[str, str]] = [
    (
        '[links.dsl]\ndetect = "manual"\n' + POP3 + 'links = ["dls"]',
        '8: fetch.x.links names "dls", and there is no such link; write "dsl"',
    ),
    (POP3 + "links = []", '6: fetch.x.links is empty; write it like ["internet"]'),
    (
        POP3 + 'password_credential = "c"',
        "6: fetch.x has both password_file and password_credential; take one of them out",
    ),
    (POP3 + 'token_command = "t"', "6: fetch.x has both password_file and token_command; take one of them out"),
    (
        POP3 + 'password = "hunter2"',
        "6: fetch.x.password is in a file that everybody may read; "
        "write password_file, password_command or password_credential",
    ),
    (POP3.replace(LOGIN, ""), '1: fetch.x has no username; write it like username = "jsmith"'),
    (
        POP3.replace('password_file = "secret"\n', ""),
        "4: fetch.x has a username and no password; "
        "write password_file, password_command or password_credential as well",
    ),
    (IMAP + 'auth = "apop"', '6: fetch.x.auth has "apop", which is for pop3 only; take it out, or write cram-md5'),
    (
        POP3.replace("password_file", "token_command") + 'auth = "plain"',
        '6: fetch.x.auth has no use for the token of token_command; write "xoauth2" or "oauthbearer"',
    ),
    (
        IMAP + 'auth = "xoauth2"',
        "6: fetch.x.auth needs a token, and there is only a password; "
        "write token_command instead of the password, or other words here",
    ),
    (ODMR + 'tls = "implicit"', '7: fetch.x is odmr, which does not begin with TLS; write tls = "starttls"'),
    (
        POP3.replace(".org", ".org:110") + 'tls = "implicit"',
        '6: fetch.x: port 110 does not begin with TLS; write tls = "starttls", or port 995',
    ),
    (
        IMAP.replace(".org", ".org:993") + 'tls = "none"',
        '6: fetch.x: port 993 begins with TLS; write tls = "implicit", or port 143',
    ),
    (
        POP3 + 'tls = "none"\ntls_ca = "ca"',
        '7: fetch.x has tls_ca beside tls = "none"; take it out, or write tls = "starttls"',
    ),
    (
        POP3 + 'envelope_header = "Delivered To"\nmultidrop_domains = "a.example"',
        '6: fetch.x.envelope_header is "Delivered To", not the name of a header field; write it like "Delivered-To"',
    ),
    (
        POP3 + 'envelope_header = "Delivered-To"',
        "6: fetch.x has an envelope_header and no domains whose mail it takes; "
        'write multidrop_domains = ["home.example"] as well',
    ),
    (
        POP3 + 'multidrop_domains = "home.example"',
        "6: fetch.x has multidrop_domains and does not say which header field has the recipient; "
        'write envelope_header = "Delivered-To" as well',
    ),
    (
        POP3 + 'strip = "foo-"',
        "6: fetch.x.strip has no use without an envelope_header; take it out, or write envelope_header as well",
    ),
    (
        POP3.replace("pop3", "odmr"),
        '1: fetch.x is odmr and does not say for which domains; write them: multidrop_domains = ["home.example"]',
    ),
    (
        ODMR + 'envelope_header = "Delivered-To"',
        "7: fetch.x.envelope_header has no use with odmr, which has the envelope itself; take it out",
    ),
    (IMAP + "folders = []", '6: fetch.x.folders is empty; write it like ["INBOX"]'),
    (
        POP3 + 'folders = ["Lists"]',
        "6: fetch.x.folders has no use with pop3, which has one mailbox only; "
        'take it out, or write protocol = "imap"',
    ),
    (
        POP3 + 'interval = "idle"',
        '6: fetch.x.interval is "idle", which pop3 cannot; write it like "5m", or protocol = "imap"',
    ),
    (POP3 + 'interval = "0s"', '6: fetch.x.interval is no time at all; write it like "5m", or "manual"'),
    (POP3 + 'keep = "0d"', '6: fetch.x.keep is no time at all; write it like "7d", or false'),
    (
        POP3 + "max_size = 0",
        '6: fetch.x.max_size is 0, so nothing would be fetched; write it like "1MB", or take it out',
    ),
    (POP3 + 'protocol2 = "x"', '6: there is no setting "protocol2" in [fetch.x]; write protocol'),
]


@pytest.mark.parametrize(("text", "expected"), BROKEN, ids=[expected for _, expected in BROKEN])
def test_what_cannot_be_is_a_fault_with_advice(text: str, expected: str) -> None:
    assert faults(text) == [expected]


LOGIN_FIRST: list[tuple[str, str]] = [
    (ROUTE, '3: routes.r.pop_before_smtp names "x", and there is no such fetch account; add a section [fetch.x]'),
    (
        ROUTE + POP3.replace("fetch.x", "fetch.xx"),
        '3: routes.r.pop_before_smtp names "x", and there is no such fetch account; write "xx"',
    ),
    (
        ROUTE + IMAP,
        "3: routes.r.pop_before_smtp names [fetch.x], which is imap and not pop3; name an account of pop3",
    ),
    (
        ROUTE.replace('smarthost = "mail.example.org:587"', 'deliver = "direct"') + POP3,
        "3: routes.r.pop_before_smtp is for a smarthost; take it out, or write a smarthost in place of deliver",
    ),
    (
        ROUTE + POP3.replace("password_file", "token_command"),
        "3: routes.r.pop_before_smtp: the token_command of [fetch.x] is not supported yet in this version; "
        "write password_file, password_command or password_credential there",
    ),
    (
        ROUTE + POP3 + 'auth = "scram-sha-1"',
        "3: routes.r.pop_before_smtp: no login in the auth of [fetch.x] can be used; "
        'it is not supported yet in this version; write auth = ["plain"] there',
    ),
]


@pytest.mark.parametrize(("text", "expected"), LOGIN_FIRST, ids=[expected for _, expected in LOGIN_FIRST])
def test_a_route_logs_in_first_only_where_that_can_be_done(text: str, expected: str) -> None:
    assert faults(text) == [expected]


def test_a_route_names_the_account_to_log_in_to() -> None:
    assert configuration(ROUTE + POP3).routes["r"].pop_before_smtp == "x"


def test_an_account_with_a_fault_of_its_own_is_no_fault_of_the_route() -> None:
    assert faults(ROUTE + POP3 + "keep = 5") == [
        '9: fetch.x.keep is the number 5, not true, false or a duration; write it like true, false or "7d"'
    ]


def advice(text: str, surroundings: Surroundings = AS_ROOT) -> list[str]:
    found = examine(configuration("host.name = 'gw.home.example'\n" + text), surroundings)
    assert found.faults == ()
    return [f"{fault.wrong}; {fault.instead}" for fault in found.advice if fault.key.startswith("fetch")]


WITH_CREDENTIAL = POP3.replace('password_file = "secret"', 'password_credential = "c"')


def test_check_has_nothing_to_say_of_a_safe_account() -> None:
    assert advice(WITH_CREDENTIAL) == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('tls = "none"', 'fetch.x logs in without TLS to pop.example.org; write tls = "implicit" or "starttls"'),
        (
            'tls = "opportunistic"',
            'fetch.x does not check to whom it gives its password; write tls = "implicit" or "starttls"',
        ),
    ],
)
def test_check_warns_of_a_login_that_others_may_read(more: str, expected: str) -> None:
    assert advice(WITH_CREDENTIAL + more) == [expected]


def test_check_does_not_mind_loopback_without_tls() -> None:
    assert advice(WITH_CREDENTIAL.replace("pop.example.org", "localhost") + 'tls = "none"') == []


def test_check_looks_for_the_files_of_an_account(tmp_path: Path) -> None:
    text = POP3.replace("secret", str(tmp_path / "none")) + f'tls_ca = "{tmp_path}/ca"'
    found = examine(configuration(text), AS_ROOT)
    assert [fault.key for fault in found.faults] == ["fetch.x.tls_ca"]
    assert "fetch.x.password_file" in [fault.key for fault in found.advice]


def test_the_section_is_documented() -> None:
    assert HEADERS["fetch.NAME"] is FetchSection
