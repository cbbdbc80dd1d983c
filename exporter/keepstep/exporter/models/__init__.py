"""From diffusers checkpoints to what the compiler has to know of them, one file a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import ModelError
from ..folder.model_folder import NETWORKS, ModelFolder, class_in, find_folder
from . import flux, pixart, stable_diffusion, stable_diffusion_3, stable_diffusion_xl
from .checkpoint import Checkpoint
from .family import Family, Model
from .scheduler_config import scheduler_config

__all__ = ["FAMILIES", "Checkpoint", "Family", "Model", "load", "register", "scheduler_config_of"]

FAMILIES: list[Family] = [
    stable_diffusion.FAMILY,
    stable_diffusion_xl.FAMILY,
    stable_diffusion_3.FAMILY,
    *pixart.FAMILIES,
    flux.FAMILY,
]


def register(family: Family) -> None:
    """Know one more family, such as one of a user's own (docs/families.md)."""
    component, cls = family.network
    NETWORKS.setdefault(component, set()).add(cls)
    FAMILIES.append(family)


def load(
    model: str | ModelFolder,
    height: int | None = None,
    width: int | None = None,
    *,
    weights: bool = True,
) -> Model:
    """The model of a diffusers folder or hub id at one picture size (pixels).

    Its modules have their weights in float32, to be run; or none (`weights=False`), to be traced.
    Raises `ModelError` if no family fits.
    """
    checkpoint = _checkpoint(model)
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def module(cls: Any, component: str) -> Any:
        if weights:
            return checkpoint.loaded(cls, component)
        return checkpoint.weightless(cls, component, mode)

    made = _family(checkpoint).load(checkpoint, height, width, module)
    _ = made.scheduler_config  # refused now, not when a schedule is lowered
    return made


def scheduler_config_of(model: str | ModelFolder) -> Mapping[str, Any]:
    """The settings of the model's scheduler, without making its modules; raises `ModelError`."""
    checkpoint = _checkpoint(model)
    return scheduler_config(checkpoint, _family(checkpoint).mends)


def _checkpoint(model: str | ModelFolder) -> Checkpoint:
    return Checkpoint(model if isinstance(model, ModelFolder) else find_folder(model))


def _family(checkpoint: Checkpoint) -> Family:
    index = checkpoint.index
    for family in FAMILIES:
        component, cls = family.network
        if class_in(index, component) == cls and family.fits(index):
            return family
    known = ", ".join(dict.fromkeys(family.name for family in FAMILIES))
    raise ModelError(
        f"{checkpoint.name}: a {index.get('_class_name')}; this version exports the families "
        f"{known}"
    )
