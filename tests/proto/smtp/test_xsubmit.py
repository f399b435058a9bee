"""What the parameters of our own extension ask for."""

import pytest

from masqmail.mail.envelope import Notify
from masqmail.proto.errors import PeerError
from masqmail.proto.smtp.parameters import parse_parameters
from masqmail.proto.smtp.xsubmit import ASKS_NOTHING, XSUBMIT_PARAMETERS, XSubmit, read_xsubmit


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("", ASKS_NOTHING),
        ("SIZE=1 BODY=7BIT", ASKS_NOTHING),
        ("XSELF", XSubmit(is_self=True)),
        ("XHEADERRCPTS", XSubmit(header_recipients=True)),
        ("XHEADERRCPTS=never", XSubmit(header_recipients=True, header_notify=Notify.NEVER)),
        ("XHEADERRCPTS=DELAY", XSubmit(header_recipients=True, header_notify=Notify.DELAY)),
        ("XFULLNAME=Ann+20+C3+84", XSubmit(full_name="Ann Ä")),
        ("XQUEUEONLY", XSubmit(queue_only=True)),
        (" ".join(sorted(XSUBMIT_PARAMETERS - {"XFULLNAME"})), XSubmit(True, True, None, "", True)),
    ],
)
def test_each_parameter_is_one_wish(text: str, asked: XSubmit) -> None:
    assert read_xsubmit(parse_parameters(text)) == asked


@pytest.mark.parametrize(
    "text", ["XSELF=yes", "XQUEUEONLY=1", "XFULLNAME", "XFULLNAME=+0D", "XFULLNAME=+FF", "XHEADERRCPTS=perhaps"]
)
def test_a_value_that_makes_no_sense_is_refused_as_an_argument(text: str) -> None:
    with pytest.raises(PeerError) as caught:
        read_xsubmit(parse_parameters(text))
    assert str(caught.value).startswith("501 5.5.4")
