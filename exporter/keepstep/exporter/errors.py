"""What can go wrong while exporting; all are `keepstep.runtime.errors.KeepstepError`.

KeepstepError
└── ExportError               what the user gave cannot be exported; the text says the way out
    ├── ScheduleError         a schedule file is not one, or does not fit the model or its sampler
    ├── ModelError            a model folder is missing, cut, or of a family we have no adapter for
    └── SamplerError          a diffusers scheduler cannot be lowered to coefficients

Our own faults are plain exceptions (assertions in the passes above all) and keep their traceback.
"""

from __future__ import annotations

from keepstep.runtime.errors import KeepstepError


class ExportError(KeepstepError):
    """What was given cannot be exported."""


class ScheduleError(ExportError):
    """A schedule is malformed, or does not fit the model or the sampler."""


class ModelError(ExportError):
    """A model folder cannot be used."""


class SamplerError(ExportError):
    """A scheduler is not a fixed linear map of the start noise and the predictions."""
