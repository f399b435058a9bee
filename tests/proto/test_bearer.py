"""Log-ins with a token."""

import pytest

from masqmail.proto import sasl
from masqmail.proto.errors import PeerError
from masqmail.proto.sasl import Credentials, Secret

ANN = Credentials("ann@example.org", Secret("vF9dft4qmT"))


def test_oauthbearer_says_all_at_once_and_answers_an_error() -> None:
    """RFC 7628 §4.1, without the host and port that are optional, and §4.3."""
    bearer = sasl.client_mechanism("OAUTHBEARER", ANN)
    assert bearer.initial() == b"n,a=ann@example.org,\x01auth=Bearer vF9dft4qmT\x01\x01"
    assert bearer.may_end
    assert bearer.respond(b'{"status":"invalid_token"}') == b"\x01"
    with pytest.raises(PeerError):
        bearer.respond(b"")


def test_xoauth2_says_all_at_once_and_answers_an_error_with_nothing() -> None:
    bearer = sasl.client_mechanism("XOAUTH2", ANN)
    assert bearer.initial() == b"user=ann@example.org\x01auth=Bearer vF9dft4qmT\x01\x01"
    assert bearer.respond(b'{"status":"401"}') == b""
    with pytest.raises(PeerError):
        bearer.respond(b"")


def test_a_name_cannot_break_out_of_its_place() -> None:
    odd = sasl.client_mechanism("OAUTHBEARER", Credentials("a=b,c", Secret("t")))
    assert (odd.initial() or b"").startswith(b"n,a=a=3Db=2Cc,\x01")
