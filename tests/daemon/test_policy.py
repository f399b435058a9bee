"""Who may send what to whom, decided by small configurations and two invented accounts."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from masqmail.daemon.aliasfiles import AliasFiles
from masqmail.daemon.directory import Directory
from masqmail.daemon.odmrserver import OdmrServer
from masqmail.daemon.policy import (
    MAX_SUBMITTED_RECIPIENTS,
    NOT_YOUR_ADDRESS,
    SENDER_NOT_ALLOWED,
    LocalUsers,
    NetworkPolicy,
    SubmissionPolicy,
)
from masqmail.daemon.wiring import rules_of
from masqmail.mail.address import Mailbox, parse_mailbox
from masqmail.mail.envelope import Recipient
from masqmail.mail.status import MAILBOX_UNKNOWN, RECIPIENT_OK, RELAYING_DENIED, SENDER_OK, Status
from masqmail.net.stream import PeerCredentials
from masqmail.proto.smtp.command import Mail
from masqmail.proto.smtp.replies import LOGIN_FIRST
from masqmail.proto.smtp.xsubmit import XSubmit
from masqmail.reception.policy import Session
from masqmail.settings import HostPort
from masqmail.system.accounts import Account
from support.configuration import configuration

CONFIGURATION = """\
[host]
name = "laptop.example.org"
local_domains = ["localhost", "laptop.example.org"]

