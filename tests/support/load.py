"""Programs that submit mail while a daemon comes and goes; they know what was promised to them."""

import random
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import BinaryIO

from support.daemon import Daemon
from support.mail import message

LOCAL = "root@localhost"


class Load:
    """Submits by SMTP and by `sendmail` until it is stopped. `promised` maps identities to recipients."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self._daemon = daemon
        self._seed = seed
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.promised: dict[str, tuple[str, ...]] = {}
        self.offered = 0

    def start(self) -> None:
        for number, work in enumerate((self.submit_by_smtp, self.submit_by_smtp, self.submit_by_sendmail)):
            thread = threading.Thread(target=self._work, args=(work, number))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _work(self, submit: Callable[[str, tuple[str, ...], bytes], bool], number: int) -> None:
        chance = random.Random(self._seed * 10 + number)
        count = 0
        while not self._stop.is_set():
            count += 1
            identity = f"{self._seed}.{number}.{count}"
            recipients = _some_recipients(chance)
            size = chance.choice((100, 3000, 3000, 60_000))
            self.offered += 1
            if submit(identity, recipients, message(identity, b"x" * 70 + b"\n" + b"y" * size + b"\n")):
                self.promised[identity] = recipients
            self._stop.wait(chance.random() * 0.05)

    def submit_by_smtp(self, identity: str, recipients: tuple[str, ...], content: bytes) -> bool:
        try:
            address = ("127.0.0.1", self._daemon.port)
            with socket.create_connection(address, timeout=10) as connection, connection.makefile("rwb") as file:
                return self._talk(file, recipients, content)
        except (OSError, ValueError):
            return False

    @staticmethod
    def _talk(file: BinaryIO, recipients: tuple[str, ...], content: bytes) -> bool:
        _expect(file.readline(), b"220")
        lines = ["EHLO load.test", "MAIL FROM:<root@laptop.example.org>"]
        lines += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        for line in [*lines, "DATA"]:
            file.write(line.encode() + b"\r\n")
            file.flush()
            while (reply := file.readline())[3:4] == b"-":
                pass
            _expect(reply, b"354" if line == "DATA" else b"250")
        file.write(content.replace(b"\n", b"\r\n") + b".\r\n")
        file.flush()
        _expect(file.readline(), b"250")
        return True

    def submit_by_sendmail(self, identity: str, recipients: tuple[str, ...], content: bytes) -> bool:
        try:
            return self._daemon.sendmail("-i", *recipients, message=content).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def _some_recipients(chance: random.Random) -> tuple[str, ...]:
    everybody = (LOCAL, "ann@example.net", "bob@example.com", "cy@example.net")
    return tuple(chance.sample(everybody, chance.randint(1, 3)))


def _expect(reply: bytes, code: bytes) -> None:
    if not reply.startswith(code):
        raise ValueError(reply)
