"""Who an address is, and which routes fit it."""

import pytest

from masqmail.daemon.directory import LOCAL_CLASS, UNMARKED, Marks
from masqmail.mail.address import parse_mailbox
from masqmail.mail.envelope import Notify, Recipient
from masqmail.routing.alias import expand
from masqmail.routing.decide import MessageFacts
from masqmail.routing.route import QUEUE_ONLY, Conditions, RouteClass
from masqmail.settings import Pattern
from masqmail.spool.api import NewRecipient, TargetKind
from masqmail.spool.states import State
from support.assembly import Assembly, rules, smarthost

BY_FROM = smarthost("by-from", conditions=Conditions(from_headers=(Pattern("*@home.example"),)))
FACTS = MessageFacts(parse_mailbox("ann@home.example"), (), 100)


def targets(daemon: Assembly, address: str, marks: Marks = UNMARKED) -> list[NewRecipient]:
    recipient = Recipient(parse_mailbox(address), Notify.FAILURE, "rfc822;original@home.example")
    expansion = expand(recipient.mailbox, daemon.directory.book())
    return [found for _, found in daemon.directory.targets(recipient, expansion, FACTS, marks)]


def test_a_remote_address_gets_its_class_and_domain() -> None:
    (found,) = targets(Assembly(rules(smarthost())), "Bob@Far.Example", Marks(remote=QUEUE_ONLY))
    assert (found.kind, found.target, found.domain) == (TargetKind.REMOTE, "Bob@Far.Example", "far.example")
    assert found.route_class == RouteClass(("isp",), mark=QUEUE_ONLY, generation="1")
    assert (found.notify, found.orcpt) == (Notify.FAILURE, "rfc822;original@home.example")


def test_a_user_gets_the_local_class_and_an_unknown_one_fails() -> None:
    daemon = Assembly(rules(smarthost()))
    (ann,) = targets(daemon, "ann")
    assert (ann.kind, ann.target, ann.original, ann.route_class) == (
        TargetKind.MAILBOX,
        "ann",
        "ann@gw.home.example",
        LOCAL_CLASS,
    )
    (gone,) = targets(daemon, "gone@home.example")
    assert (gone.state, gone.status and gone.status.enhanced) == (State.FAILED, "5.1.1")


def test_the_postmaster_is_whoever_the_configuration_names() -> None:
    (found,) = targets(Assembly(rules(postmaster=parse_mailbox("joe"))), "PostMaster@home.example")
    assert found.target == "joe"


def test_an_account_that_cannot_be_looked_up_now_is_no_unknown_one() -> None:
    daemon = Assembly(rules())
    daemon.accounts.failure = OSError("the directory server is away")
    with pytest.raises(OSError):
        targets(daemon, "ann@home.example")


@pytest.mark.anyio
async def test_the_class_of_a_stored_recipient_follows_todays_rules_and_keeps_its_mark() -> None:
    daemon = Assembly(rules(BY_FROM, smarthost()))
    header = b"From: ann@home.example\r\n"
    bob = daemon.remote("bob@far.example", mark=QUEUE_ONLY)
    await daemon.accept("m1", bob, daemon.local("ann"), header=header, tell=False)
    queued = await daemon.spool.find("m1")
    assert queued is not None
    remote, local = queued.recipients
    assert remote.route_class.routes == ("isp",)
    assert daemon.directory.class_of_stored(queued.message, remote) == RouteClass(
        ("by-from", "isp"), mark=QUEUE_ONLY, generation="1"
    )
    assert daemon.directory.class_of_stored(queued.message, local) == LOCAL_CLASS
