"""What is asked of an export, and the key under which its result is cached.

Light: a second export of the same thing is found here, before torch is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .engines import Builder
from .errors import ExportError, ScheduleError
from .folder.content import Content
from .folder.model_folder import PLAIN, Choice
from .schedule.schema import Schedule
from .store.cache import cache_key
from .toolchain import toolchain

DType = Literal["float32", "float16", "bfloat16"]
Checks = Literal["run", "stages", "none"]
# What can be asked to stay in float32: parts of a run, and kinds of operations.
IN_FLOAT32 = ("text", "prompt", "full", "shallow", "decode", "attention", "linear", "convolution")


@dataclass(frozen=True)
class ExportRequest:
    """model      a diffusers folder or hub id
    choice     which of its files are read
    dtype      of weights and products; the sampler, norms and pictures stay in float32
    float32    what else stays in float32: stages (text, prompt, full, shallow, decode) or kinds of
               operations (attention, linear, convolution)
    verify     `run`: every stage and one whole eager run of every schedule; `stages`: every stage;
               `none`: nothing, and no golden values
    """

    model: str
    schedules: Sequence[Schedule]
    builders: Sequence[Builder]
    height: int | None = None
    width: int | None = None
    batch: int = 1
    dtype: DType = "float32"
    float32: Sequence[str] = ()
    embedded: bool = False
    verify: Checks = "run"
    choice: Choice = PLAIN

    def __post_init__(self) -> None:
        if not self.schedules:
            raise ExportError("no schedule given: name at least one, such as `full`")
        names = [schedule.name for schedule in self.schedules]
        for name in names:
            if names.count(name) > 1:
                raise ScheduleError(f"two schedules are named '{name}': give each its own name")
        if not self.builders:
            raise ExportError("no backend given: name at least one, such as `onnxruntime`")
        if not 1 <= self.batch <= 1024:
            raise ExportError(f"batch is {self.batch}: give 1 to 1024 pictures a run")
        for what, found, known in (
            ("dtype", self.dtype, get_args(DType)),
            ("verify", self.verify, get_args(Checks)),
        ):
            if found not in known:
                raise ExportError(f"{what} is {found!r}: known are {', '.join(known)}")
        if self.dtype == "bfloat16" and "onnxruntime" in [b.backend for b in self.builders]:
            raise ExportError(
                "dtype is 'bfloat16', in which ONNX Runtime computes nothing on a CPU: choose "
                "float16 or float32, or leave that backend out, as with --backend tensorrt-rtx"
            )
        for name in self.float32:
            if name not in IN_FLOAT32:
                raise ExportError(
                    f"'{name}' cannot be kept in float32: known are {', '.join(IN_FLOAT32)}"
                )

    def key(self, content: Content) -> str:
        """What its bundle depends on, made of a model folder with this content."""
        return cache_key(
            {
                "model": {"name": content.folder.name, "content": content.sha256},
                "schedules": [schedule.to_yaml() for schedule in self.schedules],
                "builders": [{"backend": b.backend, **b.identity()} for b in self.builders],
                "size": [self.height, self.width, self.batch],
                "dtype": self.dtype,
                "float32": sorted(self.float32),
                "embedded": self.embedded,
                "verify": self.verify,
                "variant": self.choice.variant,
                "without_t5": self.choice.without_t5,
                "toolchain": dict(toolchain()),
            }
        )
