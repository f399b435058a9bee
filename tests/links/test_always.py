import pytest

from masqmail.links.always import AlwaysDetector, Options
from masqmail.routing.link import LinkState
from masqmail.system.clock import FakeClock


@pytest.mark.anyio
async def test_a_permanent_link_is_up() -> None:
    detector = AlwaysDetector("cable", Options(), FakeClock())
    watch = detector.watch()
    assert (await anext(watch)).state is LinkState.UP
    assert await detector.ask() == await AlwaysDetector("always", Options(), FakeClock()).ask()
    await watch.aclose()
