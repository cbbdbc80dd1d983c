"""keepstep's compiler: a diffusers checkpoint and fixed schedules become a bundle.

>>> from keepstep.exporter import export
>>> bundle = export("models/emoji", ["full", "dato-coco"], "engines/emoji")  # doctest: +SKIP

A schedule meets a model (schedule, folder, models, pruning), the model's network is traced and cut
into stages (graph, stages, engines), a plan says when which of them runs (plan), all of it is held
against an eager run (check) and written as a bundle (store); compiler.py drives them. Nothing heavy
is loaded before a name is used: `keepstep run` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compiler import export
    from .errors import ExportError, ModelError, SamplerError, ScheduleError
    from .schedule.schema import Schedule

__all__ = ["ExportError", "ModelError", "SamplerError", "Schedule", "ScheduleError", "export"]

_HOMES = {"export": "compiler", "Schedule": "schedule.schema"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
