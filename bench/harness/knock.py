"""Waits for the greeting of a mail server: `python bench/harness/knock.py HOST PORT SECONDS`; exits 1 without."""

import socket
import sys
import time


def greeting(host: str, port: int, seconds: float = 20, *, every: float = 0.01) -> bool:
    """Whether somebody says 220 there within this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=seconds) as client:
                if client.recv(512).startswith(b"220"):
                    client.sendall(b"QUIT\r\n")
                    client.recv(512)
                    return True
        except OSError:
            pass
        time.sleep(every)
    return False


if __name__ == "__main__":
    sys.exit(0 if greeting(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])) else 1)
