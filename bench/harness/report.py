"""What a benchmark found: printed as tables, and with `--save` kept as JSON and as a picture.

publish(Result("accept", [Table("messages per second", ["peer", "4 KB"], [["postfix", 900.0]])], samples), save=True)
"""

import json
import os
import platform
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from pathlib import Path

from harness import packages
from harness.chart import Chart, short, svg

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
PICTURES = ROOT / "docs" / "performance"

#: Debian packages whose versions say what was measured.
_PEERS = (
    *("postfix", "exim4-daemon-light", "opensmtpd", "nullmailer", "dma", "msmtp"),
    *("dovecot-core", "fetchmail", "getmail6", "mpop"),
)


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; None is shown as a dash."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Result:
    """Everything one benchmark found. `samples` has every single measurement, as JSON takes it."""

    name: str
    tables: Sequence[Table]
    samples: object
    charts: Sequence[Chart] = ()
    machine: Mapping[str, object] = field(default_factory=lambda: machine())


def publish(result: Result, *, save: bool) -> None:
    """Prints the tables; with `save` writes them to `bench/results/` and the charts to `docs/performance/`."""
    for table in result.tables:
        print(text_of(table), end="\n\n")
    if not save:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{result.name}.json"
    document = {
        "name": result.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": result.machine,
        "tables": [asdict(table) for table in result.tables],
        "samples": result.samples,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, default=asdict) + "\n")
    print(f"saved {path.relative_to(ROOT)}")
    if result.charts:
        PICTURES.mkdir(parents=True, exist_ok=True)
        picture = PICTURES / f"{result.name}.svg"
        picture.write_text(svg(result.charts))
        print(f"saved {picture.relative_to(ROOT)}")


def text_of(table: Table) -> str:
    """The table as Markdown, with columns that stand below each other."""
    rows = [list(table.columns), *([_cell(value) for value in row] for row in table.rows)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(table.columns))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"**{table.title}**", "", lines[0], rule, *lines[1:]])


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return short(value) if isinstance(value, float) else str(value)


def options(description: str) -> ArgumentParser:
    """The options that every benchmark has."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results and docs/performance")
    return parser


def machine() -> dict[str, object]:
    """Where and with what this was measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "filesystem": _file_system(Path("/var/tmp")),
        "python": platform.python_version(),
        "masqmail": distribution_version("masqmail"),
        "peers": {name: found for name in _PEERS if (found := packages.version(name))},
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _file_system(folder: Path) -> str:
    """The kind of file system a folder is on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    fitting = [(place, kind) for place, kind in mounts if folder.is_relative_to(place)]
    return max(fitting, key=lambda found: len(found[0]))[1] if fitting else ""
