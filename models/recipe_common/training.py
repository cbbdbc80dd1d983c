"""What training loops share: the clock, checkpoints that survive a kill, averaged weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.training_utils import EMAModel
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(on: torch.device) -> AbstractContextManager[Any]:
    """bfloat16 on a GPU only: CPUs without bfloat16 units emulate it, many times slower."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if on.type == "cuda" else nullcontext()


@dataclass
class Clock:
    """Training time spent, over all calls. Plans are made in minutes, not in steps, so that a
    recipe ends when it should on a slow or shared machine."""

    minutes: float
    spent: float = 0.0
    call_limit: float | None = None
    _call_spent: float = field(default=0.0, init=False)
    _mark: float = field(default=0.0, init=False)

    def start(self) -> None:
        self._mark = time.monotonic()

    def tick(self) -> float:
        """Count the time since the last tick or start; minutes."""
        now = time.monotonic()
        elapsed = (now - self._mark) / 60
        self._mark = now
        self.spent += elapsed
        self._call_spent += elapsed
        return elapsed

    @property
    def progress(self) -> float:
        """0 at the start of the plan, 1 at its end."""
        return min(1.0, self.spent / self.minutes)

    @property
    def call_is_over(self) -> bool:
        return self.call_limit is not None and self._call_spent >= self.call_limit

    @property
    def is_over(self) -> bool:
        return self.progress >= 1.0 or self.call_is_over


def learning_rate(peak: float, step: int, warmup_steps: int, progress: float) -> float:
    """Linear warm-up by step; the peak for two thirds of the plan; then linear to 2 % of it."""
    warmup = min(1.0, (step + 1) / warmup_steps)
    return peak * warmup * min(1.0, max(0.02, 3 * (1 - progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value


@dataclass(frozen=True)
class Phase:
    """One stretch of denoiser training at one latent size.

    16x16 latents are those of half-size pictures: four times cheaper, and enough to learn which
    word means which colour and shape before any time is spent on detail.
    """

    latent_size: int
    minutes: float
    batch: int


def phase_at(phases: Sequence[Phase], minute: float) -> Phase:
    """The one that is on after so many minutes of training; the last one at the end."""
    for phase in phases:
        if minute < phase.minutes:
            return phase
        minute -= phase.minutes
    return phases[-1]


def checkpoint_path(work: Path, recipe: str, part: str) -> Path:
    return work / f"{part}-{recipe}.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Written beside and renamed: a kill in the middle leaves the old checkpoint whole."""
    beside = path.with_suffix(".partial")
    torch.save(state, beside)
    beside.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Checkpoints hold tensors and plain values only."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


@contextmanager
def averaged(model: nn.Module, ema: EMAModel) -> Iterator[None]:
    """The model carries the averaged weights inside, its own again afterwards."""
    parameters = list(model.parameters())
    ema.store(parameters)
    ema.copy_to(parameters)
    model.eval()
    try:
        yield
    finally:
        ema.restore(parameters)
        model.train()


@dataclass
class Every:
    """True once in so many minutes of the clock."""

    minutes: float
    clock: Clock
    last: float = 0.0

    def due(self) -> bool:
        if self.clock.spent - self.last < self.minutes:
            return False
        self.last = self.clock.spent
        return True


class Threads:
    """One thread or all of them, whichever is faster at the moment.

    On a machine that others use too, threads that wait for each other at every layer can be
    several times slower than a single one. So time both: the other choice gets two steps now and
    then, and a step that is slower than the other choice's last one ends the current choice.
    """

    TRY_OTHER_AFTER_SECONDS = 20.0

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.active = device().type == "cpu" and self.most > 1
        self.now = self.most
        self.seconds = {1: math.inf, self.most: 0.0}
        self.steps_left, self.since = 2, 0.0

    def after_step(self, seconds: float) -> None:
        """To be told how long each step took."""
        if not self.active:
            return
        self.since += seconds
        self.steps_left -= 1
        if self.steps_left > 0:  # the first step after a change pays for the change
            return
        self.seconds[self.now] = seconds
        other = 1 if self.now == self.most else self.most
        if seconds > self.seconds[other] or self.since > self.TRY_OTHER_AFTER_SECONDS:
            self.now, self.steps_left, self.since = other, 2, 0.0
            torch.set_num_threads(other)


class Bar:
    """A progress bar in the plan's minutes; a line a minute when nobody is watching."""

    def __init__(self, title: str, clock: Clock) -> None:
        self.clock = clock
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self.task = self.progress.add_task(title, total=clock.minutes, note="")
        self.interactive = self.progress.console.is_terminal
        self.log = Every(1.0, clock, last=clock.spent)

    def __enter__(self) -> Bar:
        if self.interactive:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.interactive:
            self.progress.stop()

    def show(self, note: str) -> None:
        self.progress.update(self.task, completed=self.clock.spent, note=note)
        if not self.interactive and self.log.due():
            self.log_line(note)

    def log_line(self, note: str) -> None:
        """A line that stays, above the bar."""
        line = f"{self.clock.spent:6.1f} of {self.clock.minutes:.0f} min  {note}"
        self.progress.console.print(line, highlight=False)


def batches(pool: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless shuffled entries of `pool`, (size,) each; all of it before any comes again."""
    queue = torch.empty(0, dtype=torch.long)
    while True:
        while len(queue) < size:
            queue = torch.cat([queue, pool[torch.randperm(len(pool), generator=generator)]])
        yield queue[:size]
        queue = queue[size:]


M = TypeVar("M", bound=nn.Module)


def with_averages(model: M, path: Path) -> M:
    """`model` with the averaged weights of the checkpoint in `path`, in eval mode.

    Raises `FileNotFoundError`.
    """
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError("no denoiser yet: run `train.py denoiser` first")
    for parameter, average in zip(model.parameters(), state["ema"]["shadow_params"], strict=True):
        parameter.data.copy_(average)
    return model.eval()
