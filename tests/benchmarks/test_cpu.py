"""The benchmark of the demo model: the page that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import cpu
import page
import pytest
from exporter.bench_reports import PLAIN, report


def test_a_line_of_the_page_has_a_cell_a_column_and_the_figures_that_were_measured() -> None:
    shown = report()
    lines = cpu.markdown(shown)
    row = shown.rows[3]
    cells = cpu.cells(row)
    assert len(cells) == len(cpu.COLUMNS)
    assert cells[:2] == ["cached", "onnxruntime"]
    assert f"| {' | '.join(cells)} |" in lines
    assert f"{row.gains.total:.2f}×" in cells
    assert any(line.startswith("- onnxruntime: ") and PLAIN in line for line in lines)


def test_a_table_has_as_many_rules_as_columns() -> None:
    heading, rule, line, end = page.table(("a", "b", "c"), [["1", "2", "3"]], 1)
    assert (heading, rule, line, end) == ("| a | b | c |", "|---|---:|---:|", "| 1 | 2 | 3 |", "")


def test_the_head_names_the_gpu_where_there_is_one() -> None:
    machine = report().machine
    assert "a <slow> one, 2 cores; Python 3.11; numpy 2." in page.head("t", "s.py", machine, [])
    named = page.head("t", "s.py", {**machine, "gpu": "a fast one"}, ["how"])
    assert "a fast one; a <slow> one, 2 cores; Python 3.11; numpy 2." in named
    assert "how" in named


def test_a_report_is_written_as_data_and_as_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "OUT", tmp_path)
    shown = report()
    page.write("x", shown.data(), cpu.markdown(shown))
    assert json.loads((tmp_path / "x.json").read_text())["bundle"] == shown.bundle
    assert (tmp_path / "x.md").read_text().startswith("# models/emoji on a CPU\n")
