"""Advice, and faults of the files that a configuration names."""

from dataclasses import replace
from pathlib import Path

import pytest

from masqmail.config.check import Findings, examine
from masqmail.config.load import load
from masqmail.config.templates import MAX_TEMPLATE_BYTES
from masqmail.proto.sasl import hash_password
from support.authority import Authority
from support.configuration import AS_USER, advice, findings

ROUTE = '[routes.x]\nsmarthost = "mail.example.org:587"\n'
LOGIN = 'username = "ann"\npassword_credential = "isp"\n'

ADVICE: list[tuple[str, str]] = [
    (
        ROUTE + LOGIN + 'tls = "none"',
        '5: routes.x sends its password in clear to mail.example.org:587; write tls = "starttls" or "implicit"',
    ),
    (
        ROUTE + LOGIN + 'tls = "opportunistic"',
        '5: routes.x does not check to whom it gives its password; write tls = "starttls" or "implicit"',
    ),
    (
        '[routes.x]\nsmarthost = "mail.example.org:465"\ntls = "starttls"',
        '3: port 465 of mail.example.org begins with TLS; write tls = "implicit"',
    ),
    (
        ROUTE + 'tls = "implicit"',
        '3: port 587 of mail.example.org does not begin with TLS; write tls = "starttls", or port 465',
    ),
    (
        ROUTE + "send_first = true",
        "3: routes.x speaks before it is greeted, which servers take for spam; "
        "take it out; it is for a wrapper that swallows the greeting",
    ),
    (
        '[smtp]\nrelay_networks = ["127.0.0.0/8", "0.0.0.0/0"]',
        "2: 0.0.0.0/0 makes this an open relay: anybody may send anywhere; write only your own networks",
    ),
    (
        '[smtp]\nrelay_networks = "::/0"',
        "2: ::/0 makes this an open relay: anybody may send anywhere; write only your own networks",
    ),
    (
        '[queue]\ngive_up_after = "1d"',
        "1: the last warning would come when the message is already given up; write less than give_up_after",
    ),
    (
        '[host]\nlocal_domains = ["localhost", "*.bücher.example", "xn--grn-ioa.example", "grün.example"]',
        '2: most servers write "*.xn--bcher-kva.example" for "*.bücher.example"; write both',
    ),
    (
        '[host]\nname = "laptop"\n' + ROUTE,
        '2: "laptop" is no full host name, and many servers refuse to be greeted with it; '
        'write name = "laptop.example.org" with your own domain',
    ),
]


@pytest.mark.parametrize(("text", "expected"), ADVICE, ids=range(len(ADVICE)))
def test_something_unwise_is_worth_a_word(tmp_path: Path, text: str, expected: str) -> None:
    assert advice(tmp_path, text) == [expected]


FINE = [
    "",
    ROUTE + LOGIN,
    '[routes.x]\nsmarthost = ["localhost:25", "127.0.0.1:2525", "[::1]:25"]\ntls = "none"\n' + LOGIN,
    '[host]\nname = "laptop"\n' + ROUTE + 'helo = "laptop.example.org"',
    '[host]\nname = "laptop"',
    '[smtp]\nrelay_networks = ["10.0.0.0/8"]',
    ROUTE + 'tls = "opportunistic"',
    ROUTE + 'send_first = true\nwrapper = "sh -c connect"\ntls = "none"\n' + LOGIN,
]


@pytest.mark.parametrize("text", FINE, ids=range(len(FINE)))
def test_what_is_in_order_gets_no_advice(tmp_path: Path, text: str) -> None:
    assert advice(tmp_path, text) == []


