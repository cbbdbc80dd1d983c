"""keepstep's compiler: a diffusers checkpoint and fixed schedules become a bundle.

>>> from keepstep.exporter import export
>>> bundle = export("models/emoji", ["full", "dato-coco"], "engines/emoji")  # doctest: +SKIP

The modules in processing order: schedule → sampler → models, pruning → trace → passes → stages →
onnx_from_trace → engine_from_onnx → program, memory → bundle_writer; compiler.py drives them, and
cli.py is the command. Nothing heavy is loaded before a name is used: `keepstep run` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compiler import export
    from .errors import ExportError, ModelError, SamplerError, ScheduleError
    from .schedule import Schedule

__all__ = ["ExportError", "ModelError", "SamplerError", "Schedule", "ScheduleError", "export"]

_HOMES = {"export": "compiler", "Schedule": "schedule"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'errors')}", __name__), name)
