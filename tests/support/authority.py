"""Certificates that the servers of a test show, and the authority to trust."""

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, as files for everybody."""

    chain: Path
    private_key: Path

    @property
    def fingerprint(self) -> str:
        """Its SHA-256, as `tls_fingerprint` takes it."""
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.chain.read_text())).hexdigest()


class Authority:
    """A certificate authority of the test's own; `ca` is the file to trust."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._issuer = trustme.CA()
        self.ca = folder / "ca.pem"
        self._issuer.cert_pem.write_to_path(str(self.ca))

    def issue(self, *names: str) -> Certificate:
        """A certificate for these host names or addresses."""
        leaf = self._issuer.issue_cert(*names)
        made = Certificate(self._folder / f"{names[0]}.pem", self._folder / f"{names[0]}.key")
        leaf.cert_chain_pems[0].write_to_path(str(made.chain))
        leaf.private_key_pem.write_to_path(str(made.private_key))
        return made
