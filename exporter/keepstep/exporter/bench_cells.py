"""What the benchmark runs: a plan played by keepstep, or its schedule run eagerly by PyTorch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from keepstep.runtime import Bundle
from keepstep.runtime.plan import Call


@dataclass(frozen=True)
class Setting:
    """What is drawn in every cell."""

    prompt: str = "a red apple"
    guidance_scale: float = 5.0
    seed: int = 0
    repeats: int = 5
    threads: int | None = None


@dataclass(frozen=True)
class Run:
    """One run of one cell."""

    image: np.ndarray  # uint8 (B, H, W, 3)
    calls: Sequence[tuple[str, float]]  # a kind and its seconds, call by call

    @property
    def seconds(self) -> float:
        """The whole picture: text, loop, decoder."""
        return sum(seconds for _, seconds in self.calls)


class Cell(Protocol):
    """One row of the table: a schedule, and how it is run."""

    plan: str
    how: str

    def run(self) -> Run:
        """Draw the setting's picture once."""


@dataclass
class CompiledCell:
    """A plan, played by keepstep."""

    bundle: Bundle
    plan: str
    how: str  # the backend
    setting: Setting

    @cached_property
    def _player(self) -> Any:
        return self.bundle.player(self.plan, self.how, threads=self.setting.threads)

    def run(self) -> Run:
        """Play the plan, timing every launch."""
        player = self._player
        shape = player.inputs["noise"].shape
        inputs: dict[str, Any] = {
            **player.encode(self.setting.prompt),
            "noise": noise(shape, self.setting.seed),
            "guidance_scale": np.float32(self.setting.guidance_scale),
        }
        if "selection_noise" in player.inputs:
            extra = player.inputs["selection_noise"].shape
            inputs["selection_noise"] = noise(extra, self.setting.seed + 1)
        if "init_image" in player.inputs:
            inputs["init_image"] = grey(player.inputs["init_image"].shape)
        calls: list[tuple[str, float]] = []
        since = time.perf_counter()

        def note(_done: int, _total: int, call: Call) -> None:
            nonlocal since
            now = time.perf_counter()
            kind = call.stage if call.step is None else player.plan.steps[call.step].kind
            calls.append((kind, now - since))
            since = now

        return Run(player.run(inputs, progress=note)["image"], calls)


@dataclass
class EagerCell:
    """The schedule of a plan, run eagerly by PyTorch with the model that was exported."""

    bundle: Bundle
    plan: str
    model: str
    setting: Setting
    how: str = "eager"

    @cached_property
    def _loaded(self) -> Any:
        from . import models

        return models.load(self.model)

    def run(self) -> Run:
        """Draw with the real scheduler and the real modules."""
        import torch

        from .bundle_writer import schedule_path
        from .reference import run_eagerly
        from .schedule import Schedule

        if self.setting.threads:
            torch.set_num_threads(self.setting.threads)
        model, plan = self._loaded, self.bundle.plan(self.plan)
        start = time.perf_counter()
        shape = plan.values["noise"].type.shape
        prompts = [self.setting.prompt] * shape[0]
        told = model.embed(prompts, [""] * shape[0])
        text = ("text", time.perf_counter() - start)
        extra = plan.values.get("selection_noise")
        start_from = plan.values.get("init_image")
        run = run_eagerly(
            model,
            Schedule.load(self.bundle.path / schedule_path(self.plan)),
            torch.from_numpy(noise(shape, self.setting.seed)),
            told,
            self.setting.guidance_scale,
            torch.from_numpy(noise(extra.type.shape, self.setting.seed + 1)) if extra else None,
            init_image=torch.from_numpy(grey(start_from.type.shape)) if start_from else None,
        )
        return Run(run.image, [text, *run.seconds])


def grey(shape: tuple[int, ...]) -> np.ndarray:
    """The picture, uint8, that plans which start from an image are measured with."""
    return np.full(shape, 128, np.uint8)


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Standard normal float32 noise that is the same on every machine."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
