"""The messages between the daemon and its privileged parent: one packet each, over a socket pair.

A request is a number, a verb and a payload, with file descriptors beside it; a reply is the request's number
and a payload. The daemon is not trusted: whatever it sends is read here or refused with `WireError`, and every
part has a bound. Jobs and outcomes, which only some packets carry, are in `payload`.
"""

import struct
from enum import IntEnum

MAX_PACKET_BYTES = 32768
MAX_DESCRIPTORS = 2  # of a request: header section and small body, big body
MAX_REPLY_DESCRIPTORS = 16  # one name may have many addresses to listen at
MAX_REASON_CHARACTERS = 1000

_REQUEST = struct.Struct("!QB")
_REPLY = struct.Struct("!Q")


class WireError(Exception):
    """The other side sent what it never should; the message says what."""


class Verb(IntEnum):
    """What the daemon may ask for."""

    DELIVER = 1  # a job, and its content as descriptors
    LISTEN = 2  # an address of the configuration; answered with sockets
    OPEN = 3  # a secret file of the configuration; answered with a descriptor
    READ = 4  # the configuration anew; answered when it is beside the one in force
    ADOPT = 5  # what was read last counts from now on


class Request:
    """One packet of the daemon."""

    def __init__(self, number: int, verb: Verb, payload: bytes) -> None:
        self.number = number
        self.verb = verb
        self.payload = payload


def pack_request(request: Request) -> bytes:
    return _REQUEST.pack(request.number, request.verb) + request.payload


def unpack_request(packet: bytes) -> Request:
    try:
        number, verb = _REQUEST.unpack_from(packet)
        return Request(number, Verb(verb), packet[_REQUEST.size :])
    except (struct.error, ValueError) as error:
        raise WireError("a packet that is no request") from error


def pack_reply(number: int, payload: bytes) -> bytes:
    return _REPLY.pack(number) + payload


def unpack_reply(packet: bytes) -> tuple[int, bytes]:
    try:
        return _REPLY.unpack_from(packet)[0], packet[_REPLY.size :]
    except struct.error as error:
        raise WireError("a packet that is no reply") from error


def encode_fault(text: str) -> bytes:
    """The payload of a reply to all but DELIVER: what went wrong, or nothing."""
    return text.encode("utf-8", "replace")[:MAX_REASON_CHARACTERS]
