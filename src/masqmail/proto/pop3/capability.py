"""What a POP3 server says it can do: RFC 2449."""

from collections.abc import Sequence

from masqmail.frozen import frozen


@frozen
class Capabilities:
    """The answer to CAPA. A server that has no CAPA is not `is_known`, and can do what RFC 1939 says."""

    is_known: bool = False
    words: frozenset[str] = frozenset()  # in upper case, without their arguments
    sasl: tuple[str, ...] = ()  # mechanisms in the server's order, RFC 5034 §3

    @property
    def stls(self) -> bool:
        return "STLS" in self.words  # RFC 2595 §4

    @property
    def pipelining(self) -> bool:
        return "PIPELINING" in self.words  # RFC 2449 §6.6

    @property
    def user(self) -> bool:
        """Whether USER and PASS are worth a try: they are announced, or nothing else is."""
        return "USER" in self.words or not self.sasl


def parse_capabilities(lines: Sequence[bytes]) -> Capabilities:
    """Reads the lines of a CAPA listing. Lines that say nothing we know change nothing."""
    words: set[str] = set()
    mechanisms: dict[str, None] = {}
    for line in lines:
        word, *arguments = line.decode("ascii", "replace").upper().split() or [""]
        words.add(word)
        if word == "SASL":
            mechanisms.update(dict.fromkeys(arguments))
    return Capabilities(True, frozenset(words - {""}), tuple(mechanisms))
