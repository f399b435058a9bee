"""The file of those who may log in to our SMTP server: lines of `name:hash`."""

import os
from contextlib import suppress
from pathlib import Path

from masqmail.proto.sasl import hash_password


def set_password(path: Path, user: str, password: str, *, gid: int = -1) -> None:
    """Writes the file anew with this user's line changed or added, readable by its owner and group only.

    A new file gets the group `gid`; one that is there keeps its owner, group and mode. Raises `ValueError` for a
    name that cannot stand in the file, and `OSError`.
    """
    if not user.isprintable() or user != user.strip() or not user or ":" in user or user.startswith("#"):
        raise ValueError(f"{user!r} is no user name: it has no colon, no blanks around it, and begins with no #")
    before = path.stat() if path.exists() else None
    lines = path.read_text("utf-8", "surrogateescape").splitlines() if before else []
    kept = [line for line in lines if line.partition(":")[0].strip() != user]
    content = "".join(f"{line}\n" for line in [*kept, f"{user}:{hash_password(password)}"])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(content)
            os.fchown(descriptor, before.st_uid if before else -1, before.st_gid if before else gid)
            os.fchmod(descriptor, before.st_mode & 0o777 if before else 0o640)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
