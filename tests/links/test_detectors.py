"""What holds for every detector in the table."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from masqmail.links import DETECTORS
from masqmail.links.detector import DetectorKind
from masqmail.settings import Command
from masqmail.system.clock import FakeClock

REFERENCE = Path(__file__).parents[2] / "docs/reference/links.md"
EXAMPLES = {"path": Path("/nowhere/connection"), "interface": "ppp0", "command": Command(("/bin/true",))}


@pytest.mark.parametrize(("name", "kind"), DETECTORS.items())
def test_each_detector_is_in_a_module_of_its_name(name: str, kind: DetectorKind) -> None:
    assert getattr(kind, "__module__", "") == f"masqmail.links.{name}"


@pytest.mark.parametrize(("name", "kind"), DETECTORS.items())
def test_each_detector_and_each_of_its_settings_is_in_the_reference(name: str, kind: DetectorKind) -> None:
    section = REFERENCE.read_text().partition(f"## {name}\n")[2].partition("\n## ")[0]
    assert section, f"no section about {name}"
    for field in dataclasses.fields(kind.options_type):
        assert f"| `{field.name}` | {field.metadata['doc']} |" in section


@pytest.mark.anyio
@pytest.mark.parametrize("kind", DETECTORS.values(), ids=DETECTORS.keys())
async def test_each_detector_answers_at_once_and_can_be_closed(kind: DetectorKind) -> None:
    wanted = {field.name: EXAMPLES[field.name] for field in required(kind.options_type)}
    detector = kind("office", kind.options_type(**wanted), FakeClock())
    watch = detector.watch()
    assert (await anext(watch)).reason
    assert (await detector.ask()).reason
    await watch.aclose()


def required(options: type) -> list[dataclasses.Field[object]]:
    return [field for field in dataclasses.fields(options) if field.default is dataclasses.MISSING]


def test_a_detector_that_asks_does_so_every_five_seconds() -> None:
    command = DETECTORS["command"].options_type(command=Command(("/bin/true",)))
    assert command.interval == timedelta(seconds=5)
