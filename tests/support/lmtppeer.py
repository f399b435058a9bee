"""A small LMTP server that notes who talks to it, for tests that run as root."""

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Visit:
    """One message: who brought it (over TCP only the user is known), for whom, and how big it was.

    `groups` and `peak_bytes`, the most memory it ever used, are those of the process while it waits for our answer.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    peak_bytes: int
    commands: tuple[str, ...]
    size_bytes: int

    @property
    def recipient(self) -> str:
        (line,) = (line for line in self.commands if line.startswith("RCPT"))
        return line.split("<")[1].split(">")[0]


class LmtpPeer:
    """Takes every message, by DATA."""

    def __init__(self, listener: socket.socket) -> None:
        self.visits: list[Visit] = []
        self._listener = listener

    def run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            with sock, sock.makefile("rb") as lines:
                sock.settimeout(20)
                sock.sendall(b"220 peer LMTP\r\n")
                self._talk(sock, lines)

    def _talk(self, sock: socket.socket, lines: BinaryIO) -> None:
        commands: list[str] = []
        for line in lines:
            commands.append(line.decode().rstrip("\r\n"))
            verb = commands[-1].partition(" ")[0]
            if verb == "LHLO":
                sock.sendall(b"250-peer\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == "DATA":
                sock.sendall(b"354 go on\r\n")
                size_bytes = sum(len(line) for line in iter(lambda: next(lines), b".\r\n"))
                self.visits.append(_visit(sock, tuple(commands), size_bytes))
                sock.sendall(b"250 2.0.0 taken\r\n")
            elif verb == "QUIT":
                return
            else:
                sock.sendall(b"250 fine\r\n")


@contextmanager
def lmtp_peer(where: Path | int) -> Iterator[LmtpPeer]:
    """Serves at a path that everybody may connect to, or at a loopback port."""
    if isinstance(where, Path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(where))
        where.chmod(0o666)
    else:
        listener = socket.create_server(("127.0.0.1", where))
    listener.listen()
    peer = LmtpPeer(listener)
    thread = threading.Thread(target=peer.run, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)


def _visit(sock: socket.socket, commands: tuple[str, ...], size_bytes: int) -> Visit:
    if sock.family == socket.AF_INET:
        return Visit(_tcp_owner(sock.getpeername()[1], sock.getsockname()[1]), -1, (), -1, commands, size_bytes)
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    status = Path(f"/proc/{pid}/status").read_text()
    groups = tuple(map(int, _field(status, "Groups").split()))
    return Visit(uid, gid, groups, 1024 * int(_field(status, "VmHWM").split()[0]), commands, size_bytes)


def _field(status: str, name: str) -> str:
    match = re.search(rf"^{name}:(.*)$", status, re.MULTILINE)
    assert match
    return match[1]


def _tcp_owner(port: int, remote_port: int) -> int:
    """Whose connection it is from one local port to another, as an ident server would tell it."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if [int(address.rpartition(":")[2], 16) for address in words[1:3]] == [port, remote_port]:
            return int(words[7])
    raise AssertionError(f"nobody has a connection from port {port} to port {remote_port}")
