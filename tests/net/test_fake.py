import pytest

from masqmail.net.errors import NameFailure, NameNotFound
from masqmail.net.fake import FakeResolver, stream_pair
from masqmail.settings import HostPort

pytestmark = pytest.mark.anyio


async def test_a_fake_resolver_raises_what_its_table_holds() -> None:
    resolver = FakeResolver({"example.org": NameFailure("no answer")}, {"mail.example.org": NameNotFound("gone")})
    with pytest.raises(NameFailure, match="no answer"):
        await resolver.mail_exchangers("example.org")
    with pytest.raises(NameNotFound, match="gone"):
        await resolver.addresses("mail.example.org")


async def test_a_fake_host_has_the_addresses_of_its_table() -> None:
    resolver = FakeResolver(addresses={"mail.example.org": ["2001:db8::1", "192.0.2.1"]})
    assert await resolver.addresses("Mail.Example.org") == ["2001:db8::1", "192.0.2.1"]
    with pytest.raises(NameFailure):
        await resolver.addresses("other.example.org")
    assert not await resolver.is_hijacked()


async def test_a_fake_pair_knows_its_addresses() -> None:
    client, server = stream_pair(HostPort("192.0.2.7", 1234))
    assert client.local == server.peer == HostPort("192.0.2.7", 1234)
    assert client.peer == server.local
