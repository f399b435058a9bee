"""Sizes as people say them."""


def in_words(size_bytes: int) -> str:
    """A size in powers of 1000: "14 KB", "1.2 MB"."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    value = float(size_bytes)
    for unit in ("KB", "MB", "GB"):
        value /= 1000
        if value < 999.5 or unit == "GB":
            break
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
