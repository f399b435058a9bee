import pytest

from masqmail.links.detector import Observation, down, up
from masqmail.links.internet import InternetDetector, Options, judge
from masqmail.links.rtnetlink import Interface
from masqmail.system.clock import FakeClock

LOOPBACK = Interface("lo", is_loopback=True, is_up=True, has_carrier=True, has_address=True, has_default_route=True)
WAY_OUT = Interface("eth0", is_up=True, has_carrier=True, has_address=True, has_default_route=True)
NO_ADDRESS = Interface("wlan0", is_up=True, has_carrier=True, has_default_route=True)
NO_ROUTE = Interface("eth1", is_up=True, has_carrier=True, has_address=True)


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ([LOOPBACK, NO_ROUTE, NO_ADDRESS, WAY_OUT], up("a default route goes through eth0")),
        ([LOOPBACK, NO_ROUTE, NO_ADDRESS], down("wlan0 has no address")),
        ([LOOPBACK, NO_ROUTE], down("no interface has a default route")),
        ([], down("no interface has a default route")),
    ],
)
def test_one_way_out_is_enough(interfaces: list[Interface], expected: Observation) -> None:
    assert judge(interfaces) == expected


@pytest.mark.anyio
async def test_this_machine_gives_an_answer() -> None:
    detector = InternetDetector("internet", Options(), FakeClock())
    watch = detector.watch()
    assert await anext(watch) == await detector.ask()
    await watch.aclose()
