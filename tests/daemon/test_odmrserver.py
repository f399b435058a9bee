"""The provider's side of ODMR and ETRN: mail waits for its user, who gets it over his own connection."""

import asyncio
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from masqmail.daemon.plan import plan_for, supposed_links
from masqmail.daemon.wiring import directory_of
from masqmail.net.tls import client_context
from masqmail.proto.sasl import hash_password
from masqmail.spool.states import State
from support.authority import Authority
from support.customer import customer
from support.inprocess import House, Tenant
from support.mail import message
from support.scripted_server import DROP, ScriptedServer, listening

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ODMR = """
[routes.customer]
deliver = "odmr"
for = "bob"
recipients = ["*@customer.test", "*@*.branch.test"]

[routes.direct]
links = ["always"]
smarthost = "127.0.0.1:1"
tls = "none"
recipients = ["*@served.test"]

[routes.provider]"""


class Provider(House):
    """A house with customers: bob, whose mail waits for him, and eve, whose does not."""

    def __init__(self, folder: Path, more: str = "", *, smtp: str = "") -> None:
        super().__init__(folder, "127.0.0.1:1", more)
        self._text = self._text.replace("\n[routes.provider]", ODMR).replace("[smtp]", f"[smtp]\n{smtp}")
        users = [f"{name}:{hash_password('sesame')}\n" for name in ("bob", "eve")]
        (folder / "users").write_text("".join(users))


async def put_in(tenant: Tenant, *addresses: str) -> None:
    for address in addresses:
        await tenant.submit([address], message(address, to=address))


async def fetch(tenant: Tenant, command: str = "ATRN", server: ScriptedServer | None = None) -> ScriptedServer:
    """One whole visit of bob."""
    server = server or ScriptedServer()
    async with customer(tenant.house.port) as bob:
        await bob.log_in("bob", "sesame")
        reply = await bob.say(command)
        assert reply == "250 2.0.0 OK now reversing the connection"
        await bob.serve(server)
        await bob.is_closed()
    return server


def taken(server: ScriptedServer) -> list[str]:
    return sorted(address for found in server.taken for address in found.recipients)


