import pytest

from masqmail.spool.api import SpoolFull
from masqmail.spool.memory import MemorySpool
from masqmail.system.clock import FakeClock
from spool.conformance import Conformance, message


class TestMemorySpool(Conformance):
    @pytest.fixture
    def spool(self, clock: FakeClock) -> MemorySpool:
        return MemorySpool(now=clock.now)

    async def test_the_pretended_disk_can_be_full(self, spool: MemorySpool) -> None:
        spool.capacity_bytes = 100
        with pytest.raises(SpoolFull):
            await spool.accept([message("m1", body=b"x" * 100)])
        assert await spool.listing() == []
