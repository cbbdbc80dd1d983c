"""What the benchmark runs: a plan on one backend. Its schedule run by PyTorch is in eager.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from keepstep.exporter.check.verify import distance, recorded_inputs
from keepstep.exporter.schedule.schema import LETTER_OF
from keepstep.playing.conditioning import grey, run_inputs
from keepstep.runtime import Bundle, Player
from keepstep.runtime.backends import backend, playable
from keepstep.runtime.errors import BackendError
from keepstep.runtime.format.plan import Call, Plan
from keepstep.runtime.quoting import quote, quote_names

from .setting import Setting


@dataclass(frozen=True)
class Run:
    """One run of one configuration."""

    image: np.ndarray  # uint8 (B, H, W, 3)
    seconds: float  # the whole picture: text, loop, decoder
    calls: tuple[tuple[str, float], ...]  # a label and its seconds, call by call
    device_bytes: int | None = 0  # of a GPU; None where that is not known
    loop: Collection[str] = tuple(LETTER_OF)  # labels of the network's calls; a schedule's kinds


class Configuration(Protocol):
    """One row of the table: a schedule, and how it is run."""

    bundle: Bundle
    plan: str
    label: str  # the plan's name as people read it
    how: str  # a backend, or what of PyTorch
    model: str | None  # the folder that PyTorch loads; None where a bundle is played
    rounds: int  # in which it takes part

    def run(self) -> Run:
        """Draw the setting's picture once."""

    def golden_error(self) -> float | None:
        """How far latents are from those of the recorded eager run; None without one."""

    def close(self) -> None:
        """Give memory back."""


@dataclass
class CompiledConfiguration:
    """A plan, played by keepstep."""

    bundle: Bundle
    plan: str
    how: str
    setting: Setting
    label: str = ""
    model: str | None = None

    def __post_init__(self) -> None:
        self.label = self.label or self.plan
        self.rounds = self.setting.repeats

    @cached_property
    def _player(self) -> Player:
        return self.bundle.player(self.plan, self.how, threads=self.setting.threads)

    def run(self) -> Run:
        """Play the plan, timing every launch."""
        player, scale = self._player, self.setting.guidance_scale
        profile = player.profile(
            run_inputs(
                player,
                self.setting.prompt,
                guidance_scale=scale if "guidance_scale" in player.inputs else None,
                seed=self.setting.seed,
                start=grey(player.inputs),
            )
        )
        calls = tuple((_label(player.plan, time.call), time.seconds) for time in profile.calls)
        loop = {step.label for step in player.plan.steps}
        return Run(profile.outputs["image"], profile.seconds, calls, player.device_bytes, loop)

    def golden_error(self) -> float | None:
        """Relative, of the latents; None where the bundle has no recorded run."""
        if f"golden/{self.plan}.safetensors" not in self.bundle.manifest.files:
            return None
        golden = self.bundle.golden(self.plan)
        if "outputs.latents" not in golden:
            return None
        latents = self._player.run(recorded_inputs(golden))["latents"]
        return distance(latents, golden["outputs.latents"], "float32")

    def close(self) -> None:
        """Close the player, if there is one."""
        if player := self.__dict__.pop("_player", None):
            player.close()


def _label(plan: Plan, call: Call) -> str:
    """What a call is to people: of the network its step's label, else its stage."""
    return call.stage if call.step is None else plan.steps[call.step].label


def backends_for(bundle: Bundle, plan: str, asked: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Those of the `asked` backends that play `plan` here; all that do where none is asked for.

    Raises `BackendError` for one that does not, with what is missing.
    """
    program = bundle.plan(plan)
    found = playable(program)
    engines = sorted({kind for stage in program.stages.values() for kind in stage.engines})
    for name in asked or (() if found else engines):
        if name not in found:
            backend(name)  # says what is missing
            raise BackendError(
                f"backend {quote(name)} plays nothing of plan {quote(plan)}: the bundle has "
                f"engines for {quote_names(engines)}; what can be measured here: "
                f"{quote_names(found)}"
            )
    return tuple(dict.fromkeys(asked)) or found
