"""Fill the figures of evaluation.json in between the markers of README.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGIN = "<!-- figures: begin (written by `train.py evaluate`, do not edit) -->"
END = "<!-- figures: end -->"


def fill_in(folder: Path, figures: Callable[[dict[str, Any]], str]) -> None:
    """`figures` makes Markdown of what evaluation.json says."""
    card = folder / "README.md"
    text = card.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{card.name} lacks the markers of the figures")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    report = json.loads((folder / "evaluation.json").read_text())
    card.write_text(f"{before}{BEGIN}\n{figures(report)}{END}{after}")


def table_of_parts(report: dict[str, Any]) -> list[str]:
    """Lines of a table, of `megabytes` and `parameters` in the report."""
    lines = ["| part | parameters | MB on disk |", "|---|---:|---:|"]
    for name, size in report["megabytes"].items():
        count = report["parameters"].get(name)
        lines.append(f"| {name} | {f'{count:,}' if count else ''} | {size} |")
    return lines
