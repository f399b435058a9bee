"""What is remembered of next hops, and how options become the machine's."""

from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.delivery.connect import MAX_CAREFUL_HOSTS, Memory, Options, TlsMode, client_options
from masqmail.net.errors import TlsFailure
from masqmail.proto.smtp.clientsession import StartTls


def test_a_host_that_stalled_is_forgiven_and_one_that_was_confused_is_not() -> None:
    memory = Memory()
    memory.note_trouble("stalled", for_good=False)
    memory.note_trouble("confused", for_good=True)
    memory.note_trouble("confused", for_good=False)
    for host in ("stalled", "confused", "good"):
        memory.note_success(host)
    assert [memory.needs_care(host) for host in ("stalled", "confused", "good")] == [False, True, False]


def test_only_so_many_hosts_are_remembered() -> None:
    memory = Memory()
    for index in range(MAX_CAREFUL_HOSTS + 1):
        memory.note_trouble(f"mx{index}", for_good=True)
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
    options = client_options(Options("me", tls=mode), may_pipeline=True)
    assert (options.starttls, options.tls_is_on) == (starttls, tls_is_on)


def test_pipelining_needs_two_yeses() -> None:
    assert client_options(Options("me"), may_pipeline=True).pipelining
    assert not client_options(Options("me"), may_pipeline=False).pipelining
    assert not client_options(Options("me", pipelining=False), may_pipeline=True).pipelining


def test_a_domain_gets_its_ascii_form_or_an_error_of_the_machine() -> None:
    to_a_labels = client_options(Options("me"), may_pipeline=True).to_a_labels
    assert to_a_labels("bücher.test") == "xn--bcher-kva.test"
    with pytest.raises(ValueError):
        to_a_labels("\u0378.test")


def test_a_slow_link_gets_more_time() -> None:
    assert Options("me", time_scale=4).seconds(timedelta(seconds=30)) == 120
