"""Cells that play nothing and reports that nobody measured, for tests of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from keepstep.bench.configurations import Run
from keepstep.bench.eager import Place
from keepstep.bench.equal_latency import Plain, comparison
from keepstep.bench.measure import Measured
from keepstep.bench.report import Report
from keepstep.bench.rows import Baseline, Row, row_of
from keepstep.bench.setting import Setting
from keepstep.exporter.schedule.settings import Sampler
from keepstep.runtime.format.plan import Call, Plan, Stage, Step

MACS = {"full": 1000, "shallow": 100}


def plan(name: str, kinds: Sequence[str]) -> Plan:
    """A plan that calls the network as told, between text and decode."""
    running = [(i, kind) for i, kind in enumerate(kinds) if kind != "skip"]
    calls = [Call("text", {}, {}), *(Call(k, {}, {}, step=i) for i, k in running)]
    return Plan(
        name=name,
        values={},
        stages={k: Stage({}, {}, {}, macs=MACS.get(k, 7)) for k in ("text", "decode", *MACS)},
        calls=(*calls, Call("decode", {}, {})),
        steps=tuple(Step(kind, 0.0) for kind in kinds),
        arena_bytes=0,
    )


@dataclass
class StillConfiguration:
    """A configuration whose runs are written down."""

    program: Plan
    how: str
    runs: list[Run]
    rounds: int = 1
    model: str | None = None
    played: list[str] | None = None
    label: str = ""
    closed: bool = field(default=False)

    def __post_init__(self) -> None:
        self.plan = self.program.name
        self.label = self.label or self.plan
        self.bundle: Any = SimpleNamespace(plan=lambda name: self.program)
        self._next = 0

    def run(self) -> Run:
        if self.played is not None:
            self.played.append(self.plan)
        self._next += 1
        return self.runs[(self._next - 1) % len(self.runs)]

    def golden_error(self) -> float | None:
        return None if self.model else 1e-5

    def close(self) -> None:
        self.closed = True


def run(kinds: Sequence[str], seconds: dict[str, float], image: np.ndarray) -> Run:
    """A run whose calls take what `seconds` says of their kind."""
    calls = tuple((kind, seconds[kind]) for kind in ("text", *kinds, "decode"))
    return Run(image, sum(s for _, s in calls), calls)


def picture(shift: int) -> np.ndarray:
    """A picture that is the further from `picture(0)` the larger the shift."""
    ramp = np.arange(16 * 16 * 3, dtype=np.int64).reshape(1, 16, 16, 3) * 5
    return ((ramp + shift) % 256).astype(np.uint8)


FULL, CACHED = ["full"] * 4, ["full", "shallow", "skip", "shallow"]
EAGER = {"text": 0.1, "full": 1.0, "shallow": 0.25, "skip": 0.01, "decode": 0.2}
COMPILED = {"text": 0.05, "full": 0.5, "shallow": 0.1, "decode": 0.1}
PLAIN = "plain, 1 step"


def measured() -> list[Measured]:
    """The four configurations, and a plain step."""
    ran = [kind for kind in CACHED if kind != "skip"]
    full, cached, one = plan("full", FULL), plan("cached", CACHED), plan("plain-1", FULL[:1])
    configurations = [
        StillConfiguration(full, "eager", [run(FULL, EAGER, picture(1))], model="model"),
        StillConfiguration(full, "onnxruntime", [run(FULL, COMPILED, picture(0))]),
        StillConfiguration(cached, "eager", [run(CACHED, EAGER, picture(3))], model="model"),
        StillConfiguration(cached, "onnxruntime", [run(ran, COMPILED, picture(3))]),
        StillConfiguration(one, "onnxruntime", [run(FULL[:1], COMPILED, picture(40))], label=PLAIN),
    ]
    return [Measured(configuration, configuration.runs) for configuration in configurations]


def rows() -> list[Row]:
    """Their lines."""
    known = measured()
    baseline = Baseline.of(known, "full")
    return [row_of(each, baseline, 10**8) for each in known]


def together(
    lines: Sequence[Row],
) -> tuple[dict[tuple[str, str], Row], dict[tuple[str, str], float]]:
    """Rows, and medians of the rounds that they share, by plan and how it was run."""
    known = {(row.plan, row.how): row for row in lines}
    return known, {key: 2 * row.seconds.median for key, row in known.items()}


def report(prompt: str = "a red apple", eager: bool = True) -> Report:
    """All of it; without the eager configurations if told so."""
    known = [m for m in measured() if eager or m.configuration.how != "eager"]
    baseline = Baseline.of(known, "full")
    lines = [row_of(each, baseline, None) for each in known]
    plain = Plain("cached", "onnxruntime", Sampler(scheduler="DDIMScheduler", steps=1), 1, 0.5, 0.7)
    return Report(
        bundle={"name": "toy", "family": "stable-diffusion", "dtype": "float32"},
        bundle_bytes=12_000_000,
        picture=(1, 16, 16),
        baseline="full",
        setting=Setting(prompt=prompt),
        machine={
            "processor": "a <slow> one",
            "cores": 2,
            "memory_bytes": None,
            "load": None,
            "gpu": None,
            "driver": None,
            "system": "Linux",
            "python": "3.11",
            "packages": {"numpy": "2"},
        },
        eager=Place("cpu", "float32") if eager else None,
        rows=lines,
        equal_latency=[comparison(plain, *together(lines))],
        notes=["nothing else was running & <that> is a note"],
        pictures=[m.runs[0].image for m in known],
    )
