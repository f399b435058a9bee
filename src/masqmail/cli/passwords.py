"""The file of those who may log in to our SMTP server: lines of `name:hash`."""

import os
from pathlib import Path

from masqmail.proto.sasl import hash_password


def set_password(path: Path, user: str, password: str) -> None:
    """Writes the file anew with this user's line changed or added, readable by its owner and group only."""
    if not user or ":" in user or "\n" in user:
        raise ValueError("a user name is not empty and has no colon or line end")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.partition(":")[0] != user]
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o640)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join([*kept, f"{user}:{hash_password(password)}"]) + "\n")
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        before = path.stat()
        os.chown(temporary, before.st_uid, before.st_gid)
        temporary.chmod(before.st_mode & 0o777)
    temporary.replace(path)
