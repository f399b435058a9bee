"""SIGHUP takes a new configuration whole, or not at all."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.daemon import CONFIGURATION, Daemon
from support.load import Load
from support.mail import message
from support.ports import free_port
from support.receiver import running_receiver

pytestmark = pytest.mark.slow

ROUTE = '[routes.{name}]\nlinks = ["line"]\nsmarthost = "127.0.0.1:{port}"\ntls = "none"\n'


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    daemon.start()
    yield daemon
    if daemon.process is not None:
        daemon.stop()


def _until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _reload_with(daemon: Daemon, more: str, *, port: int | None = None, expect: str = "configuration loaded") -> None:
    before = daemon.log.read_text().count(expect)
    daemon.configure(CONFIGURATION.format(folder=daemon.folder, port=port or daemon.port) + more)
    daemon.reload()
    _until(lambda: daemon.log.read_text().count(expect) > before, f"no {expect!r} in the log")


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def test_a_new_route_takes_what_was_waiting_for_one(daemon: Daemon) -> None:
    content = message("waiting", to="ann@example.net")
    assert Load(daemon, 1).submit_by_smtp("waiting", ("ann@example.net",), content)
    assert "no route" in daemon.queue()[0]["recipients"][0]["reason"]
    with running_receiver() as receiver:
        _reload_with(daemon, ROUTE.format(name="provider", port=receiver.port))
        assert daemon.masqmail("link", "up", "line").returncode == 0
        daemon.wait_for_empty_queue()
        assert receiver.count() == {("waiting", "ann@example.net"): 1}


def test_mail_after_it_goes_to_the_new_smarthost_also_while_the_connection_to_the_old_one_is_open(
    daemon: Daemon,
) -> None:
    load = Load(daemon, 1)
    with running_receiver() as old, running_receiver() as new:
        _reload_with(daemon, ROUTE.format(name="provider", port=old.port))
        assert daemon.masqmail("link", "up", "line").returncode == 0
        for name, receiver in (("before", old), ("after", new)):
            assert load.submit_by_smtp(name, ("ann@example.net",), message(name, to="ann@example.net"))
            _until(lambda receiver=receiver: receiver.count(), f"{name} did not come")  # type: ignore[misc]
            _reload_with(daemon, ROUTE.format(name="provider", port=new.port))  # the connection lingers
        assert old.count() == {("before", "ann@example.net"): 1}
        assert new.count() == {("after", "ann@example.net"): 1}


def test_a_faulty_file_changes_nothing_and_every_fault_is_logged(daemon: Daemon) -> None:
    _reload_with(daemon, "[routes.a]\nsmarthots = 1\n[queue]\nretry = 5\n", expect="configuration refused")
    _until(lambda: "smarthots" in daemon.log.read_text(), "the first fault is not logged")
    _until(lambda: "queue.retry" in daemon.log.read_text(), "the second fault is not logged")
    assert daemon.ask("status")["routes"] == []


def test_what_only_a_restart_can_change_refuses_the_whole_configuration(daemon: Daemon) -> None:
    text = CONFIGURATION.replace("{folder}/spool", "{folder}/elsewhere")
    daemon.configure(text.format(folder=daemon.folder, port=free_port()))
    daemon.reload()
    _until(lambda: "configuration refused" in daemon.log.read_text(), "it was not refused")
    assert "[paths]" in daemon.log.read_text()
    assert _accepts(daemon.port)
    assert not (daemon.folder / "elsewhere").exists()


def test_a_changed_number_of_connections_counts_for_an_open_port(daemon: Daemon) -> None:
    text = CONFIGURATION.replace("[smtp]\n", "[smtp]\nmax_connections = 1\n")
    daemon.configure(text.format(folder=daemon.folder, port=daemon.port))
    daemon.reload()
    _until(lambda: "configuration loaded" in daemon.log.read_text(), "it was not loaded")
    greetings = []
    with ExitStack() as open_connections:
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
            greetings.append(open_connections.enter_context(client).recv(100)[:3])
    assert greetings == [b"220", b"421"]


def test_a_changed_address_is_listened_on_and_the_old_one_is_not(daemon: Daemon) -> None:
    new = free_port()
    _reload_with(daemon, "", port=new)
    assert _accepts(new)
    _until(lambda: not _accepts(daemon.port), "the old port still accepts")


def test_an_address_that_is_taken_refuses_the_whole_configuration(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        route = ROUTE.format(name="provider", port=25)
        _reload_with(daemon, route, port=taken.getsockname()[1], expect="configuration refused")
    assert _accepts(daemon.port)
    assert daemon.ask("status")["routes"] == []


def test_an_address_that_the_host_will_have_later_is_waited_for_and_said(daemon: Daemon) -> None:
    text = CONFIGURATION.replace('"127.0.0.1:{port}"', '"127.0.0.1:{port}", "192.0.2.1:{port}"')
    daemon.configure(text.format(folder=daemon.folder, port=daemon.port))
    daemon.reload()
    reason = "we are to listen at 192.0.2.1, and no interface of this host has it now"
    _until(lambda: reason in daemon.log.read_text(), "it is not logged")
    assert daemon.ask("status")["problems"] == [reason]
    assert _accepts(daemon.port)


def test_a_session_goes_on_over_a_reload(daemon: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as client, client.makefile("rwb") as file:
        file.readline()
        _reload_with(daemon, '[log]\nlevel = "debug"\n')
        file.write(b"NOOP\r\n")
        file.flush()
        assert file.readline().startswith(b"250")


def test_a_link_declared_by_hand_survives_a_restart(daemon: Daemon) -> None:
    daemon.masqmail("link", "up", "line")
    assert daemon.stop() == 0
    daemon.start()
    states = {link["name"]: (link["state"], link["source"]) for link in daemon.ask("link")}
    assert states["line"] == ("up", "manual")