async def test_what_waits_is_delivered_once_over_the_connection_of_its_user(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test", "joe@Customer.TEST", "sue@x.branch.test", "other@far.test")
        server = await fetch(tenant)
        assert taken(server) == ["ann@customer.test", "joe@Customer.TEST", "sue@x.branch.test"]
        assert server.commands[0] == "EHLO laptop.example.org" and server.commands[-1] == "QUIT"
        waiting = await tenant.until(lambda found: len(found) == 1)
        assert set(waiting) == {"other@far.test"}
        async with customer(tenant.house.port) as bob:
            await bob.log_in("bob", "sesame")
            assert await bob.say("ATRN") == "453 4.2.0 You have no mail"
            assert (await bob.say("NOOP")).startswith("250"), "and the session goes on"


async def test_only_the_domains_that_are_asked_for_are_sent(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test", "sue@x.branch.test", "tim@y.branch.test")
        server = await fetch(tenant, "ATRN X.Branch.Test,customer.test")
        assert taken(server) == ["ann@customer.test", "sue@x.branch.test"]
        assert list(await tenant.until(lambda found: len(found) == 1)) == ["tim@y.branch.test"]


async def test_who_may_not_have_the_mail_is_told_and_gets_none(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        async with customer(tenant.house.port) as anybody:
            assert "250-ATRN" in (await anybody.say("EHLO x")).splitlines(), "clients look before they log in"
            assert (await anybody.say("ATRN")).startswith("530 5.7.0")
        for user, command in (("eve", "ATRN"), ("eve", "ATRN customer.test"), ("bob", "ATRN customer.test,far.test")):
            async with customer(tenant.house.port) as other:
                await other.log_in(user, "sesame")
                assert (await other.say(command)).startswith("450 4.7.1 ATRN request refused"), (user, command)
        assert (await tenant.recipients())["ann@customer.test"].state is State.QUEUED


async def test_what_waits_says_for_whom(tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    async with provider.daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        reason = (await tenant.reasons())["ann@customer.test"]
        assert reason == "waits until bob fetches it with ATRN (route customer)"
        status = await tenant.daemon.operator.status()
        route = next(found for found in status["routes"] if found["name"] == "customer")  # type: ignore[attr-defined]
        assert (route["state"], route["queued"]) == ("waiting", 1)
        assert route["reason"] == "waits until bob fetches it with ATRN"
    found = provider.configuration()
    links = supposed_links(found, ("line",))
    [step] = plan_for("ann@customer.test", "", directory_of(found), links, {})["plan"]  # type: ignore[misc]
    assert step["action"] == "wait" and "it waits until bob fetches it with ATRN" in step["reason"]


async def test_no_later_route_takes_what_waits_and_no_time_counts(tmp_path: Path) -> None:
    provider = Provider(tmp_path)
    async with listening(ScriptedServer) as catcher:
        provider._text = provider._text.replace("127.0.0.1:1", str(catcher.address))
        async with provider.daemon() as tenant:
            await put_in(tenant, "ann@customer.test")
            await tenant.daemon.operator.set_link("line", "up")
            await put_in(tenant, "other@far.test")
            await tenant.until(lambda found: list(found) == ["ann@customer.test"])
            for _ in range(10):
                provider.clock.advance(tenant.daemon.configuration.queue.give_up_after)
                await tenant.catch_up()
            recipient = (await tenant.recipients())["ann@customer.test"]
            assert (recipient.state, recipient.attempts, recipient.age.total_seconds()) == (State.QUEUED, 0, 0)
            assert taken(await fetch(tenant)) == ["ann@customer.test"]
        assert [address for server in catcher.servers for address in taken(server)] == ["other@far.test"]


async def test_a_refusal_of_the_users_server_is_one_and_a_delay_waits_for_the_next_visit(tmp_path: Path) -> None:
    def policy(step: str, subject: str) -> str | None:
        if step != "RCPT":
            return None
        return {"gone@customer.test": "550 5.1.1 who?", "busy@customer.test": "450 4.2.1 later"}.get(subject)

    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "gone@customer.test", "busy@customer.test", "ann@customer.test")
        assert taken(await fetch(tenant, server=ScriptedServer(policy=policy))) == ["ann@customer.test"]
        waiting = await tenant.until(lambda found: "gone@customer.test" not in found)
        assert waiting["busy@customer.test"].state is State.DEFERRED
        assert "later" in (await tenant.reasons())["busy@customer.test"]
        tenant.house.clock.advance(timedelta(seconds=1))
        assert taken(await fetch(tenant)) == ["busy@customer.test"], "although it is not due yet"
        await tenant.until(lambda found: not found)  # the report is a message of its own
    reports = [content for content in tenant.house.mailbox() if b"gone@customer.test" in content]
    assert len(reports) == 1


@pytest.mark.parametrize("keywords", [("PIPELINING",), ()], ids=["group", "lock-step"])
async def test_a_server_without_chunking_is_served_as_well(tmp_path: Path, keywords: tuple[str, ...]) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, *(f"n{number}@customer.test" for number in range(5)))
        server = await fetch(tenant, server=ScriptedServer(keywords=keywords))
        assert len(taken(server)) == 5
        assert server.commands[-1] == "QUIT"


async def test_a_connection_that_breaks_leaves_the_rest_waiting(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, *(f"n{number}@customer.test" for number in range(5)))
        server = ScriptedServer(policy=lambda step, subject: DROP if step == "CONTENT" else None)
        await fetch(tenant, server=server)
        await tenant.until(
            lambda found: len(found) == 5 and all(one.state is not State.LEASED for one in found.values())
        )
        tenant.house.clock.advance(timedelta(seconds=1))
        assert len(taken(await fetch(tenant))) == 5


async def test_a_user_who_vanishes_behind_the_turn_harms_nothing(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        async with customer(tenant.house.port) as bob:
            await bob.log_in("bob", "sesame")
            assert (await bob.say("ATRN")).startswith("250")
        with anyio.fail_after(20):
            while tenant.daemon.scheduler.is_sending():
                await anyio.sleep(0.002)
        recipient = (await tenant.recipients())["ann@customer.test"]
        assert (recipient.state, recipient.attempts) == (State.QUEUED, 0)
        assert taken(await fetch(tenant)) == ["ann@customer.test"]


async def test_a_second_atrn_of_the_same_user_is_told_to_wait(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        async with customer(tenant.house.port) as bob, customer(tenant.house.port) as again:
            await bob.log_in("bob", "sesame")
            await again.log_in("bob", "sesame")
            assert (await bob.say("ATRN")).startswith("250")
            assert (await again.say("ATRN")).startswith("451 4.3.2")
            await bob.serve(ScriptedServer())
            assert await bob.is_closed()
            reply = await again.say("ATRN")
            while reply.startswith("451"):  # his line may be closed a moment after his connection
                await anyio.sleep(0.002)
                reply = await again.say("ATRN")
            assert reply.startswith("453")


async def test_a_greeting_that_is_pipelined_behind_atrn_is_heard(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        server = ScriptedServer()
        async with customer(tenant.house.port) as bob:
            await bob.log_in("bob", "sesame")
            bob.send(b"NOOP\r\nATRN\r\n220 customer.test\r\n")
            assert (await bob.reply()).startswith("250 2.0.0 OK")
            assert (await bob.reply()).endswith("reversing the connection")
            await bob.serve(server, greeting=False)
        assert taken(server) == ["ann@customer.test"]


async def test_commands_behind_atrn_are_no_mail(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        async with customer(tenant.house.port) as bob:
            await bob.log_in("bob", "sesame")
            bob.send(b"ATRN\r\nMAIL FROM:<>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\n\r\nhello\r\n.\r\n")
            assert (await bob.reply()).startswith("250")
            assert await bob.is_closed()
        assert list(await tenant.recipients()) == ["ann@customer.test"]
        assert taken(await fetch(tenant)) == ["ann@customer.test"]


async def test_tls_that_protects_the_log_in_protects_the_mail(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    certificate = authority.issue("localhost")
    smtp = f'certificate = "{certificate.chain}"\nprivate_key = "{certificate.private_key}"'
    async with Provider(tmp_path, smtp=smtp).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        server = ScriptedServer()
        async with customer(tenant.house.port) as bob:
            await bob.say("EHLO customer.test")
            await bob.start_tls(client_context(ca_file=authority.ca), "localhost")
            await bob.log_in("bob", "sesame")
            assert (await bob.say("ATRN")).startswith("250")
            await bob.serve(server)
        assert taken(server) == ["ann@customer.test"]


async def test_mail_that_waits_for_a_flush_is_fetched_too(tmp_path: Path) -> None:
    async with Provider(tmp_path, '[queue]\ndeliver = "on-flush"\n').daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        assert taken(await fetch(tenant)) == ["ann@customer.test"]


async def test_mail_that_comes_while_its_user_is_here_goes_the_same_way(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant:
        await put_in(tenant, "ann@customer.test")
        held = asyncio.Event()

        class Slow(ScriptedServer):
            def receive(self, data: bytes) -> bytes:
                if b"MAIL FROM" in data:
                    held.set()
                return super().receive(data)

        server = Slow(keywords=())
        async with customer(tenant.house.port) as bob:
            await bob.log_in("bob", "sesame")
            await bob.say("ATRN")
            await put_in(tenant, "late@customer.test")
            await bob.serve(server)
        assert held.is_set()
        assert taken(server) == ["ann@customer.test", "late@customer.test"]


async def test_when_the_daemon_ends_its_users_keep_what_they_got_and_the_rest_waits(tmp_path: Path) -> None:
    provider, stopped = Provider(tmp_path), asyncio.Event()

    class Stopping(ScriptedServer):
        def receive(self, data: bytes) -> bytes:
            if b"MAIL FROM" in data and not stopped.is_set():
                tenant.daemon.stop()
                stopped.set()
            return super().receive(data)

    server = Stopping(keywords=())
    async with provider.daemon() as tenant:
        await put_in(tenant, *(f"n{number}@customer.test" for number in range(100)))
        async with customer(provider.port) as bob:
            await bob.log_in("bob", "sesame")
            assert (await bob.say("ATRN")).startswith("250")
            await bob.serve(server)
    assert server.commands[-1] == "QUIT"
    assert 0 < len(taken(server)) < 100
    async with provider.daemon() as tenant:
        rest = await fetch(tenant)
        assert sorted([*taken(server), *taken(rest)]) == sorted(f"n{number}@customer.test" for number in range(100))


# ETRN


async def test_etrn_makes_a_paused_route_try_again(tmp_path: Path) -> None:
    provider, greetings = Provider(tmp_path), ["421 too busy", "220 mx.test"]
    async with listening(lambda: ScriptedServer(greeting=greetings.pop(0))) as listener:
        provider._text = provider._text.replace('smarthost = "127.0.0.1:1"', f'smarthost = "{listener.address}"', 1)
        async with provider.daemon() as tenant:
            await put_in(tenant, "ann@served.test")
            await tenant.until(lambda found: "too busy" in found["ann@served.test"].reason)
            async with customer(provider.port) as anybody:
                assert "250-ETRN" in (await anybody.say("EHLO served.test")).splitlines()
                assert (await anybody.say("ETRN far.test")).startswith("459 4.7.1 Node far.test not allowed: no mail")
                assert (await anybody.say("ETRN customer.test")).endswith("its mail is fetched with ATRN")
                assert greetings == ["220 mx.test"]
                assert await anybody.say("ETRN served.test") == "250 2.0.0 OK, queuing for node served.test started"
            await tenant.until(lambda found: not found)
        assert taken(listener.servers[1]) == ["ann@served.test"]


async def test_etrn_says_when_nothing_waits(tmp_path: Path) -> None:
    async with Provider(tmp_path).daemon() as tenant, customer(tenant.house.port) as anybody:
        await anybody.say("EHLO served.test")
        assert await anybody.say("ETRN served.test") == "251 2.0.0 OK, no messages waiting for node served.test"


async def test_etrn_of_strangers_is_refused(tmp_path: Path) -> None:
    provider = Provider(tmp_path, smtp="relay_networks = []")
    async with provider.daemon(), customer(provider.port) as stranger:
        await stranger.say("EHLO served.test")
        assert (await stranger.say("ETRN served.test")).startswith("530 5.7.0")
        await stranger.log_in("eve", "sesame")
        assert (await stranger.say("ETRN served.test")).startswith("251")
