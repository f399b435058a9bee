"""How we recognise this host among the mail exchangers of a domain."""

import ipaddress
import socket

from masqmail.daemon.rules import Rules
from masqmail.delivery.direct import OwnHost


class OwnAddresses:
    """The addresses of this host's interfaces at this moment."""

    def __contains__(self, address: object) -> bool:
        """Whether the system lets us bind to the address: it does so for its own alone."""
        host = str(address)
        try:
            ipaddress.ip_address(host)  # else `getaddrinfo` would take 5 for 0.0.0.5
            ((family, kind, _, _, place),) = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)  # knows fe80::1%eth0
            with socket.socket(family, kind) as sock:
                sock.bind(place)
        except (OSError, ValueError):
            return False
        return True


def own_host(rules: Rules) -> OwnHost:
    """Our name, our local domains and our addresses."""
    return OwnHost((rules.host_name, *rules.local.domains), OwnAddresses())
