"""Whose fault a refusal was: from the verdict of a transaction to the outcome for a recipient.

A reply is judged by its first digit and the command it answers. Some permanent replies speak of the account,
the login or TLS and not of this message: their codes, or their texts in `DISGUISED`, say so. Those cost
the message nothing and pause the next hop.
"""

import re

from masqmail.frozen import frozen
from masqmail.mail.outcome import Culprit, Deferred, Delivered, Failed, Handover, NotTried, Outcome
from masqmail.mail.status import Status
from masqmail.proto.smtp.client import SHUTTING_DOWN_CODE
from masqmail.proto.smtp.transfer import Fate, Step, Verdict

#: RFC 4954 §6: log in first, a stronger mechanism or encryption is needed, wrong credentials.
LOGIN_CODES = frozenset({530, 534, 535, 538})

#: RFC 5321 §4.2.4: "bad sequence of commands" speaks of the session, whatever its first digit says.
_OUT_OF_SEQUENCE_CODE = 503

_IN_DOUBT = Status(451, "4.4.2", "The connection broke before the message was answered")  # RFC 3463 §3.5

_CULPRITS = {
    Step.CHECK: Culprit.MESSAGE,
    Step.RSET: Culprit.SESSION,
    Step.MAIL: Culprit.SENDER,
    Step.RCPT: Culprit.RECIPIENT,
    Step.DATA: Culprit.MESSAGE,
    Step.CONTENT: Culprit.MESSAGE,
}


@frozen
class Disguise:
    """A permanent reply that means something else. `example` is one as seen; `source` says where."""

    pattern: re.Pattern[str]  # searched in the reply as `str(Status)` writes it
    culprit: Culprit
    example: str
    source: str


def _disguise(pattern: str, culprit: Culprit, example: str, source: str) -> Disguise:
    return Disguise(re.compile(pattern, re.IGNORECASE), culprit, example, source)


#: Replies with a 5xx on quotas, or that want a login or TLS first. Never a bare 5.7.1: that also means "spam".
DISGUISED = (
    _disguise(
        r"^550 5\.4\.5 daily .*(limit|quota) exceeded",
        Culprit.SESSION,
        "550 5.4.5 Daily user sending limit exceeded. For more information on Gmail sending limits go to …",
        "https://support.google.com/a/answer/3726730",
    ),
    _disguise(
        r"^550 5\.7\.23[23] ",
        Culprit.SESSION,
        "550 5.7.233 Your message can't be sent because your tenant exceeded its daily limit for sending email "
        "to external recipients (tenant external recipient rate limit)",
        "https://learn.microsoft.com/en-us/troubleshoot/exchange/email-delivery/ndr/"
        "non-delivery-reports-in-exchange-online",
    ),
    _disguise(
        r"^554 5\.\d+\.\d+ STOREDRV\.Submission\.Exception:SubmissionQuotaExceeded",
        Culprit.SESSION,
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
        "https://learn.microsoft.com/en-us/office365/servicedescriptions/exchange-online-service-description/"
        "exchange-online-limits",
    ),
    _disguise(
        r"^550 5\.7\.30 ",
        Culprit.LOGIN,
        "550 5.7.30 Basic authentication is not supported for Client Submission",
        "https://learn.microsoft.com/en-us/exchange/clients-and-mobile-in-exchange-online/"
        "deprecation-of-basic-authentication-exchange-online",
    ),
    _disguise(
        r"^55\d (5\.[57]\.\d+ )?(smtp )?auth(entication)? (is )?required\b",
        Culprit.LOGIN,
        "550 Authentication is required for relay",
        "https://github.com/4IceG/luci-app-sms-tool-js/issues/45",
    ),
    _disguise(
        r"^503 (5\.5\.\d+ )?(error: )?(send auth command first|need ehlo and auth first)",
        Culprit.LOGIN,
        "503 5.5.4 Error: send AUTH command first.",
        "https://github.com/muquit/mailsend/issues/159",
    ),
    _disguise(
        r"^530 .*(\bSTARTTLS\b|\b(TLS|encryption) (is )?(required|needed)\b|\brequires? (TLS|encryption)\b)",
        Culprit.TLS,
        "530 5.7.0 Must issue a STARTTLS command first",
        "https://www.rfc-editor.org/rfc/rfc3207#section-4",
    ),
)


def outcome_of(verdict: Verdict, *, host: str, takes_dsn: bool, trouble: NotTried | Deferred) -> Outcome:
    """What a verdict means for its recipient. `trouble` is why what was not sent could not be."""
    match verdict.fate:
        case Fate.ACCEPTED:
            assert verdict.status is not None
            handover = Handover.PASSED_ON if takes_dsn else Handover.RELAYED  # RFC 3461 §5.2.1
            return Delivered(verdict.status, host, handover, f"{host} took it: {verdict.status}")
        case Fate.NOT_SENT:
            return trouble
        case Fate.IN_DOUBT:
            reason = f"may arrive twice: {host} had the whole message and never answered ({trouble.reason})"
            return Deferred(_IN_DOUBT, Culprit.CONNECTION, reason, host, in_doubt=True)
        case Fate.REFUSED:
            assert verdict.status is not None
            return refusal(verdict.step, verdict.status, host)


def refusal(step: Step, status: Status, host: str) -> Failed | Deferred | NotTried:
    """What a 4yz or 5yz reply at some step of a transaction means; at `Step.CHECK` the reply is our own."""
    if (culprit := account_culprit(status)) is not None:
        return NotTried(culprit, f"{host} {_ACCOUNT_WORDS[culprit]}: {status}", host)
    culprit, reason = _CULPRITS[step], f"{host} {_WORDS[step]}: {status}"
    said_by_peer = step is not Step.CHECK
    if status.is_permanent and status.code != _OUT_OF_SEQUENCE_CODE:
        return Failed(status, culprit, reason, host, said_by_peer)
    return Deferred(status, culprit, reason, host, said_by_peer)


def is_answer(verdict: Verdict) -> bool:
    """Whether the server judged a recipient; a 421 judges the session."""
    is_421 = verdict.status is not None and verdict.status.code == SHUTTING_DOWN_CODE
    return verdict.fate in (Fate.ACCEPTED, Fate.REFUSED) and verdict.step is not Step.CHECK and not is_421


def account_culprit(status: Status) -> Culprit | None:
    """TLS, LOGIN or SESSION when the reply is about the account and not about a message, else None."""
    if not status.is_permanent:
        return None
    text = str(status)
    by_code = Culprit.LOGIN if status.code in LOGIN_CODES else None
    return next((row.culprit for row in DISGUISED if row.pattern.search(text)), by_code)


_ACCOUNT_WORDS = {
    Culprit.TLS: "wants TLS first",
    Culprit.LOGIN: "wants a login first",
    Culprit.SESSION: "takes no more from this account for now",
}

_WORDS = {
    Step.CHECK: "cannot be given this message",
    Step.RSET: "did not reset",
    Step.MAIL: "refused the sender",
    Step.RCPT: "refused the recipient",
    Step.DATA: "refused the message",
    Step.CONTENT: "refused the message",
}
