"""XSUBMIT, an extension of our own: what `sendmail` asks for beside the message.

Only the submission socket offers it; elsewhere its parameters are as unknown as any other. They are described in
docs/reference/sendmail.md. A client that uses XHEADERRCPTS may send the message right after MAIL. Addresses beyond
ASCII need no SMTPUTF8: that would also declare the header, of which `sendmail` knows nothing.
"""

from collections.abc import Mapping

from masqmail.frozen import frozen
from masqmail.mail.envelope import Notify
from masqmail.mail.status import BAD_ARGUMENTS
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.parameters import decode_utf8_xtext, read_notify

#: The parameters of MAIL that come with it.
XSUBMIT_PARAMETERS = frozenset({"XSELF", "XHEADERRCPTS", "XFULLNAME", "XQUEUEONLY"})


@frozen
class XSubmit:
    """What the parameters of one MAIL ask for; nothing by default."""

    is_self: bool = False  # the reverse-path, here null, is the submitter's own address
    header_recipients: bool = False  # those in To, Cc and Bcc are recipients, too
    header_notify: Notify | None = None  # their NOTIFY
    full_name: str = ""  # for a From field that is missing
    queue_only: bool = False  # wait until somebody flushes the queue


ASKS_NOTHING = XSubmit()


def read_xsubmit(given: Mapping[str, str | None]) -> XSubmit:
    """Reads them out of all parameters of a MAIL. Raises `PeerError` for a value that makes no sense."""
    if XSUBMIT_PARAMETERS.isdisjoint(given):
        return ASKS_NOTHING
    if given.get("XSELF") is not None or given.get("XQUEUEONLY") is not None:
        raise PeerError(BAD_ARGUMENTS.with_text("XSELF and XQUEUEONLY have no value"))
    notify, name = given.get("XHEADERRCPTS"), given.get("XFULLNAME", "")
    if name is None:
        raise PeerError(BAD_ARGUMENTS.with_text("XFULLNAME needs a value"))
    return XSubmit(
        is_self="XSELF" in given,
        header_recipients="XHEADERRCPTS" in given,
        header_notify=None if notify is None else read_notify(notify),
        full_name=decode_utf8_xtext(name),
        queue_only="XQUEUEONLY" in given,
    )
