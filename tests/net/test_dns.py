"""The resolver of the system against a name server of our own on loopback, and the fake one beside it."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from masqmail.net import dial
from masqmail.net import dns as our_dns
from masqmail.net.dns import MailExchanger, MxAnswer, Resolver, SystemResolver, is_numeric, name_of, to_ascii
from masqmail.net.errors import NameFailure, NameNotFound, NoAddress, NullMx
from masqmail.net.fake import FakeResolver

pytestmark = pytest.mark.anyio

MX_RECORDS = {
    "example.org.": ["20 backup.example.org.", "10 MAIL.example.org."],
    "xn--bcher-kva.example.": ["10 mail.example.org."],
    "nomail.example.": ["0 ."],
    "nomx.example.": [],
}
ADDRESS_RECORDS = {
    ("both.example.", "A"): ["192.0.2.1", "192.0.2.2"],
    ("both.example.", "AAAA"): ["2001:db8::1"],
    ("new.example.", "AAAA"): ["2001:db8::2"],
    ("halfdead.example.", "A"): ["192.0.2.3"],
    ("halfdead.example.", "AAAA"): dns.rcode.SERVFAIL,
    ("dead.example.", "A"): [],
    ("dead.example.", "AAAA"): dns.rcode.SERVFAIL,
}
ADDRESS_NAMES = {name for name, _ in ADDRESS_RECORDS}


class NameServer:
    """Answers over UDP: records from the tables, NXDOMAIN for the rest."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.rcode = dns.rcode.NXDOMAIN  # for what is not in the table
        self.names_zone = False
        self.has_root = True
        self.wildcard = False

    async def serve(self, udp: anyio.abc.UDPSocket) -> None:
        async for packet, (host, port) in udp:
            await udp.sendto(self.answer(dns.message.from_wire(packet)).to_wire(), host, port)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        question = query.question[0]
        name = question.name.to_text().lower()
        self.questions.append(name)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name == "." and self.has_root:
            response.answer.append(dns.rrset.from_text(".", 60, "IN", "NS", "a.root-servers.net."))
        elif self.wildcard and question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.80"))
        elif name in ADDRESS_NAMES:
            self.add_addresses(response, name, dns.rdatatype.to_text(question.rdtype))
        elif name not in MX_RECORDS:
            response.set_rcode(self.rcode)
            if self.names_zone:
                soa = dns.rrset.from_text("example.", 60, "IN", "SOA", "ns.example. root.example. 1 2 3 4 5")
                response.authority.append(soa)
        elif MX_RECORDS[name]:
            response.answer.append(dns.rrset.from_text_list(name, 60, "IN", "MX", MX_RECORDS[name]))
        return response

    def add_addresses(self, response: dns.message.Message, name: str, kind: str) -> None:
        found = ADDRESS_RECORDS.get((name, kind), [])
        if isinstance(found, dns.rcode.Rcode):
            response.set_rcode(found)
        elif found:
            response.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, found))


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    server = NameServer()
    async with (
        await anyio.create_udp_socket(local_host="127.0.0.1") as udp,
        anyio.create_task_group() as group,
    ):
        server.port = udp.extra(anyio.abc.SocketAttribute.local_port)  # type: ignore[attr-defined]
        group.start_soon(server.serve, udp)
        yield server
        group.cancel_scope.cancel()


