"""The mail servers that are measured side by side, by the names that the tables show.

What is behind a colon is a mode of the same program. `make_peer` gives one that is ready to be started, inside a
`sandbox` that was told its name.
"""

from collections.abc import Sequence
from pathlib import Path

from harness.peers.base import NOWHERE, Peer, Smarthost, submit
from harness.peers.dma import Dma
from harness.peers.exim import Exim
from harness.peers.masqmail import MasqMail
from harness.peers.msmtp import Msmtp
from harness.peers.nullmailer import Nullmailer
from harness.peers.opensmtpd import OpenSmtpd
from harness.peers.postfix import Postfix

__all__ = ["CLASSES", "NOWHERE", "Peer", "Smarthost", "make_peer", "submit"]

CLASSES: dict[str, type[Peer]] = {
    "masqmail": MasqMail,
    "postfix": Postfix,
    "exim": Exim,
    "opensmtpd": OpenSmtpd,
    "nullmailer": Nullmailer,
    "dma": Dma,
    "msmtp": Msmtp,
}


def make_peer(
    name: str, folder: Path, smarthost: Smarthost = NOWHERE, *, online: bool = False, prefix: Sequence[str] = ()
) -> Peer:
    """The peer of this name, with a new folder below `folder`; used with `with`, which starts and stops it."""
    kind = CLASSES[name.partition(":")[0]]
    number = sum(1 for _ in folder.glob(f"{name.replace(':', '-')}.*"))
    return kind(name, folder / f"{name.replace(':', '-')}.{number}", smarthost, online=online, prefix=prefix)