def test_a_password_that_everybody_may_read_is_worth_a_word(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    text = ROUTE + 'username = "ann"\npassword_file = "secret"'
    secret.chmod(0o644)
    assert advice(tmp_path, text) == [f'4: everybody may read "{secret}"; change that: chmod 0600 {secret}']
    secret.chmod(0o640)
    assert advice(tmp_path, text) == []


def test_a_password_file_that_is_missing_or_empty_is_worth_a_word(tmp_path: Path) -> None:
    text, secret = ROUTE + 'username = "ann"\npassword_file = "secret"', tmp_path / "secret"
    assert advice(tmp_path, text) == [f'4: there is no file "{secret}"; make it, with the password in its first line']
    secret.touch(0o600)
    assert advice(tmp_path, text) == [f'4: "{secret}" is empty; write the password into its first line']


def test_a_certificate_and_a_key_that_do_not_belong_together_are_a_fault(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    one, two = authority.issue("one.test"), authority.issue("two.test")
    one.private_key.chmod(0o600)
    text = '[smtp]\ncertificate = "one.test.pem"\nprivate_key = "{}"\n'
    assert advice(tmp_path, text.format(one.private_key)) == []
    [fault] = findings(tmp_path, text.format(two.private_key)).faults
    assert (fault.line, fault.key) == (2, "smtp.certificate")
    assert "key values mismatch" in fault.wrong


def test_logins_that_cannot_succeed_are_worth_a_word(tmp_path: Path) -> None:
    text, users = '[smtp]\nusers = "people"\nrequire_login = true', tmp_path / "people"
    nobody = f'3: smtp.require_login is true, and nobody is in "{users}"; write: masqmail passwd USER'
    assert advice(tmp_path, text) == [nobody]
    users.write_text(f"# people\nann:{hash_password('sesame')}\ncarl:hunter2\ndora:$6$salt$hash\n")
    assert advice(tmp_path, text) == [
        f'2: "{name}" in "{users}" cannot log in: what stands there is no hash of ours; write: masqmail passwd {name}'
        for name in ("carl", "dora")
    ]


def test_a_file_without_authorities_is_worth_a_word(tmp_path: Path) -> None:
    Authority(tmp_path)
    assert advice(tmp_path, ROUTE + 'tls_ca = "ca.pem"') == []
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    [fault] = advice(tmp_path, ROUTE + 'tls_ca = "ca.pem"')
    assert fault.startswith(f"3: no CA certificates can be read from {tmp_path}/ca.pem: ")


def test_certificates_that_are_missing_are_faults(tmp_path: Path) -> None:
    found = findings(
        tmp_path, '[smtp]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n' + ROUTE + 'tls_ca = "own.toml/ca"'
    )
    assert [(fault.line, fault.wrong) for fault in found.faults] == [
        (2, f'there is no file "{tmp_path}/cert.pem"'),
        (3, f'there is no file "{tmp_path}/key.pem"'),
        (6, f'there is no file "{tmp_path}/own.toml/ca"'),
    ]


def test_a_key_that_everybody_may_read_is_worth_a_word(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue("gw.test")
    pair.private_key.chmod(0o644)
    [fault] = advice(tmp_path, f'[smtp]\ncertificate = "{pair.chain}"\nprivate_key = "{pair.private_key}"')
    assert fault.startswith("3: everybody may read ")


def test_a_ca_beside_a_fingerprint_has_no_effect(tmp_path: Path) -> None:
    Authority(tmp_path)
    text = ROUTE + f'tls_ca = "ca.pem"\ntls_fingerprint = "{"ab" * 32}"'
    assert advice(tmp_path, text) == ["3: routes.x.tls_ca has no effect beside tls_fingerprint; take one of them out"]


def test_accounts_that_are_missing_matter_to_root_alone(tmp_path: Path) -> None:
    text = '[host]\nuser = "no-such-account"\n'
    assert advice(tmp_path, text, AS_USER) == []
    assert advice(tmp_path, text, replace(AS_USER, is_root=True)) == [
        '1: there is no account "no-such-account"; make one: useradd --system no-such-account',
        '2: there is no account "no-such-account"; make one: useradd --system no-such-account',
    ]


def test_the_defaults_alone_can_be_examined(tmp_path: Path) -> None:
    surroundings = replace(AS_USER, config_home=tmp_path)
    assert examine(load(None, surroundings), surroundings) == Findings((), ())


class TestATemplateInAFile:
    def faults(self, folder: Path, setting: str = 'warning_template = "own.txt"') -> list[str]:
        return [str(fault) for fault in findings(folder, f"[notices]\n{setting}\n").faults]

    def test_with_known_variables_has_no_faults(self, tmp_path: Path) -> None:
        (tmp_path / "own.txt").write_text("\ufeffFür ${recipient}\n")
        assert self.faults(tmp_path) == []

    def test_that_is_missing_is_a_fault(self, tmp_path: Path) -> None:
        expected = f'{tmp_path}/own.toml:2: there is no file "{tmp_path}/own.txt"; make it, or name another one'
        assert self.faults(tmp_path) == [expected]

    @pytest.mark.parametrize(
        ("content", "wrong"),
        [
            (b"a\n${recipent}\n", ": line 2 has ${recipent}, which stands for nothing; write ${recipient}"),
            (b"@msg_body\n", ": line 1 has @msg_body, which stands for nothing; write ${message_body}"),
            (b"\xff", " cannot be read: it is no UTF-8 text; make it a text file in UTF-8 that everybody may read"),
            (
                b"x" * (MAX_TEMPLATE_BYTES + 1),
                " cannot be read: it is bigger than 64 KB; make it a text file in UTF-8 that everybody may read",
            ),
        ],
    )
    def test_that_cannot_be_used_is_a_fault(self, tmp_path: Path, content: bytes, wrong: str) -> None:
        (tmp_path / "own.txt").write_bytes(content)
        assert self.faults(tmp_path) == [f'{tmp_path}/own.toml:2: "{tmp_path}/own.txt"{wrong}']

    def test_that_is_a_folder_is_a_fault(self, tmp_path: Path) -> None:
        (tmp_path / "own.txt").mkdir()
        (fault,) = self.faults(tmp_path)
        assert 'own.txt" cannot be read: Is a directory; ' in fault

    def test_is_not_looked_for_where_the_text_is_in_the_configuration(self, tmp_path: Path) -> None:
        assert self.faults(tmp_path, 'bounce_template = "Sorry, ${recipient}."') == []
