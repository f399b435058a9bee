"""The page about performance shows what the benchmarks found."""

import json
from pathlib import Path

import page


def test_the_page_shows_the_results_that_are_kept() -> None:
    text = page.PAGE.read_text()
    assert page.with_results(text) == text


def test_every_result_that_is_kept_is_on_the_page() -> None:
    text = page.PAGE.read_text()
    assert [path.stem for path in page.RESULTS.glob("*.json") if f"<!-- result {path.stem} -->" not in text] == []


def test_a_result_is_shown_with_its_date_and_machine(tmp_path: Path) -> None:
    table = {"title": "rate", "columns": ["peer", "4 KB"], "rows": [["postfix", 12.0], ["exim", None]]}
    machine = {
        "cores": 2,
        "cpu": "EPYC",
        "memory_bytes": 4 << 30,
        "filesystem": "ext4",
        "kernel": "6.1",
        "system": "Debian 12",
        "python": "3.11.2",
    }
    found = {"date": "2026-11-21T05:00:00+00:00", "machine": machine, "tables": [table]}
    (tmp_path / "speed.json").write_text(json.dumps(found))
    text = page.with_results("Before\n<!-- result speed -->\nold\n<!-- end -->\nafter\n", tmp_path)
    assert text.startswith("Before\n<!-- result speed -->\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert "| postfix | 12" in text
    assert "| exim    | –" in text
    assert "2026-11-21: 2 cores (EPYC), 4 GiB, ext4, Linux 6.1, Debian 12, Python 3.11.2" in text
