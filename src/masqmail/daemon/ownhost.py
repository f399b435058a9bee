"""How we recognise this host among the mail exchangers of a domain."""

import ipaddress
import socket

from masqmail.daemon.rules import Rules
from masqmail.delivery.direct import OwnHost


class OwnAddresses:
    """The addresses of this host's interfaces at this moment."""

    def __contains__(self, address: object) -> bool:
        """Whether the system lets us bind to the address: it does so for its own alone."""
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(str(address)).version == 6 else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.bind((str(address), 0))
        except (OSError, ValueError):
            return False
        return True


def own_host(rules: Rules) -> OwnHost:
    """Our name, our local domains and our addresses."""
    return OwnHost((rules.host_name, *rules.local.domains), OwnAddresses())
