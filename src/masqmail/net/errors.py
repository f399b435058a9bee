"""What can go wrong on the way to another host, each with its culprit and a reason in words for a person.

```text
NetError
├── NameFailure          a name could not be resolved now
│   ├── NameNotFound     the name does not exist (an authoritative NXDOMAIN)
│   ├── NoAddress        the name has no address
│   └── NullMx           the domain says that it takes no mail (RFC 7505)
├── ConnectFailure       no connection could be made
├── ConnectionLost       the connection broke
├── StreamTimeout        the other side was silent for too long
├── TlsFailure           TLS could not be started or was damaged
└── ListenFailure        we cannot listen where we should
```
"""

from typing import ClassVar

from masqmail.mail.outcome import Culprit


class NetError(Exception):
    """Trouble with a connection or a name. `reason` stands alone as a sentence without a full stop."""

    culprit: ClassVar[Culprit] = Culprit.CONNECTION

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NameFailure(NetError):
    """A name could not be resolved; another time it may."""

    culprit = Culprit.NAME


class NameNotFound(NameFailure):
    """The name does not exist, says the resolver. See `Resolver.is_hijacked` before you believe it."""


class NoAddress(NameFailure):
    """The name has no address, whether it exists or not."""


class NullMx(NameFailure):
    """The domain publishes that it takes no mail, RFC 7505 §3."""


class ConnectFailure(NetError):
    """No connection could be made to any address of the host."""


class ConnectionLost(NetError):
    """The connection broke: a reset, an unreachable network, or our own `abort`."""


class StreamTimeout(NetError):
    """The other side neither sent nor took anything within the time the caller gave it."""


class TlsFailure(NetError):
    """TLS could not be started, or what came over it was damaged."""

    culprit = Culprit.TLS


class ListenFailure(NetError):
    """We cannot listen at an address or path of our configuration."""

    culprit = Culprit.LOCAL
