"""What the pages of docs/benchmarks have in common: their head, their tables, and being written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs/benchmarks"


def head(title: str, script: str, machine: Mapping[str, Any], how: Sequence[str]) -> list[str]:
    """Title, where it comes from, the machine, and lines on how it was measured."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    gpu = f"{machine['gpu']}; " if machine.get("gpu") else ""
    return [
        f"# {title}",
        "",
        f"Written by `benchmarks/{script}`; what the columns mean is in [README.md](README.md).",
        "",
        f"{gpu}{machine['processor']}, {machine['cores']} cores; "
        f"Python {machine['python']}; {packages}.",
        *how,
        "",
    ]


def table(columns: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> list[str]:
    """A table whose first columns, as many as `words`, are read from the left."""
    return [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---' if i < words else '---:' for i in range(len(columns)))}|",
        *(f"| {' | '.join(line)} |" for line in lines),
        "",
    ]


def write(name: str, report: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Write the report as data and as a page."""
    (OUT / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (OUT / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
