"""What is remembered of next hops, and how options become the machine's."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from masqmail.delivery import connect
from masqmail.delivery.connect import MAX_CAREFUL_HOSTS, MAX_CUT_OFF, Memory, Options, client_options
from masqmail.net.errors import NameFailure, TlsFailure
from masqmail.net.fake import stream_pair
from masqmail.net.session import TlsMode
from masqmail.proto.smtp.clientsession import StartTls
from masqmail.settings import HostPort


def test_a_host_that_stalled_is_forgiven_and_one_that_was_confused_is_not() -> None:
    memory = Memory()
    memory.note_trouble("stalled", is_certain=False)
    memory.note_trouble("confused", is_certain=True)
    memory.note_trouble("confused", is_certain=False)
    for host in ("stalled", "confused", "good"):
        memory.note_success(host)
    assert [memory.needs_care(host) for host in ("stalled", "confused", "good")] == [False, True, False]


def test_a_host_that_stalls_again_and_again_is_left_in_peace_for_a_while_each_time_longer() -> None:
    now = [0.0]
    memory = Memory(monotonic=lambda: now[0])
    lengths = []
    for _ in range(5):
        memory.note_trouble("mx", is_certain=False)
        memory.note_success("mx")
        began = now[0]
        while memory.needs_care("mx"):
            now[0] += 600
        lengths.append((now[0] - began) / 3600)
    assert lengths == [0, 1, 4, 16, 24]
    now[0] += 25 * 3600
    memory.note_trouble("mx", is_certain=False)
    memory.note_success("mx")
    assert not memory.needs_care("mx"), "a day later that is forgotten"


def test_a_host_that_pipelining_confused_gets_another_chance_after_a_day() -> None:
    now = [0.0]
    memory = Memory(monotonic=lambda: now[0])
    memory.note_trouble("mx", is_certain=True)
    now[0] = 23 * 3600
    assert memory.needs_care("mx")
    now[0] = 25 * 3600
    assert not memory.needs_care("mx")


def test_only_so_many_hosts_are_remembered() -> None:
    memory = Memory()
    for index in range(MAX_CAREFUL_HOSTS + 1):
        memory.note_trouble(f"mx{index}", is_certain=True)
    assert not memory.needs_care("mx0")
    assert memory.needs_care("mx1") and memory.needs_care(f"mx{MAX_CAREFUL_HOSTS}")


@pytest.mark.anyio
async def test_a_context_is_made_once_for_each_kind_of_trust() -> None:
    memory = Memory()
    verified, opportunistic = Options("me"), Options("me", tls=TlsMode.OPPORTUNISTIC)
    pinned = Options("me", tls_fingerprint="ab" * 32)
    contexts = [await memory.context(options) for options in (verified, opportunistic, pinned)]
    assert len(set(contexts)) == 3
    assert await memory.context(Options("other", tls=TlsMode.IMPLICIT)) is contexts[0]


@pytest.mark.anyio
async def test_nothing_is_remembered_of_next_hops_whose_tls_session_nobody_waits_for_any_more() -> None:
    memory = Memory()
    context = await memory.context(Options("me"))
    async with anyio.create_task_group() as first, anyio.create_task_group() as second:
        for group in (first, second):
            for number in range(3):
                group.start_soon(memory.wait_for_session, f"mx{number}", context)
        await anyio.wait_all_tasks_blocked()
        second.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert len(memory._resumable) == 3, "the others wait on"
        first.cancel_scope.cancel()
    assert not memory._resumable


@pytest.mark.anyio
async def test_an_unusable_ca_file_is_the_fault_of_tls(tmp_path: Path) -> None:
    with pytest.raises(TlsFailure, match="no CA certificates can be read"):
        await Memory().context(Options("me", tls_ca=tmp_path / "missing.pem"))


@pytest.mark.parametrize(
    ("mode", "starttls", "tls_is_on"),
    [
        (TlsMode.STARTTLS, StartTls.REQUIRED, False),
        (TlsMode.IMPLICIT, StartTls.NEVER, True),
        (TlsMode.OPPORTUNISTIC, StartTls.IF_OFFERED, False),
        (TlsMode.NONE, StartTls.NEVER, False),
    ],
)
def test_each_mode_has_its_way_to_tls(mode: TlsMode, starttls: StartTls, tls_is_on: bool) -> None:
    options = client_options(Options("me", tls=mode), "me", may_pipeline=True)
    assert (options.starttls, options.tls_is_on) == (starttls, tls_is_on)


def test_pipelining_needs_two_yeses() -> None:
    assert client_options(Options("me"), "me", may_pipeline=True).pipelining
    assert not client_options(Options("me"), "me", may_pipeline=False).pipelining
    assert not client_options(Options("me", pipelining=False), "me", may_pipeline=True).pipelining


def test_a_domain_gets_its_ascii_form_or_an_error_of_the_machine() -> None:
    to_a_labels = client_options(Options("me"), "me", may_pipeline=True).to_a_labels
    assert to_a_labels("bücher.test") == "xn--bcher-kva.test"
    with pytest.raises(ValueError):
        to_a_labels("\u0378.test")


def test_a_message_is_cut_off_again_when_nothing_came_between() -> None:
    memory = Memory()
    assert not memory.note_cut_off("mx", "one")
    assert not memory.note_cut_off("mx", "two")
    assert not memory.note_cut_off("backup", "one")
    assert memory.note_cut_off("mx", "one") and memory.note_cut_off("mx", "one")
    memory.note_answered("mx", "one")
    assert not memory.note_cut_off("mx", "one")


def test_only_so_many_cut_off_messages_are_remembered() -> None:
    memory = Memory()
    for index in range(MAX_CUT_OFF + 1):
        memory.note_cut_off("mx", f"m{index}")
    assert memory.note_cut_off("mx", f"m{MAX_CUT_OFF}")
    assert not memory.note_cut_off("mx", "m0")


# our name


NAMELESS = Options(None)


async def nobody(address: str) -> str:
    raise NameFailure(f"the address {address} has no name")


async def never(address: str) -> str:
    await anyio.sleep_forever()
    raise AssertionError


async def laptop(address: str) -> str:
    return {"192.0.2.7": "laptop.isp.test"}[address]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name_of", "options", "address", "name"),
    [
        (laptop, NAMELESS, "192.0.2.7", "laptop.isp.test"),
        (nobody, NAMELESS, "192.0.2.7", "[192.0.2.7]"),
        (nobody, NAMELESS, "2001:db8::7", "[IPv6:2001:db8::7]"),
        (never, replace(NAMELESS, time_scale=0), "192.0.2.7", "[192.0.2.7]"),
        (nobody, Options("given.test"), "192.0.2.7", "given.test"),
    ],
)
async def test_we_greet_with_the_given_name_or_that_of_our_address_or_the_address(
    name_of: Callable[[str], Awaitable[str]],
    options: Options,
    address: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "name_of", name_of)
    stream, _ = stream_pair(HostPort(address, 40000))
    assert await connect.our_name(stream, options) == name


def test_a_slow_link_gets_more_time() -> None:
    assert Options("me", time_scale=4).seconds(timedelta(seconds=30)) == 120
