"""Measures engines/emoji on this machine's CPU; writes docs/benchmarks/cpu-emoji.{json,md,html}.

Usage: python benchmarks/cpu.py [REPEATS]     after `make demo`, with nothing else running
"""

from __future__ import annotations

import sys

from page import OUT, ROOT, head, table, write
from rich.progress import Progress

from keepstep.bench import Report, Setting, benchmark
from keepstep.bench.page import page
from keepstep.bench.rows import Row
from keepstep.bench.table import COST, SPEED, cost_cells, speed_cells
from keepstep.runtime import Bundle

COLUMNS = ("plan", "how", *SPEED, *COST)


def cells(row: Row) -> list[str]:
    """One line of the table, as text."""
    return [row.plan, row.how, *speed_cells(row), *cost_cells(row)]


def markdown(report: Report) -> list[str]:
    """The report as the lines of a page."""
    setting = report.setting
    lines = head(
        "models/emoji on a CPU",
        "cpu.py",
        report.machine,
        [
            f"“{setting.prompt}”, guidance {setting.guidance_scale}, seed {setting.seed}, "
            f"medians of {setting.repeats} rounds."
        ],
    )
    lines += table(COLUMNS, [cells(row) for row in report.rows], 2)
    if report.equal_latency:
        lines += ["## Or plain steps in the same time?", ""]
        lines += [f"- {found.how}: {found.sentence}" for found in report.equal_latency]
        lines.append("")
    return lines


def main() -> None:
    """Measure, then write all files."""
    setting = Setting(repeats=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    bundle = Bundle.open(ROOT / "engines/emoji")
    with Progress() as bar:
        task = bar.add_task("", total=None)
        report = benchmark(
            bundle,
            setting,
            str(ROOT / "models/emoji"),
            report=lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    write("cpu-emoji", report.data(), markdown(report))
    (OUT / "cpu-emoji.html").write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()
