"""The state of the network interfaces, read from the kernel through rtnetlink(7).

A change is only ever taken as a hint to read everything again: messages get lost when there are many.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType

import anyio

from masqmail.frozen import frozen

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port: struct nlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # length, type: struct rtattr
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change: struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index: struct ifaddrmsg
_ROUTE = struct.Struct("=8BI")  # family, dst_len, src_len, tos, table, protocol, scope, type; flags: struct rtmsg
_NEXT_HOP = struct.Struct("=HBBi")  # length, flags, hops, index: struct rtnexthop

_ERROR, _DONE = 2, 3
_NEWLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE, _GETROUTE = 16, 18, 20, 22, 24, 26
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_DUMP_INTERRUPTED = 0x10

_UP, _LOOPBACK = 0x1, 0x8
_CARRIER = 0x40 | 0x10000  # IFF_RUNNING (ready, not dormant) comes late, IFF_LOWER_UP says nothing of dormant ones
_IFNAME = 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_UNUSABLE_ADDRESS = 0x08 | 0x40  # IFA_F_DADFAILED | IFA_F_TENTATIVE
_SCOPE_LINK = 253
_OIF, _MULTIPATH = 4, 9
_UNICAST, _TABLE_LOCAL = 1, 255
_UNUSABLE_ROUTE = 0x1 | 0x10  # RTNH_F_DEAD | RTNH_F_LINKDOWN

# Link, IPv4 address and route, IPv6 address and route: RTMGRP_…
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400

_READ_BYTES = 256 * 1024
_DUMP_SECONDS = 2.0
_DUMP_TRIES = 5
#: A change seldom comes alone: an interface that comes up makes a dozen messages.
_GATHER_SECONDS = 0.05


@frozen
class Interface:
    """What matters of a network interface."""

    name: str
    is_loopback: bool = False
    is_up: bool = False
    has_carrier: bool = False
    has_address: bool = False
    has_default_route: bool = False

    @property
    def missing(self) -> str:
        """What keeps mail from going out through it, in words; empty when nothing does."""
        if not self.is_up:
            return f"{self.name} is switched off"
        if not self.has_carrier:
            return f"{self.name} has no carrier"
        if not self.has_address:
            return f"{self.name} has no address"
        if not self.has_default_route:
            return f"no default route goes through {self.name}"
        return ""


def read_interfaces() -> dict[str, Interface]:
    """All interfaces as they are now, by name. Raises `OSError` where the kernel does not tell."""
    with _open(0) as sock:
        sock.settimeout(_DUMP_SECONDS)
        return parse_interfaces(_dump(sock, _GETLINK), _dump(sock, _GETADDR), _dump(sock, _GETROUTE))


def parse_interfaces(links: bytes, addresses: bytes, routes: bytes) -> dict[str, Interface]:
    """Interfaces from the messages of three dumps."""
    with_address = set(_addressed(addresses))
    with_route = set(_routed(routes))
    interfaces = {}
    for kind, body in _messages(links):
        if kind != _NEWLINK:
            continue
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = dict(_attributes(body[_LINK.size :])).get(_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
        interfaces[name] = Interface(
            name=name,
            is_loopback=bool(flags & _LOOPBACK),
            is_up=bool(flags & _UP),
            has_carrier=flags & _CARRIER == _CARRIER,
            has_address=index in with_address,
            has_default_route=index in with_route,
        )
    return interfaces


class Changes:
    """Tells when the interfaces may have changed; make it before you first read them."""

    def __init__(self) -> None:
        self._sock = _open(_GROUPS)
        self._sock.setblocking(False)

    def __enter__(self) -> "Changes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    async def wait(self) -> None:
        """Returns shortly after something has changed."""
        try:
            await asyncio.get_running_loop().sock_recv(self._sock, _READ_BYTES)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # so much changed that messages were lost
                raise
        await anyio.sleep(_GATHER_SECONDS)
        self._drop_waiting()

    def _drop_waiting(self) -> None:
        while True:
            try:
                self._sock.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def _open(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


def _dump(sock: socket.socket, kind: int) -> bytes:
    """All messages of one kind; starts anew when something changed meanwhile."""
    for _ in range(_DUMP_TRIES):
        sock.send(_HEADER.pack(_HEADER.size + 4, kind, _REQUEST_DUMP, 0, 0) + bytes(4))
        dump, is_done, is_whole = b"", False, True
        while not is_done:
            dump += (part := sock.recv(_READ_BYTES))
            is_done, flags = _state_of(part)
            is_whole = is_whole and not flags & _DUMP_INTERRUPTED
        if is_whole:
            break
    return dump


def _state_of(part: bytes) -> tuple[bool, int]:
    """Whether a dump ends in this part, and the flags of its messages. Raises the `OSError` the kernel reports."""
    is_done, all_flags, at = False, 0, 0
    while at + _HEADER.size <= len(part):
        length, kind, flags, _, _ = _HEADER.unpack_from(part, at)
        if kind == _ERROR:
            (number,) = struct.unpack_from("=i", part, at + _HEADER.size)
            raise OSError(-number, os.strerror(-number))
        all_flags |= flags
        is_done = is_done or kind == _DONE
        at += _padded(max(length, _HEADER.size))
    return is_done, all_flags


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each message's type and body."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += _padded(max(length, _HEADER.size))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += _padded(max(length, _ATTRIBUTE.size))


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _addressed(addresses: bytes) -> Iterator[int]:
    """The interfaces with an address that reaches further than the next cable."""
    for kind, body in _messages(addresses):
        if kind != _NEWADDR:
            continue
        family, _, flags, scope, index = _ADDRESS.unpack_from(body)
        attributes = dict(_attributes(body[_ADDRESS.size :]))
        if _IFA_FLAGS in attributes:
            (flags,) = struct.unpack_from("=I", attributes[_IFA_FLAGS])
        address = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS, b"")
        is_link_local = scope >= _SCOPE_LINK or (family == socket.AF_INET and address[:2] == b"\xa9\xfe")  # RFC 3927
        if not is_link_local and not flags & _UNUSABLE_ADDRESS:
            yield index


def _routed(routes: bytes) -> Iterator[int]:
    """The interfaces that a default route goes through, in any table but the one for our own addresses."""
    for kind, body in _messages(routes):
        if kind != _NEWROUTE:
            continue
        _, prefix, _, _, table, _, _, route_kind, flags = _ROUTE.unpack_from(body)
        # 0.0.0.0/1 and 128.0.0.0/1 are how VPN programs write a default route over another one
        if prefix > 1 or route_kind != _UNICAST or table == _TABLE_LOCAL or flags & _UNUSABLE_ROUTE:
            continue
        for attribute, value in _attributes(body[_ROUTE.size :]):
            if attribute == _OIF:
                yield struct.unpack_from("=I", value)[0]
            elif attribute == _MULTIPATH:
                yield from _next_hops(value)


def _next_hops(data: bytes) -> Iterator[int]:
    at = 0
    while at + _NEXT_HOP.size <= len(data):
        length, flags, _, index = _NEXT_HOP.unpack_from(data, at)
        if not flags & _UNUSABLE_ROUTE:
            yield index
        at += _padded(max(length, _NEXT_HOP.size))
