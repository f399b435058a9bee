"""Recognising ourselves."""

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from masqmail.daemon.ownhost import OwnAddresses, own_host
from support.assembly import rules


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_our_interfaces_addresses_are_ours(address: str) -> None:
    assert address in OwnAddresses()


def test_an_address_that_counts_for_one_interface_is_ours_there() -> None:
    listing = Path("/proc/net/if_inet6")
    lines = [line.split() for line in listing.read_text().splitlines()] if listing.exists() else []
    found = [f"{IPv6Address(int(line[0], 16))}%{line[5]}" for line in lines if line[3] == "20"]
    if not found:
        pytest.skip("no interface has a link-local address")
    assert all(address in OwnAddresses() for address in found)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::99%lo", "no address", "", 5])
def test_others_are_not(address: object) -> None:
    assert address not in OwnAddresses()


def test_our_name_and_local_domains_are_ours_in_any_case_of_letters() -> None:
    host = own_host(rules())
    assert host.is_at("GW.home.example", [])
    assert host.is_at("home.example", [])
    assert host.is_at("mx.far.example", ["192.0.2.1", "127.0.0.1"])
    assert not host.is_at("mx.far.example", ["192.0.2.1"])
