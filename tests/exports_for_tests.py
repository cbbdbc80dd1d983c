"""What the tests export, and how it is named."""

from __future__ import annotations

from pathlib import Path

from keepstep.exporter import Schedule
from keepstep.exporter.schedule.settings import Sampler

EMOJI = Path(__file__).resolve().parents[1] / "models/emoji"
BUILT_IN = ("full", "deepcache-n3", "dato-coco")

# Name → the scheduler as a schedule file would give it.
SAMPLERS = {
    "ddim": {"scheduler": "DDIMScheduler", "steps": 8, "clip_sample": False},
    "pndm": {"scheduler": "PNDMScheduler", "steps": 8},
    "euler": {"scheduler": "EulerDiscreteScheduler", "steps": 8},
    "heun": {"scheduler": "HeunDiscreteScheduler", "steps": 6},
    "lms": {"scheduler": "LMSDiscreteScheduler", "steps": 8},
    "dpm": {"scheduler": "DPMSolverMultistepScheduler", "steps": 8},
    "dpm-karras": {
        "scheduler": "DPMSolverMultistepScheduler",
        "steps": 8,
        "use_karras_sigmas": True,
    },
    "unipc": {"scheduler": "UniPCMultistepScheduler", "steps": 8},
    "deis": {"scheduler": "DEISMultistepScheduler", "steps": 8},
}


def with_sampler(name: str) -> Schedule:
    """Every call full, with one of `SAMPLERS`."""
    sampler = Sampler.model_validate(SAMPLERS[name])
    return Schedule.load("full").model_copy(update={"name": name, "sampler": sampler})
