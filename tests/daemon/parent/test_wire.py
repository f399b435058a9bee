"""What goes over the socket pair comes out as it went in, and nothing else comes out at all."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masqmail.daemon.parent import wire
from masqmail.daemon.parent.payload import decode_job, decode_outcome, encode_job, encode_outcome
from masqmail.delivery.job import LocalJob
from masqmail.delivery.variables import Variables
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import Status
from masqmail.spool.api import TargetKind

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
JOBS = st.builds(
    LocalJob,
    st.sampled_from(TargetKind),
    TEXT,
    TEXT,
    st.builds(Variables, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT, TEXT),
    TEXT,
    st.booleans(),
    st.booleans(),
    st.integers(0, 1 << 40),
    st.booleans(),
)
OUTCOMES: list[Outcome] = [
    Delivered(Status(250, "2.0.0", "Delivered to /var/mail/bob"), handover=Handover.MAILBOX),
    Delivered(Status(250, "2.0.0", "x"), handover=Handover.MAILBOX, reason="was there"),
    Deferred(Status(452, "4.3.1", "disk full"), Culprit.LOCAL, "disk full"),
    Failed(Status(554, "5.1.1", "ünknown"), Culprit.RECIPIENT, "ünknown"),
    Delivered(Status(250, "2.0.0", "to a route's program"), handover=Handover.RELAYED),
    Deferred(Status(451, "4.4.2", "broke"), Culprit.CONNECTION, "may arrive twice", in_doubt=True),
    NotTried(Culprit.CONNECTION, "cannot connect to /run/lmtp"),
]
JOB = LocalJob(TargetKind.MAILBOX, "bob", "0a.1", Variables(user="bob"))


@given(JOBS)
def test_a_job_comes_out_as_it_went_in(job: LocalJob) -> None:
    assert decode_job(encode_job(job)) == job


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_comes_out_as_it_went_in(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome)) == outcome


def test_the_words_of_a_program_are_made_plain_and_short() -> None:
    deferred = Deferred(Status(451, "4.3.0", "a\0b\n" + "x" * 5000), Culprit.LOCAL, "a\0b\n" + "x" * 5000)
    outcome = decode_outcome(encode_outcome(deferred))
    assert isinstance(outcome, Deferred)
    assert (len(outcome.reason), outcome.reason[:5], outcome.status.text[:5]) == (1000, "a b x", "a b x")


def test_requests_and_replies_have_numbers() -> None:
    request = wire.Request(7, wire.Verb.OPEN, b"/etc/x")
    assert vars(wire.unpack_request(wire.pack_request(request))) == vars(request)
    assert wire.unpack_reply(wire.pack_reply(7, b"y")) == (7, b"y")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "door"},
        {"target": 7},
        {"target": "a\nb"},
        {"target": "\ud800"},
        {"target": "x" * 5000},
        {"variables": {}},
        {"variables": None},
        {"identity": None},
        {"size_bytes": "many"},
    ],
)
def test_a_job_with_anything_odd_is_refused(change: dict[str, object]) -> None:
    values = {**asdict(JOB), "kind": "mailbox", **change}
    with pytest.raises(wire.WireError):
        decode_job(json.dumps(values).encode())


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: json.dumps([text]).encode()))
def test_garbage_is_refused(garbage: bytes) -> None:
    for read in (decode_job, decode_outcome):
        with pytest.raises(wire.WireError):
            read(garbage)
    try:
        wire.unpack_request(garbage)
    except wire.WireError:
        assert len(garbage) < 9 or garbage[8] not in (1, 2, 3)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(wire.WireError):
        decode_job(b"[" * 30000)
