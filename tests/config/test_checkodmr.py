"""Mail that waits for its user gets to him: `masqmail check` tells what would stop that."""

from pathlib import Path

import pytest

from support.configuration import advice as advice_of

ROUTE = '[routes.x]\ndeliver = "odmr"\nfor = "bob"\nrecipients = ["*@customer.test"]\n'
SMARTHOST = '[routes.all]\nsmarthost = "mail.example.org:587"\n'


def advice(folder: Path, text: str) -> list[str]:
    return [line for line in advice_of(folder, text) if "routes.x" in line]


@pytest.mark.parametrize("users", [None, "", "ann:hash\n", "# bob:hash\n"])
def test_a_user_who_cannot_log_in_is_told(tmp_path: Path, users: str | None) -> None:
    if users is not None:
        (tmp_path / "users").write_text(users)
    [found] = advice(tmp_path, ROUTE)
    who = f'routes.x.for is "bob", who is not in "{tmp_path}/users" and cannot log in'
    assert found == f"3: {who}; write: masqmail passwd bob"


def test_a_user_with_a_password_is_well(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("ann:hash\nbob:hash\n")
    assert advice(tmp_path, ROUTE) == []


def test_a_route_for_all_mail_stands_behind_it(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("bob:hash\n")
    assert advice(tmp_path, ROUTE + SMARTHOST) == []
    [found] = advice(tmp_path, SMARTHOST + ROUTE)
    before = "routes.all stands before routes.x, and takes its mail while the link is up"
    assert found == f"3: {before}; write routes.x before it"


@pytest.mark.parametrize(
    "condition", ['recipients = ["*@other.test"]', 'senders = ["ann@home.test"]', 'max_size = "1MB"']
)
def test_a_route_for_some_mail_may_stand_before_it(tmp_path: Path, condition: str) -> None:
    (tmp_path / "users").write_text("bob:hash\n")
    assert advice(tmp_path, f"{SMARTHOST}{condition}\n{ROUTE}") == []
