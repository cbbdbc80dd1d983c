"""A checkpoint's scheduler as its pipeline has it, not as its file says.

diffusers' pipelines mend settings of old checkpoints when they are made, and a setting that the
file leaves out is a default of the scheduler's own class, which another class does not inherit.
So the checkpoint's own scheduler is made, and its config is what schedules build on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers

from ..errors import ModelError
from ..folder.hub import brief, quiet
from ..schedule.scheduler import is_scheduler
from ..schedule.settings import Guidance
from .checkpoint import Checkpoint

# Schedulers that only checkpoints distilled for few steps, guidance included, come with.
_OF_DISTILLED = ("LCMScheduler", "TCDScheduler")


def guidances_of(checkpoint: Checkpoint) -> tuple[Guidance, ...]:
    """What runs of a checkpoint can have, first what they have where a schedule says nothing.

    A distilled checkpoint has none there.
    """
    index = checkpoint.index
    _, scheduler = index.get("scheduler") or (None, None)
    if index.get("is_distilled") or scheduler in _OF_DISTILLED:
        return ("none", "classifier-free")
    return ("classifier-free", "none")


def scheduler_config(checkpoint: Checkpoint, mends: Mapping[str, object]) -> Mapping[str, Any]:
    """The config of the pipeline's scheduler, with its class as `_class_name`.

    mends   settings that the pipeline gives the scheduler, whatever its file says, if it has them
    Raises `ModelError`.
    """
    written = checkpoint.config("scheduler")
    _, name = checkpoint.index.get("scheduler") or (None, None)
    cls: Any = getattr(diffusers, str(name), None)
    if not is_scheduler(cls):
        return written
    try:
        with quiet():
            made = cls.from_config({**written, "_class_name": name})
    except Exception as error:  # whatever a third-party scheduler raises
        raise ModelError(
            f"{checkpoint.name}/scheduler: {name} refuses its settings: {brief(error)}. "
            "Fetch or save the model again"
        ) from error
    config = dict(made.config)
    return config | {key: value for key, value in mends.items() if key in config}
