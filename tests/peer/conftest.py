"""The servers that the tests with real peers share: they start once, each test has a door of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.authority import Authority, Certificate
from support.dovecot import Dovecot, running_dovecot
from support.peers import needs
from support.postfix import Postfix, running_postfix

USER, PASSWORD = "ann", "open sesame"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    """For the address of every server here."""
    return authority.issue("127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def other_certificate(authority: Authority) -> Certificate:
    """From the same authority, for a host that no server here is."""
    return authority.issue("other.test")


@pytest.fixture(scope="session")
def dovecot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """Answers Postfix's questions about passwords."""
    needs("dovecot")
    folder = tmp_path_factory.mktemp("dovecot")
    with running_dovecot(folder, folder / "maildir", {USER: PASSWORD}) as dovecot:
        yield dovecot


@pytest.fixture(scope="session")
def postfix(
    tmp_path_factory: pytest.TempPathFactory,
    certificate: Certificate,
    other_certificate: Certificate,
    dovecot: Dovecot,
) -> Iterator[Postfix]:
    """A Postfix with a door for each way to receive."""
    needs("postfix")
    folder = tmp_path_factory.mktemp("postfix")
    access = folder / "access"
    access.write_text(
        "busy@access.test 450 4.2.1 The mailbox is busy, says Postfix\n"
        "nobody@ 550 5.1.1 Nobody of this name, says Postfix\n"
    )
    clear = "smtpd_tls_security_level = none"
    login = [
        "smtpd_sasl_auth_enable = yes",
        f"smtpd_sasl_path = {dovecot.auth_socket}",
        "smtpd_recipient_restrictions = permit_sasl_authenticated, reject",
    ]
    implicit_tls = "smtpd_tls_wrappermode = yes"
    other_name = [
        f"smtpd_tls_cert_file = {other_certificate.chain}",
        f"smtpd_tls_key_file = {other_certificate.private_key}",
    ]
    choosy = f"smtpd_recipient_restrictions = check_recipient_access texthash:{access}, reject_unauth_destination"
    data_only = "smtpd_discard_ehlo_keywords = chunking"
    doors = {
        "chunking": [clear],
        "many": [clear],
        "pipelining": [clear, data_only],
        "lockstep": [clear, "smtpd_discard_ehlo_keywords = chunking, pipelining"],
        "small": [clear, "message_size_limit = 20000"],
        "access": [clear, choosy, "max_use = 1"],
        "mixed": [clear, choosy],
        "mixeddata": [clear, choosy, data_only],
        "mixedlockstep": [clear, choosy, "smtpd_discard_ehlo_keywords = chunking, pipelining"],
        "ascii": [clear, "smtpd_discard_ehlo_keywords = smtputf8"],
        "dsn": [clear],
        "starttls": [],
        "clear": [clear],
        "plain": login,
        "login": login,
        "crammd5": login,
        "implicit": [implicit_tls, *login],
        "mistyped": login,
        "othername": other_name,
        "stranger": login,
        "pinned": other_name,
        "mispinned": login,
        "resumed": ["smtpd_tls_loglevel = 2"],
        "untrusted": other_name,
        "afterpop": [clear],
        "failover": [],
        "bdat": [clear],
        "dot": [clear, data_only],
        "left": [clear],
        "right": [clear],
    }
    with running_postfix(
        folder, certificate=certificate.chain, private_key=certificate.private_key, doors=doors
    ) as postfix:
        yield postfix


@pytest.fixture(scope="session")
def access_map(postfix: Postfix) -> Path:
    """What the door "access" answers for a recipient; Postfix reads it anew when one of its processes starts."""
    return postfix.root.parent / "access"
