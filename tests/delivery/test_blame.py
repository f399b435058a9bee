"""Each verdict has its culprit; replies about the account are told from replies about the message."""

import pytest

from masqmail.delivery.blame import DISGUISED, LOGIN_CODES, Disguise, account_culprit, outcome_of, refusal
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import Status
from masqmail.proto.smtp.reply import ReplyParser
from masqmail.proto.smtp.transfer import Fate, Step, Verdict

TROUBLE = NotTried(Culprit.SESSION, "mx closed the session: 421 bye", "mx")


def read(reply: str) -> Status:
    """The status as it comes from the wire."""
    parser = ReplyParser()
    parser.receive(reply.encode() + b"\r\n")
    status = parser.next_reply()
    assert status is not None
    return status


def judge(verdict: Verdict, *, takes_dsn: bool = False) -> Outcome:
    return outcome_of(verdict, host="mx", takes_dsn=takes_dsn, trouble=TROUBLE)


@pytest.mark.parametrize(("takes_dsn", "handover"), [(True, Handover.PASSED_ON), (False, Handover.RELAYED)])
def test_what_was_accepted_is_delivered(takes_dsn: bool, handover: Handover) -> None:
    status = Status(250, "2.0.0", "ok")
    verdict = Verdict(Fate.ACCEPTED, Step.CONTENT, status)
    assert judge(verdict, takes_dsn=takes_dsn) == Delivered(status, "mx", handover, "mx took it: 250 2.0.0 ok")


def test_what_was_not_sent_shares_the_trouble_of_the_session() -> None:
    assert judge(Verdict(Fate.NOT_SENT, Step.RCPT)) is TROUBLE


def test_what_is_in_doubt_is_deferred_and_says_so() -> None:
    outcome = judge(Verdict(Fate.IN_DOUBT, Step.CONTENT))
    assert isinstance(outcome, Deferred)
    assert outcome.in_doubt and outcome.status.dsn_code == "4.4.2"
    assert outcome.remote_host == "mx" and not outcome.said_by_peer, "the words are ours"
    assert outcome.reason == (
        "may arrive twice: mx had the whole message and never answered (mx closed the session: 421 bye)"
    )


@pytest.mark.parametrize(
    ("step", "culprit"),
    [
        (Step.CHECK, Culprit.MESSAGE),
        (Step.MAIL, Culprit.SENDER),
        (Step.RCPT, Culprit.RECIPIENT),
        (Step.DATA, Culprit.MESSAGE),
        (Step.CONTENT, Culprit.MESSAGE),
    ],
)
def test_a_refusal_is_judged_by_its_first_digit_and_its_step(step: Step, culprit: Culprit) -> None:
    permanent, temporary = refusal(step, read("559 no"), "mx"), refusal(step, read("459 no"), "mx")
    assert isinstance(permanent, Failed) and isinstance(temporary, Deferred)
    assert permanent.culprit is temporary.culprit is culprit
    assert permanent.reason.startswith("mx ") and permanent.reason.endswith(": 559 no")


def test_what_we_found_out_before_sending_is_not_put_into_the_servers_mouth() -> None:
    found_by_us, said = refusal(Step.CHECK, read("552 5.3.4 too big"), "mx"), refusal(Step.MAIL, read("552 no"), "mx")
    assert isinstance(found_by_us, Failed) and isinstance(said, Failed)
    assert found_by_us.remote_host == said.remote_host == "mx"
    assert (found_by_us.said_by_peer, said.said_by_peer) == (False, True)


@pytest.mark.parametrize("step", [step for step in Step if step is not Step.RSET])
def test_bad_sequence_is_never_the_messages_fault(step: Step) -> None:
    assert isinstance(refusal(step, read("503 5.5.1 bad sequence"), "mx"), Deferred)


@pytest.mark.parametrize("code", sorted(LOGIN_CODES))
def test_a_login_code_is_about_the_login_at_any_step(code: int) -> None:
    outcome = refusal(Step.CONTENT, read(f"{code} 5.7.1 no"), "mx")
    assert outcome == NotTried(Culprit.LOGIN, f"mx wants a login first: {code} 5.7.1 no", "mx")


def test_a_server_that_wants_tls_is_not_said_to_want_a_login() -> None:
    reply = "530 5.7.0 Must issue a STARTTLS command first"
    assert refusal(Step.MAIL, read(reply), "mx") == NotTried(Culprit.TLS, f"mx wants TLS first: {reply}", "mx")


@pytest.mark.parametrize("row", DISGUISED, ids=lambda row: row.example[:30])
def test_every_disguised_reply_is_recognised(row: Disguise) -> None:
    outcome = refusal(Step.RCPT, read(row.example), "mx")
    assert isinstance(outcome, NotTried)
    assert outcome.culprit is row.culprit
    assert row.source.startswith("https://")
    assert sum(bool(other.pattern.search(str(read(row.example)))) for other in DISGUISED) == 1, "rows overlap"


@pytest.mark.parametrize(
    ("reply", "culprit"),
    [
        ("550 5.4.5 Daily sending quota exceeded - gsmtp", Culprit.SESSION),
        ("550 5.7.232 Your message can't be sent because your trial tenant has exceeded …", Culprit.SESSION),
        ("550 smtp auth required", Culprit.LOGIN),
        ("554 5.7.1 Authentication required", Culprit.LOGIN),
        ("503 Error: need EHLO and AUTH first !", Culprit.LOGIN),
        ("530 Must issue a STARTTLS command first", Culprit.TLS),
        ("530 5.7.1 TLS required", Culprit.TLS),
        ("530 5.7.0 This server requires encryption", Culprit.TLS),
        ("530 5.7.0 Authentication required", Culprit.LOGIN),
    ],
)
def test_other_wordings_are_recognised(reply: str, culprit: Culprit) -> None:
    assert account_culprit(read(reply)) is culprit


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.7.1 Relaying denied",
        "550 5.7.1",
        "554 5.7.1 Message rejected as spam",
        "550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
        "550 5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.",
        "550 5.7.1 Rejected: DMARC authentication required by policy of example.org",
        "550 5.4.5 something else",
        "552 5.2.2 Mailbox full",
        "554 5.2.2 mailbox full; STOREDRV.Deliver",
        "450 4.7.1 Authentication required",
        "503 5.5.1 Bad sequence of commands",
    ],
)
def test_a_reply_about_the_message_is_not_mistaken(reply: str) -> None:
    assert account_culprit(read(reply)) is None
