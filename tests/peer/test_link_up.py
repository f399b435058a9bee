"""The main job with real peers: handed in while offline, gone the moment the link is up."""

import smtplib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from support.daemon import Daemon, smarthost_route
from support.mail import SENDER, complete_message, with_crlf, without_trace
from support.peers import wait_until
from support.postfix import Postfix

pytestmark = pytest.mark.peer

MESSAGES = 100  # by SMTP, and as many by sendmail
SMARTHOSTS = ("left", "right")
MOMENT_SECONDS = 2.0

SETTINGS = """\
[log]
format = "json"

"""


def test_200_messages_handed_in_offline_arrive_within_two_seconds_of_the_link(
    tmp_path: Path, postfix: Postfix
) -> None:
    routes = [smarthost_route(name, postfix.doors[name], 'tls = "none"', link="line") for name in SMARTHOSTS]
    daemon = Daemon(tmp_path, SETTINGS + "".join(routes))
    daemon.start()
    try:
        sent = {f"offline-{number}": complete_message(f"offline-{number}") for number in range(2 * MESSAGES)}
        hand_in(daemon, sent)
        assert daemon.ask("status")["queue"]["messages"] == 2 * MESSAGES
        assert not daemon.logged("pickup taken")  # sendmail came by the socket
        assert not any(postfix.connections(name) for name in SMARTHOSTS)

        assert daemon.masqmail("link", "up", "line").returncode == 0
        wait_until(lambda: len(daemon.logged("recipient delivered")) == 2 * MESSAGES, "the last delivery")
        arrived = {name: without_trace(postfix.wait_for_copy(name)) for name in sent}

        assert arrived == sent
        assert seconds_to_the_last_delivery(daemon) < MOMENT_SECONDS
        assert [postfix.connections(name) for name in SMARTHOSTS] == [1, 1]
        daemon.wait_for_empty_queue(5)
    finally:
        daemon.stop()


def hand_in(daemon: Daemon, messages: dict[str, bytes]) -> None:
    """Half of them by SMTP and half with `sendmail`, for both smarthosts in turn."""
    contents = list(messages.values())
    with smtplib.SMTP("127.0.0.1", daemon.port) as client:
        for number, content in enumerate(contents[:MESSAGES]):
            client.sendmail(SENDER, [f"ann@{SMARTHOSTS[number % 2]}.test"], with_crlf(content))

    def send(numbered: tuple[int, bytes]) -> int:
        number, content = numbered
        return daemon.sendmail("-i", f"ann@{SMARTHOSTS[number % 2]}.test", message=content).returncode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(send, enumerate(contents[MESSAGES:]))) == {0}


def seconds_to_the_last_delivery(daemon: Daemon) -> float:
    """From the moment the daemon knew of the link until a smarthost had taken the last message, by its own log."""
    (up,) = [event for event in daemon.logged("link changed") if event["link"] == "line" and event["state"] == "up"]
    last = max(datetime.fromisoformat(event["at"]) for event in daemon.logged("recipient delivered"))
    return (last - datetime.fromisoformat(up["at"])).total_seconds()
