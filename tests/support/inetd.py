"""A host of the network that talks to `sendmail -bs` through an inetd: `python inetd.py ADDRESS USER PROGRAM...`.

To be run as root in a network namespace of its own. The client comes from ADDRESS, the program runs as USER, and
what the client is told is printed. What it says comes from standard input.
"""

import socket
import subprocess
import sys
from contextlib import suppress

address, user, *program = sys.argv[1:]
said = sys.stdin.buffer.read()
for words in (["address", "add", f"{address}/32", "dev", "lo"], ["link", "set", "lo", "up"]):
    subprocess.run(["ip", *words], check=True)
with (
    socket.create_server((address, 0)) as listener,
    socket.create_connection(listener.getsockname(), source_address=(address, 0)) as client,
):
    connection, _ = listener.accept()
    with connection:
        started = subprocess.Popen(program, stdin=connection, stdout=connection, stderr=sys.stderr, user=user)
    client.sendall(said)
    client.settimeout(30)
    with suppress(ConnectionResetError):  # it did not listen to all that was said
        sys.stdout.buffer.writelines(iter(lambda: client.recv(4096), b""))
    sys.stdout.buffer.flush()
    sys.exit(started.wait(30))