[submission]
trusted_users = ["www"]
"""
BOB, WWW, NOBODY_KNOWS = 1000, 33, 4711
ELSEWHERE = Mailbox("ann", "example.net")


class TwoAccounts:
    """Bob and the web server."""

    only_name = ""
    accounts: tuple[Account, ...] = (
        Account("bob", BOB, BOB, "/home/bob", "/bin/sh", "Bob B."),
        Account("www", WWW, WWW, "/var/www", "/bin/false"),
    )

    def find(self, name: str) -> Account | None:
        return next((account for account in self.accounts if account.name == name), None)

    def by_uid(self, uid: int) -> Account | None:
        return next((account for account in self.accounts if account.uid == uid), None)


def directory(more: str = "") -> Directory:
    return Directory(rules_of(configuration(CONFIGURATION + more)), AliasFiles(()), TwoAccounts())


def submission() -> SubmissionPolicy:
    return SubmissionPolicy(LocalUsers(configuration(CONFIGURATION), directory(), TwoAccounts()))


def network(more: str = "") -> NetworkPolicy:
    return NetworkPolicy(configuration(CONFIGURATION + more), directory(more), None)


def session_of(uid: int) -> Session:
    return Session(1, credentials=PeerCredentials(pid=1, uid=uid, gid=uid))


def client(address: str = "203.0.113.7", user: str = "") -> Session:
    return Session(1, peer=HostPort(address, 40000), user=user)


def mail_from(path: str) -> Mail:
    """A MAIL with this reverse-path; a name without @ is a bare local-part, empty the null one."""
    local_part, _, domain = path.partition("@")
    return Mail(Mailbox(local_part, domain) if path else None)


# on the submission socket


@pytest.mark.parametrize(
    ("uid", "reverse_path", "status"),
    [
        (BOB, "", SENDER_OK),
        (BOB, "bob", SENDER_OK),
        (BOB, "bob@localhost", SENDER_OK),
        (BOB, "bob@laptop.example.org", SENDER_OK),
        (BOB, "bob@example.net", NOT_YOUR_ADDRESS),
        (BOB, "www", NOT_YOUR_ADDRESS),
        (BOB, "www@localhost", NOT_YOUR_ADDRESS),
        (WWW, "anybody@example.net", SENDER_OK),
        (NOBODY_KNOWS, "", SENDER_OK),
        (NOBODY_KNOWS, "bob", NOT_YOUR_ADDRESS),
    ],
)
def test_users_send_as_themselves_and_trusted_ones_as_anybody(uid: int, reverse_path: str, status: Status) -> None:
    assert submission().check_sender(session_of(uid), mail_from(reverse_path)) == status


@pytest.mark.parametrize(
    ("uid", "own"), [(BOB, "bob@laptop.example.org"), (NOBODY_KNOWS, "uid4711@laptop.example.org")]
)
def test_xself_means_the_submitters_own_address(uid: int, own: str) -> None:
    mail = Mail(None, xsubmit=XSubmit(is_self=True))
    assert submission().check_sender(session_of(uid), mail) == SENDER_OK
    assert submission().reverse_path(session_of(uid), mail) == parse_mailbox(own)


def test_without_xself_the_reverse_path_is_what_mail_says() -> None:
    for mail in (mail_from(""), mail_from("bob@example.net")):
        assert submission().reverse_path(session_of(BOB), mail) == mail.reverse_path
        assert network().reverse_path(client(), mail) == mail.reverse_path


def test_an_origin_has_the_full_name_of_the_account() -> None:
    origin = submission().origin(session_of(BOB), "ESMTP")
    assert (origin.description, origin.user, origin.full_name, origin.uid) == ("bob (uid 1000)", "bob", "Bob B.", BOB)
    assert origin.is_submission
    unknown = submission().origin(session_of(NOBODY_KNOWS), "ESMTP")
    assert (unknown.description, unknown.user, unknown.full_name) == ("uid 4711", "", "")


def test_sendmail_is_offered_its_extension_and_as_many_recipients_as_it_likes() -> None:
    offers = submission().offers(session_of(BOB))
    assert offers.xsubmit
    assert offers.max_recipients == MAX_SUBMITTED_RECIPIENTS


def test_an_unknown_user_is_no_reason_to_refuse_a_submission() -> None:
    recipient = Recipient(Mailbox("eve", "localhost"))
    assert submission().check_recipient(session_of(BOB), mail_from(""), recipient) == RECIPIENT_OK


# on the network


@pytest.mark.parametrize("session", [client(), client("127.0.0.1"), client(user="ann")])
def test_the_network_is_never_offered_what_sendmail_is(session: Session) -> None:
    assert not network().offers(session).xsubmit


@pytest.mark.parametrize(
    ("session", "recipient", "status"),
    [
        (client(), "bob@localhost", RECIPIENT_OK),
        (client(), "bob", RECIPIENT_OK),
        (client(), "eve", MAILBOX_UNKNOWN),
        (client(), "eve@laptop.example.org", MAILBOX_UNKNOWN),
        (client(), "ann@example.net", RELAYING_DENIED),
        (client(user="ann"), "ann@example.net", RECIPIENT_OK),
        (client("192.168.1.7"), "ann@example.net", RECIPIENT_OK),
        (client("::ffff:192.168.1.7"), "ann@example.net", RECIPIENT_OK),
    ],
)
def test_strangers_reach_who_is_here_and_our_own_clients_everybody(
    session: Session, recipient: str, status: Status
) -> None:
    local_part, _, domain = recipient.partition("@")
    policy = network('\n[smtp]\nrelay_networks = ["192.168.0.0/16"]\n')
    mail = mail_from("ann@example.org")
    assert policy.check_recipient(session, mail, Recipient(Mailbox(local_part, domain))) == status


KEPT = """
[routes.customer]
deliver = "odmr"
for = "bob"
recipients = ["*@customer.test"]
not_recipients = ["root@*"]
[routes.all]
smarthost = "mail.example.net"
"""


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("ann@customer.test", RECIPIENT_OK),
        ("ann@Customer.TEST", RECIPIENT_OK),
        ("root@customer.test", RELAYING_DENIED),
        ("ann@sub.customer.test", RELAYING_DENIED),
        ("ann@example.net", RELAYING_DENIED),
    ],
)
def test_strangers_may_send_what_is_kept_for_a_customer_and_nothing_else(address: str, status: Status) -> None:
    recipient = Recipient(parse_mailbox(address))
    assert network(KEPT).check_recipient(client(), mail_from("ann@example.org"), recipient) == status


@pytest.mark.parametrize(
    ("more", "session", "atrn", "etrn"),
    [
        (KEPT, client("127.0.0.1"), True, False),
        (KEPT, client(), False, False),  # in clear nobody can log in
        (KEPT + 'recipients = ["*@served.test"]\n', client(), False, False),
        (KEPT + 'recipients = ["*@served.test"]\n', client("127.0.0.1"), True, True),
        ("", client("127.0.0.1"), False, False),
    ],
)
def test_atrn_and_etrn_are_offered_to_who_may_use_them(
    tmp_path: Path, more: str, session: Session, atrn: bool, etrn: bool
) -> None:
    (tmp_path / "users").write_text("")
    text = f'{CONFIGURATION}\n[smtp]\nusers = "{tmp_path}/users"\n{more}'
    policy = NetworkPolicy(configuration(text), directory(more), None, cast("OdmrServer", object()))
    offers = policy.offers(session)
    assert (offers.atrn, offers.etrn) == (atrn, etrn)
    assert not submission().offers(session_of(BOB)).atrn


def test_relaying_may_be_bound_to_sender_addresses() -> None:
    policy = network('\n[smtp]\naccept_senders = ["*@example.org"]\n')
    recipient = Recipient(Mailbox("ann", "example.net"))
    for path, status in (("bob@example.org", RECIPIENT_OK), ("bob@example.com", SENDER_NOT_ALLOWED)):
        assert policy.check_recipient(client(user="ann"), mail_from(path), recipient) == status


@pytest.mark.parametrize(("user", "status"), [("", LOGIN_FIRST), ("ann", SENDER_OK)])
def test_a_login_may_be_required_of_everybody(user: str, status: Status) -> None:
    policy = network('\n[smtp]\nrequire_login = true\nusers = "/nonexistent/users"\n')
    assert policy.check_sender(client(user=user), mail_from("")) == status


@pytest.mark.parametrize(
    ("address", "is_submission"), [("203.0.113.7", False), ("127.0.0.1", True), ("192.168.1.7", False)]
)
def test_only_messages_of_our_own_clients_are_mended(address: str, is_submission: bool) -> None:
    assert network().origin(client(address), "ESMTP").is_submission is is_submission


def test_what_is_remembered_of_a_client_depends_on_all_that_is_known_of_it() -> None:
    """One policy answers for many sessions, and for one before and after its login."""
    policy, recipient = network('\n[smtp]\naccept_senders = ["*@example.org", "<>"]\n'), Recipient(ELSEWHERE)
    for session, path, status in (
        (client(), "bob@example.org", RELAYING_DENIED),
        (client(user="bob"), "bob@example.org", RECIPIENT_OK),
        (client(user="bob"), "bob@example.com", SENDER_NOT_ALLOWED),
        (client(user="bob"), "", RECIPIENT_OK),
        (client("127.0.0.1"), "bob@example.org", RECIPIENT_OK),
        (client(), "bob@example.org", RELAYING_DENIED),
    ):
        assert policy.check_recipient(session, mail_from(path), recipient) == status
    bare, named = client(), replace(client(), helo_name="pc")
    seen = [
        (origin.description, origin.protocol, origin.is_submission)
        for origin in (
            policy.origin(bare, "SMTP"),
            policy.origin(named, "ESMTP"),
            policy.origin(replace(named, user="bob"), "ESMTPA"),
            policy.origin(bare, "SMTP"),
        )
    ]
    assert seen == [
        ("203.0.113.7", "SMTP", False),
        ("203.0.113.7 (pc)", "ESMTP", False),
        ("bob at 203.0.113.7 (pc)", "ESMTPA", True),
        ("203.0.113.7", "SMTP", False),
    ]


def test_a_local_recipient_is_looked_up_each_time() -> None:
    found, accounts = directory(), TwoAccounts()
    found.accounts = accounts
    policy, recipient = NetworkPolicy(configuration(CONFIGURATION), found, None), Recipient(Mailbox("eve"))
    assert policy.check_recipient(client(), mail_from(""), recipient) == MAILBOX_UNKNOWN
    accounts.accounts = (Account("eve", 1001, 1001, "/home/eve", "/bin/sh"),)
    assert policy.check_recipient(client(), mail_from(""), recipient) == RECIPIENT_OK


class OneAddress:
    """Knows one address that a notice about fetching gave."""

    def is_one(self, mailbox: Mailbox) -> bool:
        return mailbox.local_part == "masqmail-fetch+1"

    def take(self, mailbox: Mailbox) -> None:
        raise AssertionError("nobody has sent anything yet")


@pytest.mark.parametrize(
    ("session", "recipient", "status"),
    [
        (client("127.0.0.1"), "masqmail-fetch+1", RECIPIENT_OK),
        (client(user="ann"), "masqmail-fetch+1", RECIPIENT_OK),
        (client(), "masqmail-fetch+1", MAILBOX_UNKNOWN),
        (client("127.0.0.1"), "masqmail-fetch+2", MAILBOX_UNKNOWN),
    ],
)
def test_only_our_own_clients_may_reply_to_a_notice_about_fetching(
    session: Session, recipient: str, status: Status
) -> None:
    found = directory()
    found.replies = OneAddress()
    policy = NetworkPolicy(configuration(CONFIGURATION), found, None)
    assert policy.check_recipient(session, mail_from(""), Recipient(Mailbox(recipient))) == status


@pytest.mark.parametrize(
    ("address", "is_asked"),
    [
        ("192.168.1.7", True),
        ("::ffff:192.168.1.7", True),
        ("192.168.2.7", False),
        ("fe80::7%eth0", True),
        ("::1", False),
    ],
)
def test_only_hosts_of_ident_networks_are_asked_for_their_users(address: str, is_asked: bool) -> None:
    policy = network('\n[smtp]\nident_networks = ["192.168.1.0/24", "fe80::/10"]\n')
    assert policy.asks_ident(client(address)) == is_asked
    assert not network().asks_ident(client(address))


def test_what_a_host_says_of_its_user_permits_nothing() -> None:
    stranger = replace(client(), ident="root")
    assert network().check_recipient(stranger, mail_from("a@example.org"), Recipient(ELSEWHERE)) == RELAYING_DENIED
