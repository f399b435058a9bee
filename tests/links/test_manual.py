import pytest

from masqmail.links.detector import Observation
from masqmail.links.manual import ManualDetector, Options
from masqmail.routing.link import LinkState
from masqmail.system.clock import FakeClock


@pytest.mark.anyio
async def test_a_manual_link_is_down_and_says_how_to_change_that() -> None:
    detector = ManualDetector("modem", Options(), FakeClock())
    watch = detector.watch()
    expected = Observation(LinkState.DOWN, "nobody has declared it up (`masqmail link up modem`)")
    assert await anext(watch) == await detector.ask() == expected
    await watch.aclose()
