"""Old globs as ours, and what two of them have in common.

The old program knew `*`, `?` and `[…]`; ours are `*` and `?`. A bracket becomes one pattern for each of its letters.
"""

import re
from functools import lru_cache
from itertools import product

_BRACKET = re.compile(r"\[([!^]?)(\]?[^\]]*)\]")
_PIECE = re.compile(r"\[[!^]?\]?[^\]]*\]|\\.|.", re.DOTALL)
_MOST = 64


def spread(glob: str) -> tuple[tuple[str, ...], bool]:
    """Patterns that together match what an old glob does, and whether they match more than that."""
    pieces: list[tuple[str, ...]] = []
    is_wider = False
    count = 1
    for piece in _PIECE.findall(glob):
        letters = _letters(piece)
        if not letters or count * len(letters) > _MOST:
            letters, is_wider = ("?",), True
        count *= len(letters)
        pieces.append(letters)
    return tuple(dict.fromkeys("".join(parts) for parts in product(*pieces))), is_wider


def _letters(piece: str) -> tuple[str, ...]:
    """What may stand in the place of one piece of a glob; nothing when we cannot say it."""
    if piece.startswith("\\") and len(piece) == 2:
        return () if piece[1] in "*?" else (piece[1],)
    match = _BRACKET.fullmatch(piece)
    if match is None:
        return (piece,)
    if match[1]:
        return ()
    letters = _members(match[2])
    return () if not set(letters).isdisjoint("*?") or len(letters) > _MOST else letters


def _members(content: str) -> tuple[str, ...]:
    """The letters of a bracket, ranges written out."""
    found: list[str] = []
    index = 0
    while index < len(content):
        if content[index + 1 : index + 2] == "-" and index + 2 < len(content):
            first, last = ord(content[index]), ord(content[index + 2])
            found += [chr(code) for code in range(first, min(last, first + _MOST + 1) + 1)]
            index += 3
        else:
            found.append(content[index])
            index += 1
    return tuple(dict.fromkeys(found))


class TooMany(ValueError):
    """What two globs have in common takes too many patterns to say."""


def common(first: str, second: str) -> tuple[str, ...]:
    """Globs that match exactly what both of these match; none when nothing does. Raises `TooMany`."""
    found = _common(first, second)
    return tuple(glob for glob in found if not any(other != glob and covers(other, glob) for other in found))


@lru_cache(4096)
def _common(first: str, second: str) -> tuple[str, ...]:
    if not first or not second:
        return ("",) if not (first + second).strip("*") else ()
    if len(first) + len(second) > 200:
        raise TooMany
    one, two = first[0], second[0]
    if one == "*" and two == "*":
        found = ["*" + rest for rest in (*_common(first[1:], second), *_common(first, second[1:]))]
    elif one == "*":
        found = [*_common(first[1:], second), *(two + rest for rest in _common(first, second[1:]))]
    elif two == "*":
        found = [*_common(first, second[1:]), *(one + rest for rest in _common(first[1:], second))]
    elif one == two or "?" in (one, two):
        letter = two if one == "?" else one
        found = [letter + rest for rest in _common(first[1:], second[1:])]
    else:
        return ()
    folded = tuple(dict.fromkeys(re.sub(r"\*+", "*", glob) for glob in found))
    if len(folded) > _MOST:
        raise TooMany
    return folded


@lru_cache(4096)
def covers(wide: str, narrow: str) -> bool:
    """Whether a glob surely matches everything that another one does."""
    if not wide:
        return not narrow
    if wide[0] == "*":
        return covers(wide[1:], narrow) or bool(narrow and covers(wide, narrow[1:]))
    if not narrow or narrow[0] == "*":
        return False
    return (wide[0] == "?" or wide[0] == narrow[0]) and covers(wide[1:], narrow[1:])


def common_pattern(first: str, second: str) -> tuple[str, ...]:
    """The same for address patterns: the halves apart, `<>` for the null sender. Raises `TooMany`."""
    if "<>" in (first, second):
        return ("<>",) if {first, second} <= {"<>", "*"} else ()
    if "*" in (first, second):
        return (second if first == "*" else first,)
    one, two = _halves(first), _halves(second)
    domains = common(one[1].lower(), two[1].lower())
    return tuple(
        local if domain == "*" and local != "*" else f"{local}@{domain}"
        for local in common(one[0], two[0])
        for domain in domains
    )


def _halves(pattern: str) -> tuple[str, str]:
    local, at, domain = pattern.rpartition("@")
    return (local, domain) if at else (pattern, "*")
