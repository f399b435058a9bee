"""Our server's certificate and key, which may be files that only root can read."""

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from masqmail.config.model import Smtp
from masqmail.daemon.agent import ParentAgent
from masqmail.net.errors import TlsFailure
from masqmail.net.tls import server_context

MAX_FILE_BYTES = 1 << 20


async def load_certificate(smtp: Smtp, parent: ParentAgent | None) -> ssl.SSLContext | None:
    """The TLS context of our server, or None when there is no certificate. Raises `TlsFailure`."""
    if smtp.certificate is None:
        return None
    if parent is None:
        return server_context(smtp.certificate, smtp.private_key)
    async with AsyncExitStack() as stack:
        certificate = await stack.enter_async_context(_copied(smtp.certificate, parent))
        private_key = smtp.private_key and await stack.enter_async_context(_copied(smtp.private_key, parent))
        try:
            return server_context(certificate, private_key)
        except TlsFailure as error:
            reason = error.reason.replace(str(certificate), str(smtp.certificate))
            raise TlsFailure(reason.replace(str(private_key), str(smtp.private_key))) from error


@asynccontextmanager
async def _copied(path: Path, parent: ParentAgent) -> AsyncIterator[Path]:
    """A copy in memory of what the parent may read: OpenSSL wants a name, and opening one checks rights anew."""
    try:
        source = await parent.open_secret(str(path))
    except OSError as error:
        raise TlsFailure(f"{path} cannot be read: {error.strerror or error}") from error
    with os.fdopen(source, "rb") as file:
        content = file.read(MAX_FILE_BYTES)
    copy = os.memfd_create("certificate")
    try:
        os.write(copy, content)
        yield Path(f"/proc/self/fd/{copy}")
    finally:
        os.close(copy)
