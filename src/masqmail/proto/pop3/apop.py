"""APOP: the password proved by an MD5 over the timestamp of the greeting. RFC 1939 §7.

A server, or who stands between, that may choose any bytes for the timestamp can find out the password with
collisions of MD5 (CVE-2007-1558). Those need bytes that no message ID has: so only a true one is answered.

>>> digest(b"<1896.697170952@dbc.mtview.ca.us>", "tanstaaf")
'c4c9334bac560ecc979e58001b3e22fb'
"""

import hashlib
import re
from enum import Enum

_TIMESTAMP = re.compile(rb"<[^>]*>")
_WORD = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+"
_MESSAGE_ID = re.compile(rb"<" + _WORD + rb"@(?:" + _WORD + rb"|\[[A-Za-z0-9.:-]+\])>")  # RFC 5322 §3.6.4


class Weak(Enum):
    """A timestamp that must not be answered."""

    CHALLENGE = "its APOP challenge is no message ID, which can be an attack on the password"


def challenge_of(greeting: bytes) -> bytes | Weak | None:
    """The timestamp in a greeting, None when there is none: then the server does not know APOP."""
    match = _TIMESTAMP.search(greeting)
    if match is None:
        return None
    return match[0] if _MESSAGE_ID.fullmatch(match[0]) else Weak.CHALLENGE


def digest(challenge: bytes, password: str) -> str:
    """What proves the password, in hexadecimal."""
    return hashlib.md5(challenge + password.encode(), usedforsecurity=False).hexdigest()
