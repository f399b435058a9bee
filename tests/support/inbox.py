"""The Maildir in which a receiving server of the tests keeps what it got. For fetched mail see `fakeinbox`."""

from dataclasses import dataclass, field
from pathlib import Path

from support.mail import identity
from support.peers import wait_until


@dataclass(frozen=True)
class Inbox:
    """What a server has put into the Maildir below `root`."""

    root: Path
    _known: dict[Path, bytes] = field(default_factory=dict, repr=False, kw_only=True)

    def inbox(self) -> list[bytes]:
        """Every message it has put into its Maildir."""
        for path in (self.root / "inbox" / "new").glob("*"):
            if path not in self._known:
                self._known[path] = path.read_bytes()
        return [self._known[path] for path in sorted(self._known)]

    def copies(self, wanted: str) -> list[bytes]:
        """The messages with this identity."""
        return [content for content in self.inbox() if identity(content) == wanted]

    def wait_for_copy(self, wanted: str, seconds: float = 20) -> bytes:
        """The only message with this identity, as soon as it is there."""
        self.wait_for_copies(wanted, 1, seconds)
        (copy,) = self.copies(wanted)
        return copy

    def wait_for_copies(self, wanted: str, count: int, seconds: float = 20) -> None:
        """Returns when there are at least so many messages with this identity."""
        what = f"message {wanted!r} {count} times in the Maildir of {self.root.name}"
        wait_until(lambda: len(self.copies(wanted)) >= count, what, seconds)
