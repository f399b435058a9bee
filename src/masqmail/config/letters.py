"""Domains with letters beyond ASCII, and how they are written where only A-labels are understood."""


def a_labels(domain: str) -> str:
    """The domain, or a glob for some, in A-labels (RFC 5891 §4); a label that has no such form stays."""
    return ".".join(label if label.isascii() else _a_label(label) for label in domain.split("."))


def _a_label(label: str) -> str:
    from masqmail.net.dns import to_ascii  # few configurations have such letters
    from masqmail.net.errors import NameFailure

    try:
        return to_ascii(label)
    except NameFailure:
        return label
