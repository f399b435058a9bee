"""Which addresses are listened at."""

import pytest

from masqmail.daemon import listeners
from masqmail.settings import HostPort
from support.configuration import AS_USER, configuration


def test_without_ipv6_the_other_addresses_are_listened_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "is_without_ipv6", lambda host: host == "::1")
    v4, v6 = HostPort("127.0.0.1", 2525), HostPort("::1", 2525)
    assert list(listeners._addresses(configuration("", AS_USER))) == [(v4, False)]
    only = '[smtp]\nlisten = ["[::1]:2525"]'
    assert list(listeners._addresses(configuration(only, AS_USER))) == [(v6, False)]  # and the failure says why
