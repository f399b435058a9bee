"""Parsing what the kernel says about interfaces: recorded dumps, and messages made up for the rare cases."""

import errno
import socket
import struct
from pathlib import Path

import pytest

from masqmail.links import rtnetlink
from masqmail.links.rtnetlink import Changes, Interface, parse_interfaces, read_interfaces

RECORDED = Path(__file__).parent / "recorded"
IFACE = 7


def message(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    data = struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body
    return data + bytes(-len(data) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), kind) + value
    return data + bytes(-len(data) % 4)


def link(name: str = "ppp0", *, flags: int = 0x10041) -> bytes:
    return message(16, struct.pack("=BxHiII", 0, 512, IFACE, flags, 0) + attribute(3, name.encode() + b"\0"))


def address(text: str = "192.0.2.1", *, scope: int = 0, flags: int = 0, attributes: bytes = b"") -> bytes:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    head = struct.pack("=BBBBI", family, 24, flags, scope, IFACE)
    return message(20, head + attribute(1, socket.inet_pton(family, text)) + attributes)


def route(*, prefix: int = 0, table: int = 254, kind: int = 1, flags: int = 0, via: bytes | None = None) -> bytes:
    head = struct.pack("=8BI", socket.AF_INET, prefix, 0, 0, table, 3, 0, kind, flags)
    return message(24, head + (attribute(4, struct.pack("=I", IFACE)) if via is None else via))


def multipath(*hops: tuple[int, int]) -> bytes:
    """Next hops, each as interface and flags, with a gateway behind them."""
    parts = []
    for index, flags in hops:
        gateway = attribute(5, b"\xc0\0\2\xfe")
        parts.append(struct.pack("=HBBi", 8 + len(gateway), flags, 0, index) + gateway)
    return attribute(9, b"".join(parts))


def parse(links: bytes | None = None, addresses: bytes | None = None, routes: bytes | None = None) -> Interface:
    (interface,) = parse_interfaces(
        link() if links is None else links,
        address() if addresses is None else addresses,
        route() if routes is None else routes,
    ).values()
    return interface


def test_a_recorded_dump_is_understood() -> None:
    parts = [(RECORDED / f"veth.{name}").read_bytes() for name in ("links", "addresses", "routes")]
    assert parse_interfaces(*parts) == {
        "lo": Interface("lo", is_loopback=True, is_up=True, has_carrier=True),
        "veth0": Interface("veth0", is_up=True, has_carrier=True, has_address=True, has_default_route=True),
        "veth1": Interface("veth1", is_up=True, has_carrier=True),
    }


def test_an_interface_that_lacks_nothing() -> None:
    assert parse() == Interface("ppp0", False, True, True, True, True)
    assert parse().missing == ""


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        (0x10040, "ppp0 is switched off"),
        (0x1, "ppp0 has no carrier"),
        (0x41, "ppp0 has no carrier"),
        (0x10001, "ppp0 has no carrier"),
    ],
)
def test_a_dead_interface_says_why(flags: int, missing: str) -> None:
    assert parse(link(flags=flags)).missing == missing


@pytest.mark.parametrize(
    "addresses",
    [
        b"",
        address("169.254.3.4"),
        address("fe80::1", scope=253),
        address("127.0.0.1", scope=254),
        address("2001:db8::1", flags=0x40),
        address("2001:db8::1", flags=0x08),
        address("2001:db8::1", attributes=attribute(8, struct.pack("=I", 0x40))),
        message(21, b"a message of another type"),
    ],
)
def test_addresses_that_lead_nowhere_do_not_count(addresses: bytes) -> None:
    assert parse(addresses=addresses).missing == "ppp0 has no address"


def test_the_far_end_of_a_line_does_not_matter() -> None:
    ours = attribute(2, socket.inet_aton("192.0.2.1"))
    assert parse(addresses=address("169.254.1.1", attributes=ours)).has_address


@pytest.mark.parametrize(
    "routes",
    [
        route(),
        route(table=100),
        route(prefix=1),
        route(via=multipath((3, 0), (IFACE, 0))),
        route(prefix=24, via=b"") + route(),
    ],
)
def test_default_routes_are_found(routes: bytes) -> None:
    assert parse(routes=routes).has_default_route


@pytest.mark.parametrize(
    "routes",
    [
        b"",
        route(prefix=24),
        route(table=255),
        route(kind=7),
        route(flags=0x10),
        route(flags=0x1),
        route(via=multipath((IFACE, 0x10), (3, 0))),
        route(via=b""),
    ],
)
def test_routes_that_lead_nowhere_do_not_count(routes: bytes) -> None:
    assert parse(routes=routes).missing == "no default route goes through ppp0"


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_a_message_that_is_cut_off_ends_the_parsing(cut: int) -> None:
    routes = route(via=multipath((IFACE, 0)))[:cut]
    try:
        parse(routes=routes)
    except struct.error:
        pass  # the board shows the link as unknown


def test_a_length_of_zero_does_not_hang() -> None:
    assert list(rtnetlink._messages(bytes(64)))
    assert list(rtnetlink._attributes(bytes(16)))
    assert list(rtnetlink._next_hops(bytes(16)))


def test_an_error_of_the_kernel_is_raised() -> None:
    with pytest.raises(PermissionError):
        rtnetlink._state_of(message(2, struct.pack("=i", -errno.EPERM) + bytes(16)))


class Kernel:
    """A netlink socket that answers each request with the next of some dumps."""

    def __init__(self, *dumps: list[bytes]) -> None:
        self.dumps = list(dumps)
        self.parts: list[bytes] = []

    def send(self, request: bytes) -> None:
        self.parts = self.dumps.pop(0)

    def recv(self, size: int) -> bytes:
        return self.parts.pop(0)


DONE = message(3, bytes(4))


def test_a_dump_in_several_parts_is_put_together() -> None:
    kernel = Kernel([link("eth0"), link("eth1") + DONE])
    assert rtnetlink._dump(kernel, 18) == link("eth0") + link("eth1") + DONE  # type: ignore[arg-type]


def test_a_dump_that_was_disturbed_is_made_again() -> None:
    disturbed = message(16, struct.pack("=BxHiII", 0, 0, 1, 0, 0), flags=0x10)
    kernel = Kernel([disturbed, DONE], [link("eth0"), DONE])
    assert rtnetlink._dump(kernel, 18) == link("eth0") + DONE  # type: ignore[arg-type]
    assert kernel.dumps == []


def test_this_machine_has_a_loopback_interface() -> None:
    assert read_interfaces()["lo"].is_loopback


@pytest.mark.anyio
async def test_lost_messages_count_as_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    async def sock_recv(sock: socket.socket, size: int) -> bytes:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(rtnetlink, "_GATHER_SECONDS", 0)
    with Changes() as changes:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_recv", sock_recv)
        await changes.wait()
