"""What the GPU benchmark found, as data and as a page. Steps that did not run are told, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from gpu_steps import CASES, CHECKED, idle_name, verify_name
from page import head, table
from runner import Result

Data = dict[str, Any]

# What SD1.5 at 512² with dato-coco is to reach on one H100.
TARGET_EAGER, TARGET_FULL, TARGET_IDEAL, TARGET_IDLE = 20.0, 8.0, 1.3, 0.02


def gathered(
    conditions: Mapping[str, Any],
    refused: Mapping[str, str],
    results: Mapping[str, Result],
    outputs: Mapping[str, str],
) -> Data:
    """Everything that was found.

    refused   backend → why it cannot run here
    outputs   what steps that are done, or that verify, wrote
    """
    return {
        "conditions": dict(conditions),
        "refused": dict(refused),
        "steps": {
            name: {"state": r.state, "seconds": r.seconds, "said": r.said}
            for name, r in results.items()
        },
        "found": {name: json.loads(text) for name, text in outputs.items() if text.strip()},
    }


def markdown(data: Data) -> list[str]:
    """The lines of the page."""
    machine = data["conditions"]
    how = [f"Driver {machine['driver']}. SD1.5 and SDXL have random weights: their pictures mean "]
    how[0] += "nothing, and times do not depend on them."
    lines = head(str(machine["gpu"]), "gpu.py", machine, how)
    lines += ["## Do engines load and play on this GPU?", ""]
    lines += table(("backend", "plays", "worst stage of each plan"), list(_plays(data)), 3)
    kinds = ("shared", "embedded", "shared, with torch.compile,")
    for what in (CHECKED, *(f"{m}-{kind}" for m in CASES for kind in kinds)):
        for name, report in data["found"].items():
            if name.startswith(f"bench {what} on "):
                lines += [f"## {name.removeprefix('bench ')}", "", *_table(report)]
                lines += _idle(data, what, name.rpartition(" ")[2])
    lines += ["## Targets", "", *_targets(data), "## Steps", ""]
    steps = [
        (name, step["state"], _line(step["said"]), f"{step['seconds']:.0f}")
        for name, step in data["steps"].items()
    ]
    return lines + table(("step", "", "", "s"), steps, 3)


def _plays(data: Data) -> Iterator[tuple[str, ...]]:
    for backend, why in data["refused"].items():
        yield backend, f"no: {why}", ""
    for name, step in data["steps"].items():
        if name.startswith(f"play {CHECKED} on "):
            backend = name.rpartition(" ")[2]
            plays = "yes" if step["state"] == "done" else f"{step['state']}: {_line(step['said'])}"
            yield backend, plays, _parity(data, verify_name(CHECKED, backend))


def _parity(data: Data, name: str) -> str:
    """The worst stage of every plan, from what `keepstep verify --json` said."""
    worst = []
    for verdict in data["found"].get(name, []):
        stage = max(verdict["stages"], key=_badness, default=None)
        if stage:
            error = "no number" if stage["error"] is None else f"{stage['error']:.1e}"
            mark = "" if verdict["good"] else " (mismatch)"
            worst.append(f"{verdict['plan']}: {stage['stage']} {error}{mark}")
    return ", ".join(worst)


def _badness(stage: Data) -> float:
    """How far off a stage is, in units of what is tolerated; its error is null where it is NaN."""
    return inf if stage["error"] is None else float(stage["error"]) / float(stage["tolerance"])


COLUMNS = (
    *("plan", "how", "s/image", "spread", "loop, s", "÷ ideal"),
    *("schedule", "compiling", "GPU MB", "PSNR, dB"),
)


def _table(report: Data) -> list[str]:
    lines = table(COLUMNS, [_cells(row) for row in report["rows"]], 2)
    lines += [f"- {found['sentence']}" for found in report["equal_latency"]]
    lines += [""] if report["equal_latency"] else []
    for note in report["notes"]:
        lines += [note, ""]
    return lines


def _cells(row: Data) -> tuple[str, ...]:
    seconds, gains, device = row["seconds"], row["gains"], row["device_bytes"]
    return (
        row["plan"],
        row["how"],
        f"{seconds['median']:.4f}",
        f"{seconds['fastest']:.4f}–{seconds['slowest']:.4f}",
        f"{row['loop_seconds']['median']:.4f}",
        f"{row['measured_over_ideal']:.2f}",
        _times(gains["schedule"]),
        _times(gains["compiling"]),
        "" if device is None else f"{device / 1e6:.0f}",
        "same" if row["psnr"] is None else f"{row['psnr']:.1f}",
    )


def _idle(data: Data, what: str, backend: str) -> Iterator[str]:
    for name, found in data["found"].items():
        if name.startswith(f"idle {what} ") and name.endswith(f" on {backend}"):
            yield (
                f"One replay of {found['plan']}: {found['kernels']} kernels, the GPU idle for "
                f"{found['idle']:.1%} of it."
            )
            yield ""


def _targets(data: Data) -> list[str]:
    """SD1.5 with dato-coco on the first backend that was measured."""
    what, plan = "sd15-shared", CASES["sd15"].schedules[-1]
    name = next((n for n in data["found"] if n.startswith(f"bench {what} on ")), "")
    backend = name.rpartition(" ")[2]
    rows = data["found"][name]["rows"] if name else []
    row = next((r for r in rows if (r["plan"], r["how"]) == (plan, backend)), None)
    if row is None:
        return ["SD1.5 was not measured.", ""]
    total, schedule = row["gains"]["total"], row["gains"]["schedule"]
    idle = data["found"].get(idle_name(what, plan, backend), {}).get("idle")
    found = (
        ("times faster than eager", _times(total), f"≥ {TARGET_EAGER:.0f}×"),
        ("times faster than compiled full", _times(schedule), f"≥ {TARGET_FULL:.0f}×"),
        ("loop ÷ ideal", f"{row['measured_over_ideal']:.2f}", f"≤ {TARGET_IDEAL}"),
        ("GPU idle in the loop", "" if idle is None else f"{idle:.1%}", f"< {TARGET_IDLE:.0%}"),
    )
    return table((f"SD1.5, {plan}, {backend}", "found", "target"), found, 1)


def _times(factor: float | None) -> str:
    return "" if factor is None else f"{factor:.2f}×"


def _line(text: str) -> str:
    """The last line of a message, fit for a table."""
    return text.strip().rpartition("\n")[2].replace("|", "\\|")


def steps_with_output(results: Mapping[str, Result]) -> Sequence[str]:
    """Those whose standard output is JSON: `verify` writes it also where there is a mismatch."""
    found = []
    for name, result in results.items():
        kind = name.partition(" ")[0]
        if kind == "verify" or (kind in ("bench", "idle") and result.state == "done"):
            found.append(name)
    return found
