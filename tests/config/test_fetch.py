"""The accounts that mail is fetched from: what is read, what is refused, and what `check` says."""

import sys
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
TOKEN = 'token_command = "show token"'
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


@pytest.mark.parametrize("keep", ["", 'keep = "7d"\n'])
def test_an_account_that_moves_what_it_has_taken(keep: str) -> None:
    assert account(IMAP + keep + 'move_to = "Archive"').move_to == "Archive"


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
    (
        POP3 + 'move_to = "Archive"',
        '6: fetch.x.move_to has no use with pop3; take it out, or write protocol = "imap"',
    ),
    (
        IMAP + 'keep = true\nmove_to = "Archive"',
        "7: fetch.x.move_to has no use with keep = true, which leaves all mail where it is; "
        'take it out, or write keep like "7d", or false',
    ),
    (
        IMAP + 'folders = ["INBOX", "Lists"]\nmove_to = "Lists"',
        '7: fetch.x.move_to is "Lists", from which mail is fetched; write another folder, like "Archive"',
    ),
    (
        IMAP + 'move_to = "inbox"',
        '6: fetch.x.move_to is "inbox", from which mail is fetched; write another folder, like "Archive"',
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
]


@pytest.mark.parametrize(("text", "expected"), LOGIN_FIRST, ids=[expected for _, expected in LOGIN_FIRST])
def test_a_route_logs_in_first_only_where_that_can_be_done(text: str, expected: str) -> None:
    assert faults(text) == [expected]


@pytest.mark.parametrize("login", ["", 'auth = "scram-sha-1"', 'auth = ["scram-sha-256", "apop"]', TOKEN])
def test_a_route_names_the_account_to_log_in_to(login: str) -> None:
    account = POP3.replace('password_file = "secret"', login) if login == TOKEN else POP3 + login
    assert configuration(ROUTE + account).routes["r"].pop_before_smtp == "x"


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


MULTIDROP = 'envelope_header = "Delivered-To"\nmultidrop_domains = ["home.example"]\n'
NOT_LOCAL = "it is no local domain; write it into local_domains of [host] as well"


@pytest.mark.parametrize(
    ("protocol", "fate"),
    [("pop3", "sent out again"), ("imap", "sent out again"), ("odmr", "sent out again"), ("etrn", "refused here")],
)
def test_check_warns_of_domains_whose_mail_would_not_stay(protocol: str, fate: str) -> None:
    settings = MULTIDROP if protocol in ("pop3", "imap") else 'multidrop_domains = ["home.example"]\n'
    text = WITH_CREDENTIAL.replace("pop3", protocol) + settings
    assert advice(text) == [f"fetch.x.multidrop_domains has home.example, whose mail would be {fate}: {NOT_LOCAL}"]


@pytest.mark.parametrize(
    "more",
    [
        'host.local_domains = ["localhost", "HOME.example"]\n',
        'host.local_domains = ["*.example"]\n',
        'host.local_addresses = ["ann@home.example", "bob@home.example"]\n',
        '[routes.inside]\ndeliver = "direct"\nrecipients = ["*@home.example"]\n',
    ],
)
def test_check_has_nothing_to_say_of_domains_that_have_their_place(more: str) -> None:
    assert advice(more + WITH_CREDENTIAL + MULTIDROP) == []
    assert advice(more + WITH_CREDENTIAL + 'deliver_to = "ann@home.example"') == []


def test_a_route_for_everything_is_no_place_of_a_domain() -> None:
    route = '[routes.isp]\nsmarthost = "mail.isp.example"\nrecipients = ["*"]\n'
    assert len(advice(route + WITH_CREDENTIAL + MULTIDROP)) == 1


def test_check_warns_of_mail_that_is_sent_on_in_the_name_of_strangers() -> None:
    text = WITH_CREDENTIAL + 'deliver_to = "ann@far.example"\n'
    assert advice(text) == [
        "fetch.x sends its mail on to ann@far.example with the sender it has, which many servers refuse; "
        'write return_path = "postmaster" as well'
    ]
    assert advice(text + 'return_path = "postmaster"') == []
    assert advice(WITH_CREDENTIAL + 'deliver_to = "ann"') == []


def test_check_says_which_library_imap_needs_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = WITH_CREDENTIAL.replace("pop3", "imap")
    assert advice(text) == []
    monkeypatch.setitem(sys.modules, "imapclient", None)
    assert advice(text) == [
        "fetch.x is imap, which needs the Python library IMAPClient, and that is not installed; "
        "install it: pip install 'masqmail[imap]', or python3-imapclient"
    ]
    assert advice(WITH_CREDENTIAL) == []


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("", "", True),
        ("", 'tls = "starttls"\nserver = "POP.example.org:110"\n', True),
        ("", 'protocol = "imap"\n', True),
        ('protocol = "imap"\n', 'protocol = "imap"\nfolders = ["Lists", "INBOX"]\n', True),
        ('protocol = "imap"\n', 'protocol = "imap"\nfolders = ["Lists"]\n', False),
        ('protocol = "imap"\nfolders = ["Lists"]\n', 'protocol = "imap"\nfolders = ["lists"]\n', False),
        ("", 'protocol = "imap"\nfolders = ["Inbox"]\n', True),
        ("", 'server = "pop.example.org:2110"\n', False),
        ("", 'username = "bob"\n', False),
        ("", 'server = "imap.example.org"\n', False),
        ("", 'wrapper = ["ssh", "other"]\n', False),
        ("", 'protocol = "odmr"\nmultidrop_domains = ["gw.home.example"]\n', False),
    ],
)
def test_check_warns_of_two_accounts_with_one_mailbox(one: str, other: str, is_same: bool) -> None:
    def section(name: str, changes: str) -> str:
        changed = {line.partition(" = ")[0] for line in changes.splitlines()}
        kept = [line for line in WITH_CREDENTIAL.splitlines() if line.partition(" = ")[0] not in changed]
        return "\n".join(kept).replace("fetch.x", f"fetch.{name}") + "\n" + changes

    found = [text for text in advice(section("x", one) + section("y", other)) if "ssh" not in text]
    told = "fetch.y fetches from the same mailbox as fetch.x, so that mail may come twice; take one of them out"
    assert found == ([told] if is_same else [])


def test_check_does_not_mind_loopback_without_tls() -> None:
    assert advice(WITH_CREDENTIAL.replace("pop.example.org", "localhost") + 'tls = "none"') == []


def test_check_looks_for_the_files_of_an_account(tmp_path: Path) -> None:
    text = POP3.replace("secret", str(tmp_path / "none")) + f'tls_ca = "{tmp_path}/ca"'
    found = examine(configuration(text), AS_ROOT)
    assert [fault.key for fault in found.faults] == ["fetch.x.tls_ca"]
    assert "fetch.x.password_file" in [fault.key for fault in found.advice]


def test_the_section_is_documented() -> None:
    assert HEADERS["fetch.NAME"] is FetchSection
