"""The two exceptions that leave a protocol machine.

Exception
├── PeerError    the other side broke the protocol
└── UsageError   our code called at the wrong moment
"""

from masqmail.mail.status import Status


class PeerError(Exception):
    """The other side broke the protocol. `status` is what to answer, or what its broken reply amounts to."""

    def __init__(self, status: Status) -> None:
        super().__init__(str(status))
        self.status = status


class UsageError(Exception):
    """A machine was asked for something that its state does not allow: a mistake in our own code."""
