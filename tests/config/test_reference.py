"""The settings' page in `docs/`."""

import re
from pathlib import Path

import pytest

from masqmail.config.reader import settings_of
from masqmail.config.reference import example, settings_page
from masqmail.config.sections import HEADERS
from support.configuration import configuration

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"
ALL = [(header, key) for header, kind in HEADERS.items() for key in settings_of(kind)]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "make it anew: python -m masqmail.config.reference > docs/reference/settings.md"
    )


@pytest.mark.parametrize(("header", "key"), ALL)
def test_each_setting_is_documented_in_a_sentence(header: str, key: str) -> None:
    doc = settings_of(HEADERS[header])[key].metadata["doc"]
    assert re.fullmatch(r"[A-Z`].{5,}[.]", doc), doc
    section = settings_page().partition(f"[{header.partition(',')[0]}]")[2]
    assert f"| `{key}` | {doc} |" in section


def test_the_examples_of_all_sections_load_together() -> None:
    blocks = [example(header) for header in HEADERS if not header.startswith("links.")]
    links = '[links.dsl]\ndetect = "manual"\n[links.umts]\ndetect = "manual"\n'
    text = "\n".join(block.removeprefix("```toml").removesuffix("```") for block in blocks)
    assert configuration(text + links).routes["NAME"].rewrite.from_


@pytest.mark.parametrize("header", [header for header in HEADERS if header.startswith("links.")])
def test_the_example_of_each_detector_loads(header: str) -> None:
    text = example(header).removeprefix("```toml").removesuffix("```")
    assert isinstance(configuration(text).links["NAME"].options, HEADERS[header])
