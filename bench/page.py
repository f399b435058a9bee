"""Writes what the benchmarks kept into `docs/performance.md`: `python bench/page.py`.

The page has a pair of comments for each result, `<!-- result NAME -->` and `<!-- end -->`; what stands between them
is replaced by the tables, the date and the machine of `bench/results/NAME.json`.
"""

import json
import re
from pathlib import Path

from harness.report import RESULTS, ROOT, Table, text_of

PAGE = ROOT / "docs" / "performance.md"

_PLACE = re.compile(r"(<!-- result (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_results(page: str, results: Path = RESULTS) -> str:
    """The page with every result as it is kept now; what was not measured yet has an empty place."""

    def fill(place: re.Match[str]) -> str:
        is_kept = (results / f"{place[2]}.json").exists()
        return place[1] + (block(results, place[2]) if is_kept else "") + place[3]

    return _PLACE.sub(fill, page)


def block(results: Path, name: str) -> str:
    """One result as Markdown."""
    found = json.loads((results / f"{name}.json").read_text())
    tables = [text_of(Table(**table)) for table in found["tables"]]
    picture = PAGE.parent / "performance" / f"{name}.svg"
    pictures = [f"![{name}](performance/{name}.svg)"] if picture.exists() else []
    return "\n\n".join(["", *tables, *pictures, _where(found), ""])


def _where(found: dict[str, object]) -> str:
    machine = found["machine"]
    assert isinstance(machine, dict)
    gigabytes = round(machine["memory_bytes"] / 2**30)
    return (
        f"*{str(found['date'])[:10]}: {machine['cores']} cores ({machine['cpu']}), {gigabytes} GiB, "
        f"{machine['filesystem']}, Linux {machine['kernel']}, {machine['system']}, Python {machine['python']}.*"
    )


if __name__ == "__main__":
    PAGE.write_text(with_results(PAGE.read_text()))
