"""What a host says of its user reaches the programs and the texts that ask for it."""

import pytest

from masqmail.daemon.texts import Texts
from masqmail.mail.template import parse_template
from masqmail.mail.wording import Language
from masqmail.spool.api import TargetKind
from support.assembly import NO_SUCH_USER, Assembly, rules, says, smarthost

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("received_from", "protocol", "host", "user"),
    [
        ("192.168.1.7 ident=bob (printer)", "ESMTP", "192.168.1.7", "bob"),
        ("ann at 192.168.1.7 (printer)", "ESMTPSA", "192.168.1.7", ""),
        ("bob (uid 1000)", "local", "", "bob"),
    ],
)
async def test_a_program_is_told_who_handed_the_message_in(
    received_from: str, protocol: str, host: str, user: str
) -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        recipient = daemon.local("ann", TargetKind.USER)
        await daemon.accept("m1", recipient, received_from=received_from, protocol=protocol)
        (job,) = daemon.agent.jobs
        assert (job.variables.received_host, job.variables.ident) == (host, user)


async def test_a_report_in_own_words_may_name_the_user() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.reporter.texts = Texts(Language.ENGLISH, bounce=parse_template("${ident} on ${received_host}"))
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", received_from="192.168.1.7 ident=bob (x)", protocol="ESMTP")
        assert "\r\n\r\nbob on 192.168.1.7\r\n" in daemon.reports()[-1][1]
