"""A checkpoint at one picture size, as the compiler knows it, and the families that make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..errors import ScheduleError
from ..folder.hub import quiet
from ..folder.model_folder import class_in
from ..schedule.sampler import AS_IT_IS, Timing
from ..schedule.schema import Schedule
from ..schedule.settings import Guidance
from .autoencoder import Autoencoder
from .checkpoint import Checkpoint
from .denoiser import Denoiser
from .guidance import SCALE, of_both, of_guidance
from .scheduler_config import scheduler_config
from .text import Text


@dataclass(frozen=True)
class Model:
    """The parts of a text-to-image model, their modules in float32 and in eval mode.

    family      its name, for people and for who loads the model again
    guidances   what its runs can have; the first is what they have where a schedule says nothing
    sizes       conditions of one half that are no text: a row for every picture
    guidance_scale  the one that the family's pipeline has where none is given
    steps       as many as its pipeline makes where none are given
    timing      how its pipeline asks its scheduler for timesteps
    mends       settings that the pipeline gives its scheduler, whatever the checkpoint says
    height, width   of the picture, pixels
    """

    family: str
    checkpoint: Checkpoint
    denoiser: Denoiser
    text: Text
    autoencoder: Autoencoder
    height: int
    width: int
    guidances: tuple[Guidance, ...] = ("classifier-free", "none")
    sizes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    guidance_scale: float = 7.5
    steps: int = 50
    timing: Timing = AS_IT_IS
    mends: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.checkpoint.name

    @cached_property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Which scheduler runs is up to the schedule; its settings are the checkpoint's."""
        return scheduler_config(self.checkpoint, self.mends)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        factor = self.autoencoder.factor
        return self.denoiser.channels, self.height // factor, self.width // factor

    def settled(self, schedule: Schedule) -> Schedule:
        """`schedule` with this model's own scheduler and steps where it names none.

        Raises `ScheduleError`.
        """
        own = str(self.scheduler_config["_class_name"])
        try:
            sampler = schedule.sampler.settled(own, self.steps)
        except ValueError as error:  # a strength that leaves none of them
            raise ScheduleError(
                f"schedule '{schedule.name}': {self.steps} steps, as {self.family} makes them, are "
                f"too few for strength {schedule.sampler.strength}: name more in `sampler`"
            ) from error
        return schedule.model_copy(update={"sampler": sampler})

    def guidance_of(self, schedule: Schedule) -> Guidance:
        """What guidance a run has; raises `ScheduleError`."""
        guidance = schedule.guidance or self.guidances[0]
        if guidance not in self.guidances:
            raise ScheduleError(
                f"schedule '{schedule.name}': guidance is '{guidance}', but {self.name} is a "
                f"{self.family} model, which has {' or '.join(self.guidances)}: change `guidance`"
            )
        return guidance

    def conditions(self, batch: int, guidance: Guidance) -> dict[str, tuple[int, ...]]:
        """Shapes of what the network is told beside latents and timestep, all float32."""
        shapes = {name: (batch, *shape) for name, shape in self.denoiser.conditions.items()}
        told = of_guidance(of_both(shapes), guidance)
        return told | ({SCALE: ()} if guidance == "embedded" else {})

    def told_sizes(self, batch: int, guidance: Guidance) -> dict[str, Tensor]:
        """Conditions that are no text, (B, …)."""
        rows = {name: torch.tensor([row]).repeat(batch, 1) for name, row in self.sizes.items()}
        return of_guidance({name: row.clone() for name, row in of_both(rows).items()}, guidance)

    def defaults(self, guidance: Guidance) -> dict[str, float | tuple[float, ...]]:
        """What a run is told where its caller says nothing: the guidance scale, and a picture that
        was neither cropped nor resized."""
        told: dict[str, float | tuple[float, ...]] = {**of_both(self.sizes)}
        return of_guidance(told | {SCALE: self.guidance_scale}, guidance)

    def embed(
        self,
        prompts: list[str],
        negative_prompts: list[str] | None = None,
        guidance: Guidance = "classifier-free",
    ) -> dict[str, Tensor]:
        """All conditions of prompts, by running the text encoders eagerly, where they are."""
        told = self.text.embed(prompts, negative_prompts, guidance)
        return told | self.told_sizes(len(prompts), guidance)

    def placed(self, device: str, dtype: torch.dtype) -> Model:
        """The model with its modules moved to `device` and into `dtype`.

        A VAE whose checkpoint says that it overflows in float16 stays in float32, as diffusers'
        pipelines have it.
        """
        upcast = dtype == torch.float16 and self.autoencoder.upcast
        with quiet():
            vae = self.autoencoder.module.to(device, torch.float32 if upcast else dtype)
            network = self.denoiser.module.to(device, dtype)
        return replace(
            self,
            denoiser=replace(self.denoiser, module=network),
            autoencoder=replace(self.autoencoder, module=vae),
            text=self.text.to(device, dtype),
        )


@dataclass(frozen=True)
class Family:
    """Checkpoints of one kind.

    name     of the family
    network  the component that predicts, and its class
    fits     whether a model_index.json with such a network is of it
    load     its model, of a checkpoint, height and width (None: as it was trained), and how a
             component's module is made of its class; raises `ModelError`
    mends    settings that its pipeline gives its scheduler, whatever the checkpoint says
    """

    name: str
    network: tuple[str, str]
    fits: Callable[[Mapping[str, Any]], bool]
    load: Callable[[Checkpoint, int | None, int | None, Callable[[Any, str], Any]], Model]
    mends: Mapping[str, object] = field(default_factory=dict)


def with_encoders(*alternatives: Mapping[str, type]) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a model_index.json has one of these sets of text encoders, and no others."""
    wanted = [{part: cls.__name__ for part, cls in encoders.items()} for encoders in alternatives]

    def fits(index: Mapping[str, Any]) -> bool:
        parts = [part for part in index if part.startswith("text_encoder")]
        return {part: name for part in parts if (name := class_in(index, part))} in wanted

    return fits
