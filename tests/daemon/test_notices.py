"""The real daemon tells people in the language and words of its configuration, and no more often than it may."""

import email
from email import policy
from email.message import EmailMessage
from pathlib import Path

import anyio
import pytest

from masqmail.daemon.reportcap import MAX_TO_ONE
from masqmail.daemon.reports import HELD_BACK
from masqmail.routing.link import LinkState
from masqmail.spool.states import State
from support.inprocess import PATIENCE_SECONDS, USER, House, Tenant
from support.mail import message
from support.ports import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NOTICES = """bounce_on_connect_error = true
[notices]
language = "fr"
bounce_template = "bounce.txt"
"""


async def letters(house: House, number: int) -> list[EmailMessage]:
    """The mailbox when so many are in it."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(found := house.mailbox()) < number:
            await anyio.sleep(0.01)
    assert len(found) == number
    read = [email.message_from_bytes(letter, policy=policy.default) for letter in found]
    assert all(isinstance(letter, EmailMessage) for letter in read)
    return read  # type: ignore[return-value]


def text_of(report: EmailMessage) -> str:
    part = next(report.iter_parts())
    assert isinstance(part, EmailMessage)
    return str(part.get_content()).replace("\r\n", "\n")


async def bounce(tenant: Tenant, name: str) -> None:
    """Has one message refused: nobody answers at the provider's port."""
    await tenant.submit(["ann@example.net"], message(name))
    await tenant.daemon.manual_links.declare("line", LinkState.UP)


async def test_a_template_counts_from_the_next_reload_and_a_bad_one_not_at_all(tmp_path: Path) -> None:
    template = tmp_path / "bounce.txt"
    template.write_text("Désolé, ${sender_local}: ${recipient} n'a rien reçu.\n")
    house = House(tmp_path, f"127.0.0.1:{free_port()}", NOTICES)
    async with house.daemon() as tenant:
        await bounce(tenant, "first")
        (first,) = await letters(house, 1)
        assert first["Subject"] == "Votre message n'a pas pu être remis"
        assert first["Content-Language"] == "fr"
        assert text_of(first) == f"Désolé, {USER}: ann@example.net n'a rien reçu.\n"

        template.write_text("Now ${queue_id}")
        await tenant.daemon.reconfigure(house.configuration())
        await bounce(tenant, "second")
        texts = {text_of(letter) for letter in await letters(house, 2)} - {text_of(first)}
        assert [text.startswith("Now 1") for text in texts] == [True]

        template.write_text("${nobody_knows_this}")
        await tenant.daemon.reconfigure(house.configuration())
        await bounce(tenant, "third")
        assert any("Ici le serveur de messagerie" in text_of(letter) for letter in await letters(house, 3))


async def test_held_reports_survive_a_restart_and_go_when_they_are_released(tmp_path: Path) -> None:
    house = House(tmp_path, f"127.0.0.1:{free_port()}", "bounce_on_connect_error = true\n")
    async with house.daemon() as tenant:
        for _ in range(MAX_TO_ONE):
            tenant.daemon.reporter.cap.takes(f"{USER}@laptop.example.org".lower())
        await bounce(tenant, "one too many")
        held = await tenant.until(lambda found: USER in found)
        assert (held[USER].state, held[USER].reason) == (State.HELD, HELD_BACK)
        await tenant.daemon.housekeeper.look_around()
        (notice,) = await letters(house, 1)
        assert notice["Subject"] == "Reports are held back"
        assert f"  {USER}@laptop.example.org: 1" in str(notice.get_content())
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(await tenant.daemon.spool.listing()) > 1:  # the notice is there, but not yet written down
                await anyio.sleep(0.01)
    async with house.daemon() as tenant:
        (queued,) = await tenant.daemon.spool.listing()
        assert [item.state for item in queued.recipients] == [State.HELD]
        events = [entry.event for entry in await tenant.daemon.spool.history(queued.message.queue_id)]
        assert events == ["received", "held"]
        assert await tenant.daemon.spool.release([queued.message.queue_id]) == 1
        tenant.daemon.scheduler.wake()
        assert {letter["Subject"] for letter in await letters(house, 2)} >= {"Your message could not be delivered"}
