"""What a slow link allows at best: the fewest bytes that 50 messages can be, and the shortest time they can take.

The fewest bytes are those of one connection with nothing superfluous in it:

- each message is `MAIL FROM:<…>`, `RCPT TO:<…>`, `BDAT n LAST` without parameters, its content, and a trace field
  of the least that RFC 5321 §4.4 asks for (every relay must add one);
- EHLO, AUTH PLAIN with its response, STARTTLS and QUIT as needed, once each, and EHLO again behind STARTTLS;
- TLS: records of 16 KB with 22 bytes around each, one record for each command of the log-in, a ClientHello of 320
  bytes and a Finished of 80 (with its change of cipher spec);
- TCP and IP: 52 bytes (with time stamps) around each full segment of 1448 bytes and each command of the log-in;
  SYN, its acknowledgement, FIN and the last acknowledgement. What acknowledges replies is not counted: it need not
  be.

The shortest time is the round trips before the first message, the fewest bytes at the rate of the line, and half a
round trip until the last byte has arrived. That the server's replies take time on the line, and that TCP starts
slowly, is left out: nobody can reach it quite.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.line import LinkKind

SEGMENT_BYTES = 1448
HEADER_BYTES = 52
SYN_BYTES = 60
RECORD_BYTES = 16384
RECORD_EXTRA_BYTES = 22
CLIENT_HELLO_BYTES = 320
FINISHED_BYTES = 80

_EHLO = "EHLO laptop.example.org\r\n"
_TRACE = (
    "Received: from [127.0.0.1] by laptop.example.org with ESMTP\r\n"
    " id 0123456789AB; Sat, 21 Nov 2026 03:00:00 +0000\r\n"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """How the server is spoken to: `tls` is none, starttls or implicit."""

    tls: str
    login: tuple[str, str] | None

    @property
    def round_trips(self) -> int:
        """Before the first MAIL: TCP and greeting, EHLO; STARTTLS, TLS 1.3, EHLO again; AUTH.

        With implicit TLS the greeting still comes a round trip behind the handshake.
        """
        return 3 + {"none": 0, "starttls": 3, "implicit": 1}[self.tls] + (self.login is not None)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as the client's user wrote it."""

    sender: str
    recipient: str
    content: bytes

    @property
    def least_bytes(self) -> int:
        size = len(_TRACE) + len(self.content)
        envelope = f"MAIL FROM:<{self.sender}>\r\nRCPT TO:<{self.recipient}>\r\nBDAT {size} LAST\r\n"
        return len(envelope) + size


def stream_bytes(letters: Sequence[Letter], setting: Setting) -> int:
    """The fewest bytes of the messages on the line, all headers included."""
    payload = sum(letter.least_bytes for letter in letters)
    if setting.tls != "none":
        payload += math.ceil(payload / RECORD_BYTES) * RECORD_EXTRA_BYTES
    return payload + math.ceil(payload / SEGMENT_BYTES) * HEADER_BYTES


def session_bytes(setting: Setting) -> int:
    """The fewest bytes of the client before and behind the messages, on one connection."""
    record = RECORD_EXTRA_BYTES if setting.tls != "none" else 0
    packets = [SYN_BYTES, HEADER_BYTES, HEADER_BYTES, HEADER_BYTES]  # SYN, ACK; FIN, ACK
    packets += [HEADER_BYTES + len(_EHLO) + record, HEADER_BYTES + len("QUIT\r\n") + record]
    if setting.tls == "starttls":
        packets += [HEADER_BYTES + len(_EHLO), HEADER_BYTES + len("STARTTLS\r\n")]
    if setting.tls != "none":
        packets += [HEADER_BYTES + CLIENT_HELLO_BYTES, FINISHED_BYTES, 24]  # the last is TLS's goodbye
    if setting.login is not None:
        response = base64.b64encode("\0".join(["", *setting.login]).encode())
        packets.append(HEADER_BYTES + len("AUTH PLAIN ") + len(response) + 2 + record)
    return sum(packets)


def least_bytes(letters: Sequence[Letter], setting: Setting) -> int:
    """The fewest bytes that the client can send."""
    return session_bytes(setting) + stream_bytes(letters, setting)


def least_seconds(letters: Sequence[Letter], setting: Setting, link: LinkKind) -> float:
    """The shortest time from the first SYN until the server has everything."""
    busy = link.seconds_for(least_bytes(letters, setting))
    return (setting.round_trips + 0.5) * link.round_trip_seconds + busy