@pytest.fixture
def resolv_conf(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    return path


@pytest.fixture
def resolver(server: NameServer, resolv_conf: Path, monkeypatch: pytest.MonkeyPatch) -> SystemResolver:
    make = our_dns._make_resolver

    def make_with_port(path: Path) -> object:
        made = make(path)
        made.port = server.port  # type: ignore[attr-defined]
        return made

    monkeypatch.setattr(our_dns, "_make_resolver", make_with_port)
    return SystemResolver(resolv_conf, lifetime_seconds=5)


@pytest.fixture
def fake() -> FakeResolver:
    return FakeResolver(
        {
            "example.org": [(20, "backup.example.org."), (10, "MAIL.example.org.")],
            "bücher.example": [(10, "mail.example.org")],
            "nomail.example": [(0, ".")],
            "nomx.example": [],
        },
        {"both.example": ["192.0.2.1", "192.0.2.2", "2001:db8::1"], "new.example": ["2001:db8::2"]},
    )


@pytest.fixture(params=["resolver", "fake"])
def either(request: pytest.FixtureRequest) -> Resolver:
    """The real resolver, and the fake that has to behave like it."""
    chosen: Resolver = request.getfixturevalue(request.param)
    return chosen


async def test_exchangers_come_by_preference(either: Resolver) -> None:
    answer = await either.mail_exchangers("Example.ORG")
    assert answer.exchangers == (MailExchanger(10, "mail.example.org"), MailExchanger(20, "backup.example.org"))


async def test_a_domain_without_exchangers_exists(either: Resolver) -> None:
    assert await either.mail_exchangers("nomx.example") == MxAnswer()


async def test_a_domain_that_takes_no_mail_says_so(either: Resolver) -> None:
    with pytest.raises(NullMx, match="takes no mail"):
        await either.mail_exchangers("nomail.example")


async def test_a_domain_that_does_not_exist_is_not_found(either: Resolver) -> None:
    with pytest.raises(NameNotFound, match=r"typo\.example does not exist"):
        await either.mail_exchangers("typo.example")


async def test_a_domain_in_another_script_is_asked_for_in_a_labels(either: Resolver) -> None:
    assert (await either.mail_exchangers("bücher.example")).exchangers[0].host == "mail.example.org"


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("Both.example", ["192.0.2.1", "192.0.2.2", "2001:db8::1"]), ("new.example", ["2001:db8::2"])],
)
async def test_address_records_are_those_of_the_dns(either: Resolver, host: str, addresses: list[str]) -> None:
    assert sorted(await either.address_records(host)) == addresses


async def test_a_name_without_address_records_is_not_one_that_does_not_exist(either: Resolver) -> None:
    with pytest.raises(NoAddress, match=r"nomx\.example has no address record"):
        await either.address_records("nomx.example")
    with pytest.raises(NameNotFound):
        await either.address_records("typo.example")


async def test_the_hosts_file_is_no_part_of_the_dns(either: Resolver) -> None:
    with pytest.raises(NameNotFound):
        await either.address_records("localhost")


async def test_half_of_the_address_records_will_do(resolver: SystemResolver) -> None:
    assert await resolver.address_records("halfdead.example") == ["192.0.2.3"]
    with pytest.raises(NameFailure, match="could not answer") as raised:
        await resolver.address_records("dead.example")
    assert type(raised.value) is NameFailure


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
async def test_a_numeric_address_is_its_own_address(either: Resolver, address: str) -> None:
    assert await either.addresses(address) == [address]


async def test_localhost_has_an_address(resolver: SystemResolver) -> None:
    assert {"127.0.0.1", "::1"} & set(await resolver.addresses("localhost"))


async def test_a_server_in_trouble_is_a_failure_for_now(server: NameServer, resolver: SystemResolver) -> None:
    server.rcode = dns.rcode.SERVFAIL
    with pytest.raises(NameFailure, match="could not answer") as raised:
        await resolver.mail_exchangers("typo.example")
    assert type(raised.value) is NameFailure


