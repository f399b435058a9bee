"""What the documents promise: links that lead somewhere, commands and settings that exist."""

import argparse
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from masqmail.cli.parser import build_parser
from masqmail.config.load import parse
from masqmail.config.surroundings import Surroundings

ROOT = Path(__file__).parent.parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]

LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(masqmail [^`\n]*)`")

#: Commands of INTERFACE.md that this version does not have yet; the documents may name them as such.
PLANNED = {"init"}


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def blocks(text: str, language: str) -> list[str]:
    return [found[2] for found in BLOCK.finditer(text) if found[1] == language]


def typed_lines(text: str) -> list[str]:
    """What the sessions in a page show as typed."""
    lines = "".join(blocks(text, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def anchors(page: Path) -> set[str]:
    """The names that headings get on a web page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sub_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def is_known(words: list[str]) -> bool:
    """Whether words after `masqmail` begin with a command, whatever options stand before it."""
    words = [word for word in words if re.fullmatch(r"[a-z][a-z-]*", word)]
    return not words or words[0] in PLANNED or words[0] in sub_commands(build_parser())


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_that_is_typed_is_understood(page: Path) -> None:
    """With all its options; what comes before and behind in a pipe does not matter."""
    parser = build_parser()
    wrong = []
    for line in typed_lines(page.read_text()):
        for part in line.split("|"):
            words = shlex.split(part, comments=True)
            if words[:1] != ["masqmail"] or words[1:] == ["--version"]:
                continue
            errors = io.StringIO()
            with contextlib.redirect_stderr(errors):
                try:
                    parser.parse_args(words[1:])
                except SystemExit:
                    wrong.append(f"{part}: {errors.getvalue()}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_that_is_named_exists(page: Path) -> None:
    mentioned = SPAN.findall(BLOCK.sub("", page.read_text()))
    assert [text for text in mentioned if not is_known(text.split()[1:])] == []


CONFIGURATIONS = [
    pytest.param(text, id=f"{page.relative_to(ROOT)} {number}")
    for page in PAGES
    for number, text in enumerate(blocks(page.read_text(), "toml"), 1)
    if "[host]" in text and "[routes." in text
]


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_every_whole_configuration_is_one(text: str) -> None:
    found = parse(text.encode(), Path("/etc/masqmail/masqmail.toml"), Surroundings.of_this_process({}))
    assert found.routes


def test_the_first_two_commands_of_the_readme_are_make_run_and_make_test() -> None:
    assert typed_lines((ROOT / "README.md").read_text())[:2] == ["make run", "make test"]


def test_the_makefile_knows_what_the_documents_say() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z]+)`|^\$ make ([a-z]+)$", "".join(page.read_text() for page in PAGES), re.M))
    assert {first or second for first, second in named} <= targets


def test_the_index_names_every_document() -> None:
    index = ROOT / "docs/README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    assert [str(page) for page in DOCS if page != index and page.resolve() not in linked] == []


def test_a_command_that_is_none_is_noticed() -> None:
    assert not is_known(["quue", "list"])
    assert is_known(["queue", "list"])
