"""The identification protocol, RFC 1413, the asking side: which user of a host has opened a connection to us.

```text
C: 41234, 25                           the port there, the port here
S: 41234, 25 : USERID : UNIX : ann
```

Whoever runs that host decides what it says, so an answer helps its own people and proves nothing to us.
"""

PORT = 113

#: A longer reply is none, RFC 1413 §6.
MAX_REPLY_BYTES = 1000

#: So much of a user's name is kept.
MAX_USER_CHARACTERS = 64


class Question:
    """One question: bytes in, an answer out. `user` is empty when there is none, for whatever reason."""

    def __init__(self, their_port: int, our_port: int) -> None:
        self.request = b"%d, %d\r\n" % (their_port, our_port)
        self.user = ""
        self.is_over = False
        self._ports = (their_port, our_port)
        self._inbox = b""

    def receive(self, data: bytes) -> None:
        """Takes what the other side sent, `b""` when it closed. Half a line is no answer."""
        if self.is_over:
            return
        self._inbox += data
        line, end, _ = self._inbox.partition(b"\n")
        self.is_over = bool(end) or not data or len(self._inbox) > MAX_REPLY_BYTES
        if end and len(line) <= MAX_REPLY_BYTES:
            self.user = _user(line, self._ports)


def _user(line: bytes, ports: tuple[int, int]) -> str:
    """The name in a reply of type USERID about these ports, in printable ASCII that harms no header field."""
    parts = line.split(b":", 3)
    if len(parts) != 4 or parts[1].strip().upper() != b"USERID":
        return ""
    if [word.strip() for word in parts[0].split(b",")] != [b"%d" % port for port in ports]:
        return ""
    name = parts[3].strip().decode("ascii", "replace")[:MAX_USER_CHARACTERS]
    return "".join(letter if "!" <= letter <= "~" and letter not in '()<>\\"' else "?" for letter in name)
