"""How often ONNX Runtime holds a bundle's weights; writes docs/benchmarks/weights-in-memory.*.

Usage: python benchmarks/weights_in_memory.py     after `make demo`, on Linux

keepstep hands ONNX Runtime arrays of a mapped file. Every line is a fresh process that changes what
keepstep asks of it otherwise, makes two plans ready, and plays the second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import onnxruntime as ort
from page import OUT, ROOT, head, table, write

from keepstep.bench import Setting
from keepstep.bench.footprint import own_memory
from keepstep.bench.machine import conditions
from keepstep.playing.conditioning import run_inputs
from keepstep.runtime import Bundle
from keepstep.runtime.backends import onnxruntime as backend
from keepstep.runtime.backends.onnxruntime_engine import ONNX_TYPES, Weights

NAME = "weights-in-memory"
PLANS = ("full", "dato-coco")
ROUNDS = 5  # all cases take turns
RUNS = 3  # of a process
COLUMNS = ("ONNX Runtime", "one plan, MB", "two plans, MB", "s/image")


def _shared(options: Any, weights: Weights) -> None:
    """Let sessions use the very arrays; the caller keeps them."""
    for name, (type_, array) in weights.items():
        element = ONNX_TYPES[type_.dtype][0]
        value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element)
        KEPT.append(value)
        options.add_initializer(name, value)


def _not_packed(options: Any, _: Weights) -> None:
    options.add_session_config_entry("session.disable_prepacking", "1")


def _allocated_apart(options: Any, _: Weights) -> None:
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


def _not_laid_out(options: Any, _: Weights) -> None:
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


Change = Callable[[Any, Weights], None]
KEPT: list[Any] = []
CASES: Mapping[str, tuple[Change, ...]] = {
    "as keepstep asks it": (),
    "nothing packed": (_not_packed,),
    "copies by the device's allocator": (_allocated_apart,),
    "arrays lent": (_shared,),
    "arrays lent, nothing packed": (_shared, _not_packed),
    "arrays lent, nothing packed, no layouts of its own": (_shared, _not_packed, _not_laid_out),
}


@dataclass(frozen=True)
class Row:
    """Bytes of the process's own memory beyond the open bundle, and the median of runs."""

    case: str
    one: int
    two: int
    seconds: float


def measure(case: str, folder: str, plans: tuple[str, str] = PLANS, runs: int = RUNS) -> Row:
    """In this process, which should be a fresh one: two players made ready, the second played."""
    usual = backend.session_options

    def session_options(weights: Weights) -> Any:
        options = usual(weights)
        for change in CASES[case]:
            change(options, weights)
        return options

    backend.session_options = session_options
    try:
        bundle, setting = Bundle.open(folder), Setting()
        before = own_memory()
        with bundle.player(plans[0], threads=setting.threads):
            one = own_memory() - before
            with bundle.player(plans[1], threads=setting.threads) as player:
                two = own_memory() - before
                inputs = run_inputs(
                    player,
                    setting.prompt,
                    guidance_scale=setting.guidance_scale,
                    seed=setting.seed,
                    start={},
                )
                player.run(inputs)  # to warm up
                seconds = []
                for _ in range(runs):
                    start = time.perf_counter()
                    player.run(inputs)
                    seconds.append(time.perf_counter() - start)
        return Row(case, one, two, median(seconds))
    finally:
        backend.session_options = usual


def medians(rows: list[Row]) -> Row:
    """One row of those of a case, each figure by itself."""
    return Row(
        rows[0].case,
        round(median(row.one for row in rows)),
        round(median(row.two for row in rows)),
        median(row.seconds for row in rows),
    )


def markdown(machine: Mapping[str, Any], weight_bytes: int, rows: list[Row]) -> list[str]:
    """The rows as the lines of a page."""
    lines = head(
        "Weights in memory",
        f"{NAME.replace('-', '_')}.py",
        machine,
        [
            f"models/emoji in float32, {weight_bytes / 1e6:.1f} MB of weights; {PLANS[0]}, then "
            f"{PLANS[1]} beside it, which is played: medians of {ROUNDS} processes, {RUNS} runs "
            f"each. The machine's load was {machine['load']} before."
        ],
    )
    return lines + table(COLUMNS, [cells(row) for row in rows], 1)


def cells(row: Row) -> list[str]:
    """One line of the table, as text."""
    return [row.case, f"{row.one / 1e6:.1f}", f"{row.two / 1e6:.1f}", f"{row.seconds:.2f}"]


def main() -> None:
    """Measure every case in a process of its own, then write both files."""
    bundle = Bundle.open(ROOT / "engines/emoji")
    machine = conditions()
    measured: dict[str, list[Row]] = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case, found in measured.items():
            line = [sys.executable, "-W", "ignore", __file__, case]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            found.append(Row(**json.loads(done.stdout.splitlines()[-1])))
            sys.stdout.write(f"{', '.join(cells(found[-1]))}\n")
    rows = [medians(found) for found in measured.values()]
    weight_bytes = bundle.manifest.files["weights.safetensors"].bytes
    data = {"machine": machine, "weight_bytes": weight_bytes, "rows": [asdict(r) for r in rows]}
    write(NAME, data, markdown(machine, weight_bytes, rows))
    sys.stdout.write(f"{OUT / NAME}.md: written\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asdict(measure(sys.argv[1], str(ROOT / "engines/emoji")))))  # noqa: T201
    else:
        main()
