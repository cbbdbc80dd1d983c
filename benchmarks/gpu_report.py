"""What the GPU benchmark found, as data and as a page. Steps that did not run are told, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_steps import CASES, CHECKED, idle_name, verify_name
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


def markdown(data: Data) -> str:
    """The page."""
    gpu = data["conditions"]["gpu"]
    lines = [
        f"# {gpu}",
        "",
        "Written by `benchmarks/gpu.py`; what the columns mean is in [README.md](README.md). "
        "Weights are random: pictures mean nothing here, times do not depend on them.",
        "",
        *_conditions(data["conditions"]),
        "",
        "## Do engines load and play on this GPU?",
        "",
        "| backend | plays | stages beside float32 |",
        "|---|---|---|",
        *_plays(data),
        "",
    ]
    for model in CASES:
        for what in (f"{model}-shared", f"{model}-embedded"):
            for name, report in data["found"].items():
                if name.startswith(f"bench {what} on "):
                    lines += [f"## {name.removeprefix('bench ')}", "", *_table(report), ""]
                    lines += _idle(data, what, name.rpartition(" ")[2])
    lines += ["## Targets", "", *_targets(data), "", "## Steps", "", *_steps(data), ""]
    return "\n".join(lines)


def _conditions(conditions: Mapping[str, Any]) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in conditions["packages"].items())
    yield (
        f"{conditions['gpu']}, driver {conditions['driver']}; {conditions['processor']}, "
        f"{conditions['cores']} cores; Python {conditions['python']}; {packages}."
    )


def _plays(data: Data) -> Iterator[str]:
    for backend, why in data["refused"].items():
        yield f"| {backend} | no: {why} | |"
    for name, step in data["steps"].items():
        if not name.startswith(f"play {CHECKED} on "):
            continue
        backend = name.rpartition(" ")[2]
        plays = "yes" if step["state"] == "done" else f"{step['state']}: {_line(step['said'])}"
        yield f"| {backend} | {plays} | {_parity(data, verify_name(CHECKED, backend))} |"


def _parity(data: Data, name: str) -> str:
    """The worst stage of every plan, from what `keepstep verify --json` said."""
    worst = []
    for verdict in data["found"].get(name, []):
        stage = max(verdict["stages"], key=lambda s: s["error"] / s["tolerance"], default=None)
        if stage:
            mark = "" if verdict["good"] else " (departs)"
            worst.append(f"{verdict['plan']}: {stage['stage']} {stage['error']:.1e}{mark}")
    return ", ".join(worst)


COLUMNS = (
    "plan",
    "how",
    "s/image",
    "spread",
    "loop, s",
    "÷ ideal",
    "schedule",
    "compiling",
    "GPU MB",
)


def _table(report: Data) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|---|---|{'---:|' * (len(COLUMNS) - 2)}"
    for row in report["rows"]:
        seconds, gains = row["seconds"], row["gains"]
        device = row["device_bytes"]
        cells = (
            row["plan"],
            row["how"],
            f"{seconds['median']:.4f}",
            f"{seconds['fastest']:.4f}–{seconds['slowest']:.4f}",
            f"{row['loop_seconds']['median']:.4f}",
            f"{row['measured_over_ideal']:.2f}",
            _times(gains["schedule"]),
            _times(gains["compiling"]),
            "" if device is None else f"{device / 1e6:.0f}",
        )
        yield f"| {' | '.join(cells)} |"
    for note in report["notes"]:
        yield ""
        yield note


def _idle(data: Data, what: str, backend: str) -> Iterator[str]:
    for name, found in data["found"].items():
        if name.startswith(f"idle {what} ") and name.endswith(f" on {backend}"):
            yield (
                f"One replay of {found['plan']}: {found['kernels']} kernels, the GPU idle for "
                f"{found['idle']:.1%} of it."
            )
            yield ""


def _targets(data: Data) -> Iterator[str]:
    """SD1.5 with dato-coco on the first backend that was measured."""
    what, plan = "sd15-shared", CASES["sd15"].schedules[-1]
    name = next((n for n in data["found"] if n.startswith(f"bench {what} on ")), None)
    if name is None:
        yield "SD1.5 was not measured."
        return
    backend = name.rpartition(" ")[2]
    rows = {(row["plan"], row["how"]): row for row in data["found"][name]["rows"]}
    row = rows.get((plan, backend))
    if row is None:
        yield f"{plan} was not measured."
        return
    idle = data["found"].get(idle_name(what, plan, backend), {}).get("idle")
    yield f"SD1.5, {plan}, {backend}:"
    yield ""
    yield "| | found | target |"
    yield "|---|---:|---:|"
    total, schedule = row["gains"]["total"], row["gains"]["schedule"]
    yield f"| times faster than eager | {_times(total)} | {TARGET_EAGER:.0f}× |"
    yield f"| times faster than the compiled full plan | {_times(schedule)} | {TARGET_FULL:.0f}× |"
    yield f"| loop ÷ ideal | {row['measured_over_ideal']:.2f} | {TARGET_IDEAL} |"
    yield f"| GPU idle in the loop | {'' if idle is None else f'{idle:.1%}'} | {TARGET_IDLE:.0%} |"


def _steps(data: Data) -> Iterator[str]:
    yield "| step | | s | |"
    yield "|---|---|---:|---|"
    for name, step in data["steps"].items():
        yield f"| {name} | {step['state']} | {step['seconds']:.0f} | {_line(step['said'])} |"


def _times(factor: float | None) -> str:
    return "" if factor is None else f"{factor:.2f}×"


def _line(text: str) -> str:
    """The last line of a message, fit for a table."""
    return text.strip().rpartition("\n")[2].replace("|", "\\|")


def steps_with_output(results: Mapping[str, Result]) -> Sequence[str]:
    """Those whose standard output is JSON: `verify` writes it also where something departs."""
    found = []
    for name, result in results.items():
        kind = name.partition(" ")[0]
        if kind == "verify" or (kind in ("bench", "idle") and result.state == "done"):
            found.append(name)
    return found
