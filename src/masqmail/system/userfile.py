"""Who may log in to our SMTP server: a file with lines of `name:hash`, which `masqmail passwd` writes."""

from pathlib import Path

MAX_BYTES = 1 << 20


def read_users(path: Path) -> dict[str, str]:
    """The hash of each user's password (see `proto.sasl.verify_password`), by name. Raises `OSError`."""
    with path.open("rb") as file:
        lines = file.read(MAX_BYTES).decode("utf-8", "replace").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith("#"))
    return {name.strip(): password_hash.strip() for name, _, password_hash in pairs}
