"""What happens where a mail program is missing."""

import pytest

from support.peers import needs

MISSING = "no-such-mail-program"


def test_a_missing_program_is_a_failure_where_peers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASQMAIL_PEERS", "required")
    with pytest.raises(pytest.fail.Exception, match=MISSING):
        needs("sh", MISSING)


def test_a_missing_program_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASQMAIL_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=MISSING):
        needs(MISSING)


def test_what_is_there_is_enough() -> None:
    needs("sh")
