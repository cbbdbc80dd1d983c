"""What the GPU benchmark does, as data: checkpoints, exports, checks and measurements in order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from page import ROOT
from runner import Step

EMOJI = str(ROOT / "models/emoji")  # trained, so its pictures can be judged
IDLE = ROOT / "benchmarks/gpu_idle.py"
KEEPSTEP = (sys.executable, "-W", "ignore", "-m", "keepstep")
# The engines of the CPU are played by ONNX Runtime's CUDA provider, too.
ENGINES = {
    "tensorrt-rtx": "tensorrt-rtx",
    "tensorrt": "tensorrt",
    "onnxruntime-cuda": "onnxruntime",
    "aotinductor-cuda": "aotinductor-cuda",
    "aotinductor": "aotinductor",  # a CPU: to rehearse the programme where there is no GPU
}
SHARED_ONLY = ("onnxruntime-cuda", "aotinductor-cuda", "aotinductor")  # no embedded weights
CHECKED = "emoji"


@dataclass(frozen=True)
class Case:
    """A model of checkpoints.json; times are those of a server with 16 cores and one H100.

    schedules   the full one first
    draw        seconds of writing random weights
    export      seconds of an export, and of one with embedded weights
    measure     seconds of a measurement with all its rows
    """

    model: str
    schedules: tuple[str, ...]
    draw: float
    export: tuple[float, float]
    measure: float


CASES = {
    "sd15": Case("sd15", ("full", "deepcache-n3", "dato-coco"), 15, (100, 60), 90),
    "sdxl": Case("sdxl", ("full", "deepcache-n3", "sdxl-dato"), 40, (240, 200), 80),
}


def steps(models: Sequence[str], backends: Sequence[str], work: Path, repeats: int) -> list[Step]:
    """The whole programme for these models and backends, in a folder of work."""
    found = list(_check(backends, work, repeats))
    for name in models:
        found += _prepare(CASES[name], backends, work)
    for name in models:
        found += _measure(CASES[name], backends, work, repeats)
    for name in models:
        found += _embedded(CASES[name], backends, work, repeats)
    if backends and models:
        found.append(_torch_compile(CASES[models[0]], backends[0], work, repeats))
    return found


def play_name(backend: str) -> str:
    """The step that plays a small bundle: whether engines load on this GPU at all."""
    return f"play {CHECKED} on {backend}"


def verify_name(what: str, backend: str) -> str:
    """The step that compares all stages of a bundle with their golden values."""
    return f"verify {what} on {backend}"


def bench_name(what: str, backend: str) -> str:
    """The step that measures a bundle."""
    return f"bench {what} on {backend}"


def idle_name(what: str, plan: str, backend: str) -> str:
    """The step that looks at one replay of a plan, kernel by kernel."""
    return f"idle {what} {plan} on {backend}"


def _check(backends: Sequence[str], work: Path, repeats: int) -> Iterator[Step]:
    """Do engines load on this GPU at all, and do they give what PyTorch gives in float32?"""
    bundle = work / CHECKED
    export = f"export {CHECKED}"
    command = [*KEEPSTEP, "export", EMOJI, "-o", str(bundle)]
    command += ["-s", "full", "-s", "dato-coco", "--dtype", "float16", *_engines(backends)]
    yield Step(export, tuple(command), 60)
    for backend in backends:
        picture = str(work / f"{CHECKED}-{backend}.png")
        play = (*KEEPSTEP, "run", str(bundle), "--plan", "dato-coco", "--backend", backend)
        command = [*play, "--prompt", "a red apple", "-o", picture]
        yield Step(play_name(backend), tuple(command), 20, (export,))
        yield _verify(CHECKED, backend, bundle, (play_name(backend),))
        look = (*_bench(bundle, backend, repeats), "--model", EMOJI, "--no-torch-compile")
        yield Step(bench_name(CHECKED, backend), look, 20, (play_name(backend),), alone=True)


def _prepare(case: Case, backends: Sequence[str], work: Path) -> Iterator[Step]:
    """The model, with random weights, and its bundle with shared weights."""
    model = work / "models" / case.model
    draw = [sys.executable, str(ROOT / "benchmarks/checkpoints.py"), case.model, str(model)]
    yield Step(f"draw {case.model}", (*draw, "--weights", "random"), case.draw)
    options = ["--verify", "stages", *_engines(backends)]
    command = _export(case, work / f"{case.model}-shared", model, options)
    yield Step(f"export {case.model}-shared", command, case.export[0], (f"draw {case.model}",))


def _measure(case: Case, backends: Sequence[str], work: Path, repeats: int) -> Iterator[Step]:
    """Stages against float32, then all rows on each backend."""
    what = f"{case.model}-shared"
    bundle, model = work / what, work / "models" / case.model
    for backend in backends:
        after = (f"export {what}", play_name(backend))
        yield _verify(what, backend, bundle, after)
        command = (*_beside_eager(bundle, backend, repeats, model), "--no-torch-compile")
        yield Step(bench_name(what, backend), command, case.measure, after, alone=True)
        for plan in (case.schedules[0], case.schedules[-1]):
            look = (sys.executable, str(IDLE), str(bundle), plan, backend)
            yield Step(idle_name(what, plan, backend), look, 8, after, alone=True)


def _embedded(case: Case, backends: Sequence[str], work: Path, repeats: int) -> Iterator[Step]:
    """The same with weights in the engines, where a backend bakes them in."""
    what = f"{case.model}-embedded"
    for backend in backends:
        if backend in SHARED_ONLY:
            continue
        options = ["--verify", "none", "--weights", "embedded", "--backend", ENGINES[backend]]
        bundle = work / f"{what}-{backend}"
        command = _export(case, bundle, work / "models" / case.model, options)
        export = f"export {what} for {backend}"
        after = (f"export {case.model}-shared", play_name(backend))
        yield Step(export, command, case.export[1], after, alone=True)
        yield Step(
            bench_name(what, backend),
            (*_bench(bundle, backend, repeats), "--no-eager"),
            case.measure / 3,
            (export,),
            alone=True,
        )


def _torch_compile(case: Case, backend: str, work: Path, repeats: int) -> Step:
    """All rows of a model again, and what torch.compile makes of it: that compiles for minutes."""
    what = f"{case.model}-shared"
    command = _beside_eager(work / what, backend, repeats, work / "models" / case.model)
    after = (bench_name(what, backend),)
    return Step(f"bench {what}, with torch.compile, on {backend}", command, 240, after, alone=True)


def _verify(what: str, backend: str, bundle: Path, after: tuple[str, ...]) -> Step:
    command = (*KEEPSTEP, "verify", str(bundle), "--backend", backend, "--json")
    return Step(verify_name(what, backend), command, 10, after, alone=True)


def _export(case: Case, bundle: Path, model: Path, options: Sequence[str]) -> tuple[str, ...]:
    schedules = [word for schedule in case.schedules for word in ("-s", schedule)]
    command = [*KEEPSTEP, "export", str(model), "-o", str(bundle), *schedules]
    return (*command, "--dtype", "float16", *options)


def _beside_eager(bundle: Path, backend: str, repeats: int, model: Path) -> tuple[str, ...]:
    return (*_bench(bundle, backend, repeats), "--model", str(model), "--no-equal-latency")


def _bench(bundle: Path, backend: str, repeats: int) -> tuple[str, ...]:
    command = [*KEEPSTEP, "bench", str(bundle), "--backend", backend, "--repeats", str(repeats)]
    return (*command, "--no-peaks", "--json", "--html", str(bundle.with_suffix(f".{backend}.html")))


def _engines(backends: Sequence[str]) -> list[str]:
    return [word for b in dict.fromkeys(ENGINES[b] for b in backends) for word in ("--backend", b)]
