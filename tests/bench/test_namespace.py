"""The slow link itself, where this machine can have one."""

import pytest
from harness.line import LINKS
from harness.namespace import missing, prove, slow_link
from harness.wire import NAMESPACES

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason="slow links need root and namespaces")]


def test_echo_packets_find_the_link_that_was_asked_for() -> None:
    words = prove(LINKS["leo"]).split()
    assert float(words[words.index("trip") + 1]) >= 40.0
    assert "up 40 packets, 30240 bytes;" in " ".join(words)


def test_a_link_leaves_nothing_behind() -> None:
    with slow_link(LINKS["geo"]) as link:
        names = [link.near, link.far]
        assert all((NAMESPACES / name).exists() for name in names)
    assert not any((NAMESPACES / name).exists() for name in names)