async def test_no_answer_in_time_is_a_failure_for_now(
    server: NameServer, resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver._lifetime_seconds = 0.0
    with pytest.raises(NameFailure, match="no name server answered") as raised:
        await resolver.mail_exchangers("example.org")
    assert type(raised.value) is NameFailure


@pytest.mark.parametrize("domain", ["a" * 64 + ".example", "mail..example", "bü..cher", "a\0b.example" * 30])
async def test_a_domain_that_cannot_be_one_is_a_failure(resolver: SystemResolver, domain: str) -> None:
    with pytest.raises(NameFailure):
        await resolver.mail_exchangers(domain)


async def test_answers_are_kept(server: NameServer, resolver: SystemResolver) -> None:
    for _ in range(2):
        await resolver.mail_exchangers("example.org")
    assert server.questions == ["example.org."]


async def test_another_resolv_conf_counts_for_the_next_question(
    server: NameServer, resolver: SystemResolver, resolv_conf: Path
) -> None:
    await resolver.mail_exchangers("example.org")
    os.utime(resolv_conf, ns=(1, 1))
    await resolver.mail_exchangers("example.org")
    assert server.questions == ["example.org.", "example.org."]
    resolv_conf.write_text("# offline\n")
    with pytest.raises(NameFailure, match="no name server is known: none is in"):
        await resolver.mail_exchangers("example.org")
    resolv_conf.unlink()
    with pytest.raises(NameFailure, match=r"no name server is known: .* cannot be read"):
        await resolver.mail_exchangers("example.org")


async def test_an_honest_resolver_is_not_hijacked(resolver: SystemResolver) -> None:
    assert not await resolver.is_hijacked()


def wildcard(server: NameServer) -> None:
    server.wildcard = True


def everything_is_missing(server: NameServer) -> None:
    server.has_root = False


def refuses(server: NameServer) -> None:
    server.rcode = dns.rcode.REFUSED


@pytest.mark.parametrize("lie", [wildcard, everything_is_missing, refuses])
async def test_a_lying_resolver_is_hijacked(
    server: NameServer, resolver: SystemResolver, lie: Callable[[NameServer], None]
) -> None:
    lie(server)
    assert await resolver.is_hijacked()


async def test_one_real_answer_is_enough_to_be_believed(server: NameServer, resolver: SystemResolver) -> None:
    server.has_root = False
    await resolver.mail_exchangers("example.org")
    assert not await resolver.is_hijacked()


async def test_an_answer_that_names_its_zone_is_enough_to_be_believed(
    server: NameServer, resolver: SystemResolver
) -> None:
    server.has_root, server.names_zone = False, True
    assert not await resolver.is_hijacked()


def test_too_many_exchangers_are_cut_off() -> None:
    records = [(number, f"mail{number}.example.org") for number in range(100)]
    assert len(MxAnswer.of("example.org", records).exchangers) == our_dns.MAX_EXCHANGERS


def test_a_null_mx_beside_others_is_no_null_mx() -> None:
    assert len(MxAnswer.of("example.org", [(0, "."), (10, "mail.example.org")]).exchangers) == 1


@pytest.mark.parametrize(
    ("host", "expected"), [("192.0.2.1", True), ("::1", True), ("example.org", False), ("1.2.3", False), ("", False)]
)
def test_addresses_are_told_from_names(host: str, expected: bool) -> None:
    assert is_numeric(host) is expected


def test_a_name_in_another_script_becomes_a_labels() -> None:
    assert to_ascii("Bücher.example") == "xn--bcher-kva.example"


# the name of an address


class Names:
    """What the system says of addresses, and of names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str | None, *addresses: str) -> None:
        self._name, self._addresses = name, addresses
        monkeypatch.setattr(asyncio.get_running_loop(), "getnameinfo", self.getnameinfo)
        monkeypatch.setattr(dial, "look_up", self.look_up)

    async def getnameinfo(self, sockaddr: tuple[str, int], flags: int) -> tuple[str, str]:
        assert flags & socket.NI_NAMEREQD
        if self._name is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._name, "0"

    async def look_up(self, host: str) -> list[dial.Endpoint]:
        return [dial.Endpoint(socket.AF_INET, (address, 0)) for address in self._addresses]


async def test_an_address_has_the_name_that_leads_back_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "Laptop.isp.example.", "192.0.2.8", "192.0.2.7")
    assert await name_of("192.0.2.7") == "Laptop.isp.example"


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        (None, "the address 192.0.2.7 has no name"),
        ("laptop.isp.example", "leads elsewhere"),
        ("localhost", "no full name"),
        ("7.2.0.192", "no full name"),
        ("bad_name.example", "no full name"),
        ("bad.example\r\nRSET", "no full name"),
        ("-a.example", "no full name"),
        ("x." * 127 + "ab", "no full name"),
    ],
)
async def test_a_name_that_others_could_not_use_is_none(
    monkeypatch: pytest.MonkeyPatch, name: str | None, trouble: str
) -> None:
    Names(monkeypatch, name, "192.0.2.99" if trouble == "leads elsewhere" else "192.0.2.7")
    with pytest.raises(NameFailure, match=trouble):
        await name_of("192.0.2.7")


async def test_what_is_no_address_has_no_name() -> None:
    with pytest.raises(NameFailure):
        await name_of("192.0.2.300")
