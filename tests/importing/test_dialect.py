"""Which version an old configuration was written for."""

import pytest

from masqmail.importing.dialect import Dialect, guess

GUESSED = [
    (["host_name", "get.isp"], Dialect.V02),
    (["online_routes.a", "online_detect"], Dialect.V02),
    (["query_routes.a", "online_query"], Dialect.V03),
    (["query_routes.a", "allowed_mail_locals", "online_query"], Dialect.V03),
    (["map_outgoing_addresses", "query_routes.a"], Dialect.V10),
    (["host_name"], Dialect.V03),
    ([], Dialect.V03),
]


@pytest.mark.parametrize(("names", "expected"), GUESSED)
def test_the_settings_tell_the_version(names: list[str], expected: Dialect) -> None:
    assert guess(names)[0] is expected


def test_what_does_not_fit_is_told() -> None:
    dialect, reason = guess(["map_outgoing_addresses", "pid_dir", "get.isp"])
    assert dialect is Dialect.V10
    assert "although get.isp belongs to other versions" in reason
