"""In whose words people are told, and what happens to words that cannot be used."""

import logging
from pathlib import Path

import pytest

from masqmail.config.model import Notices
from masqmail.daemon.texts import Texts, texts_of
from masqmail.mail.template import parse_template
from masqmail.mail.wording import Action, Language
from masqmail.settings import TemplateSource
from support.assembly import HOUR, NO_SUCH_USER, Assembly, rules, says, smarthost


def test_the_built_in_texts_are_english() -> None:
    assert texts_of(Notices()) == Texts()
    assert Texts().words.language is Language.ENGLISH
    assert [Texts().template_for(action) for action in Action] == [None] * len(Action)


def test_templates_come_from_a_file_or_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "bounce.txt").write_text("Sorry, ${sender_local}.")
    texts = texts_of(
        Notices(
            bounce_template=TemplateSource(path=tmp_path / "bounce.txt"),
            warning_template=TemplateSource("Wait, ${sender_local}.\n"),
            language=Language.FRENCH,
        )
    )
    assert texts.template_for(Action.FAILED) == parse_template("Sorry, ${sender_local}.")
    assert texts.template_for(Action.DELAYED) == parse_template("Wait, ${sender_local}.")
    assert texts.template_for(Action.RELAYED) is None
    assert texts.words.language is Language.FRENCH


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"\xff", "it is no UTF-8 text"),
        (b"${recipent}", "line 1 has ${recipent}"),
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_built_in_text_and_a_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "bounce.txt"
    if content is not None:
        file.write_bytes(content)
    assert texts_of(Notices(bounce_template=TemplateSource(path=file))) == Texts()
    ((record),) = caplog.records
    assert (record.message, record.levelno) == ("template faulty", logging.WARNING)
    assert record.fields == {"file": str(file), "reason": reason}  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_reports_warnings_and_notices_are_in_the_language_and_words_of_the_configuration() -> None:
    async with Assembly(rules(smarthost())).running() as daemon:
        daemon.reporter.texts = Texts(
            Language.GERMAN,
            bounce=parse_template("Lieber ${sender_local}: ${reasons} (${received_host})"),
            warning=parse_template("${recipient} wartet noch."),
        )
        daemon.peers.answer = says(NO_SUCH_USER)
        await daemon.accept("m1", "bob@far.example", received_from="192.168.1.7 (printer)", protocol="ESMTP")
        _, bounce = daemon.reports()[-1]
        assert "Subject: Ihre Nachricht konnte nicht zugestellt werden\r\n" in bounce
        assert "\r\n\r\nLieber ann: bob@far.example: 550 5.1.1 No such user (192.168.1.7)\r\n" in bounce
        daemon.peers.answer = says(NO_SUCH_USER.__class__(450, "4.2.1", "Later"))
        await daemon.accept("m2", "bob@far.example")
        await daemon.advance(5 * HOUR, HOUR)
        assert "\r\n\r\nbob@far.example wartet noch.\r\n" in daemon.reports()[-1][1]


@pytest.mark.anyio
async def test_a_notice_is_in_the_language_of_the_configuration() -> None:
    async with Assembly(rules()).running() as daemon:
        daemon.reporter.texts = Texts(Language.ITALIAN)
        await daemon.accept("m1", "bob@far.example")
        await daemon.housekeeper.look_around()
        await daemon.settle()
        ((_, notice),) = daemon.reports()
        assert "Subject: =?utf-8?q?Posta_a_cui_nessuna_via_=C3=A8_destinata?=\r\n" in notice
        assert "Content-Language: it\r\n" in notice
