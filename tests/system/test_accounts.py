import errno
import os
import pwd
from typing import NoReturn

import pytest

from masqmail.system.accounts import Account, SingleAccount, SystemAccounts, own_account

FRITZ = Account("fritz", 1000, 1000, "/home/fritz", "/bin/bash")


class Passwd:
    """A passwd database that counts questions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[object] = []
        self.known: dict[object, tuple[str, str, int, int, str, str, str]] = {}
        monkeypatch.setattr(pwd, "getpwnam", self.ask)
        monkeypatch.setattr(pwd, "getpwuid", self.ask)

    def ask(self, key: object) -> pwd.struct_passwd:
        self.asked.append(key)
        return pwd.struct_passwd(self.known[key])

    def add(self, account: Account) -> None:
        self.add_entry(account, account.full_name)

    def add_entry(self, account: Account, gecos: str) -> None:
        entry = (account.name, "x", account.uid, account.gid, gecos, account.home, account.shell)
        self.known[account.name] = self.known[account.uid] = entry


@pytest.fixture
def passwd(monkeypatch: pytest.MonkeyPatch) -> Passwd:
    return Passwd(monkeypatch)


def test_the_system_knows_root() -> None:
    accounts = SystemAccounts()
    root = accounts.find("root")
    assert root is not None and root.uid == 0
    assert accounts.by_uid(0) == root


@pytest.mark.parametrize(
    ("gecos", "full_name"),
    [
        ("", ""),
        ("Fritz Fischer", "Fritz Fischer"),
        (" Fritz Fischer ,Room 7,0123,", "Fritz Fischer"),
        (",,,", ""),
        ("Jörg", "Jörg"),
        ("J\udcf6rg", "J\ufffdrg"),  # ISO 8859-1, which Python could not write again
    ],
)
def test_the_full_name_stands_before_the_first_comma(passwd: Passwd, gecos: str, full_name: str) -> None:
    passwd.add_entry(FRITZ, gecos)
    account = SystemAccounts().find("fritz")
    assert account is not None
    assert account.full_name == full_name


@pytest.mark.parametrize("name", ["no-such-user-here", "", "a\0b", "\udc80", "x" * 10_000])
def test_what_is_no_account_is_unknown(name: str) -> None:
    assert SystemAccounts().find(name) is None


@pytest.mark.parametrize("uid", [-2, 2**40])
def test_what_is_no_uid_is_unknown(uid: int) -> None:
    assert SystemAccounts().by_uid(uid) is None


def test_answers_are_kept_for_a_while(passwd: Passwd) -> None:
    now = 0.0
    accounts = SystemAccounts(lambda: now)
    assert accounts.find("fritz") is None
    passwd.add(FRITZ)
    assert accounts.find("fritz") is None
    now = 31.0
    assert accounts.find("fritz") == FRITZ
    assert accounts.by_uid(1000) == FRITZ
    assert passwd.asked == ["fritz", "fritz", 1000]


def test_guessing_names_does_not_fill_the_memory(passwd: Passwd) -> None:
    accounts = SystemAccounts()
    for number in range(3000):
        accounts.find(f"guess{number}")
    assert len(accounts._known) == 1000


def test_a_single_account_knows_nobody_else() -> None:
    accounts = SingleAccount(FRITZ)
    assert accounts.find("fritz") == accounts.by_uid(1000) == FRITZ
    assert accounts.find("root") is None
    assert accounts.by_uid(0) is None


def test_by_default_it_is_our_own() -> None:
    accounts = SingleAccount()
    assert accounts.by_uid(os.geteuid()) == own_account()


def test_an_account_the_system_does_not_know_is_made_up(passwd: Passwd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "fritz")
    monkeypatch.setenv("HOME", "/home/fritz")
    account = own_account()
    assert (account.name, account.uid, account.home) == ("fritz", os.geteuid(), "/home/fritz")


def test_without_a_file_nobody_is_taken_for_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """getpwnam(3) cannot read its files then, and Python calls that unknown: mail would be returned."""

    def no_file(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    def unknown(name: str) -> NoReturn:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    accounts = SystemAccounts()
    with monkeypatch.context() as shortage:
        shortage.setattr(os, "open", no_file)
        with pytest.raises(OSError, match="Too many open files"):
            accounts.find("bob")
    assert accounts.find("bob") is None
