"""Measures engines/emoji on this machine's CPU and writes docs/benchmarks/cpu-emoji.{json,md}.

Usage: python benchmarks/cpu.py [REPEATS]     after `make demo`, with nothing else running
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.progress import Progress

from keepstep.exporter.bench import benchmark, report_json
from keepstep.exporter.bench_cells import Setting
from keepstep.runtime import Bundle

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs/benchmarks"
COLUMNS = (
    "plan",
    "how",
    "s/image",
    "fastest–slowest",
    "full call, ms",
    "shallow call, ms",
    "loop GMAC",
    "÷ ideal",
    "speed-up",
    "peak MB",
    "PSNR, dB",
    "SSIM",
    "golden",
)


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table, as text."""
    calls = {kind: f"{1e3 * s:.1f}" for kind, s in row["call_seconds"].items()}
    ideal, golden = row["measured_over_ideal"], row["golden_error"]
    return [
        row["plan"],
        row["how"],
        f"{row['seconds']:.2f}",
        f"{row['fastest']:.2f}–{row['slowest']:.2f}",
        calls.get("full", ""),
        calls.get("shallow", ""),
        f"{row['loop_macs'] / 1e9:.1f}",
        "" if ideal is None else f"{ideal:.2f}",
        f"{row['speedup']:.2f}",
        f"{row['peak_bytes'] / 1e6:.0f}",
        "same" if row["psnr"] is None else f"{row['psnr']:.1f}",
        f"{row['ssim']:.3f}",
        "" if golden is None else f"{golden:.0e}",
    ]


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    machine, setting = report["machine"], report["setting"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        "# models/emoji on a CPU",
        "",
        "Written by `benchmarks/cpu.py`; what the columns mean is in [README.md](README.md).",
        "",
        f"{machine['processor']}, {machine['cores']} cores; "
        f"Python {machine['python']}; {packages}.",
        f"“{setting['prompt']}”, guidance {setting['guidance_scale']}, seed {setting['seed']}, "
        f"medians of {setting['repeats']} rounds.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'|'.join('---' if i < 2 else '---:' for i in range(len(COLUMNS)))}|",
        *(f"| {' | '.join(cells(row))} |" for row in report["rows"]),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, then write both files."""
    setting = Setting(repeats=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
    bundle = Bundle.open(ROOT / "engines/emoji")
    with Progress() as bar:
        task = bar.add_task("", total=None)
        rows = benchmark(
            bundle,
            setting,
            str(ROOT / "models/emoji"),
            lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total
            ),
        )
    report = report_json(bundle, setting, rows)
    (OUT / "cpu-emoji.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (OUT / "cpu-emoji.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
