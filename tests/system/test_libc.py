"""The calls through the C library."""

import pytest

from masqmail.system import libc


def test_memory_is_given_back_by_glibc_and_kept_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    libc.give_memory_back()
    monkeypatch.setattr(libc, "_libc", object())
    libc.give_memory_back()
