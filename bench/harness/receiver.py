"""The receiving server of a run on a slow link: what it is like, and what it has accepted so far."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import sink
from harness.limit import Setting
from harness.namespace import FAR_ADDRESS, SlowLink

USERNAME, PASSWORD = "ann", "open sesame"
PORT = 2525


@dataclass(frozen=True, slots=True)
class Server:
    """What the receiving server is like. Where there is TLS one has to log in."""

    tls: str = "starttls"
    chunking: bool = True
    work_seconds: float = 0.0

    @property
    def setting(self) -> Setting:
        return Setting(self.tls, (USERNAME, PASSWORD) if self.tls != "none" else None)

    @property
    def options(self) -> list[str]:
        """The same on a command line, for `sink` and for a run."""
        chunking = [] if self.chunking else ["--no-chunking"]
        return ["--tls", self.tls, *chunking, "--work", str(self.work_seconds)]


class Receiver:
    """The server of a run, and what it has accepted."""

    def __init__(self, link: SlowLink, server: Server, certificate: Path) -> None:
        command = [sys.executable, sink.__file__, f"{FAR_ADDRESS}:{PORT}", *server.options]
        if server.tls != "none":
            command += ["--certificate", str(certificate), "--login", f"{USERNAME}:{PASSWORD}"]
        self._process = subprocess.Popen(
            link.in_far(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if "port" not in self._process.stdout.readline():
            raise OSError("the receiving server did not start")
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def wait_for(self, count: int, timeout_seconds: float) -> list[tuple[float, str]]:
        """When each message came, until there are so many different ones or the time is over."""
        found: list[tuple[float, str]] = []
        ends_at = time.monotonic() + timeout_seconds
        while len({name for _, name in found}) < count:
            try:
                facts = json.loads(self._lines.get(timeout=max(0.0, ends_at - time.monotonic())))
            except queue.Empty:
                break
            if "at" in facts:
                found.append((facts["at"], facts["id"]))
        return found

    def late(self) -> list[tuple[float, str]]:
        """What has come since."""
        return self.wait_for(sys.maxsize, 0.0)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._reader.join()


@contextmanager
def receiving(link: SlowLink, server: Server, folder: Path) -> Iterator[Receiver]:
    """A server at the far end; the authority that its certificates come from is `ca.pem` in the folder."""
    make_certificates(folder)
    receiver = Receiver(link, server, folder / "server.pem")
    try:
        yield receiver
    finally:
        receiver.stop()


def make_certificates(folder: Path, name: str = FAR_ADDRESS) -> None:
    """`ca.pem`, which peers trust, and `server.pem` with the key and certificates of the server of this name.

    They are those of a usual provider: RSA with 2048 bits, and an authority in between, which the server sends too.
    """
    import trustme

    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    between = authority.create_child_ca(key_type=trustme.KeyType.RSA)
    server = between.issue_cert(name, common_name=name, key_type=trustme.KeyType.RSA)
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
