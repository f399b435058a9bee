"""How a server is reached: the connection and TLS, before the first word of any protocol."""

from enum import Enum


class TlsMode(Enum):
    """What protects the connection. The first two are verified."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"  # from the first byte, RFC 8314 §3.3
    OPPORTUNISTIC = "opportunistic"  # STARTTLS if offered, any certificate: RFC 7435
    NONE = "none"
