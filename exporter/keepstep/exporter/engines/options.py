"""What a user may choose of how engines are built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from keepstep.runtime.quoting import quote, quote_names

from ..errors import ExportError

Weights = Literal["shared", "embedded"]
_CAPABILITY = re.compile(r"SM(\d+)(\d)", re.ASCII)  # SM89 is 8.9, SM120 is 12.0


@dataclass(frozen=True)
class BuildOptions:
    """How engines are built; a backend ignores what it has no use for.

    compute_capabilities   of the GPUs that the engine is for, as "8.9"; none: the library's own
                           choice (TensorRT-RTX: every GPU from 8.6 that it knows, no GPU needed)
    weights                "shared": they stay inputs, handed over at run time, one copy for all
                           engines; "embedded": they are baked into every engine
    weight_streaming       embedded weights may stay in host memory, at the expense of speed, when
                           a GPU's memory is short
    tf32                   float32 products may be rounded to 10 bits of mantissa, for speed
    Raises `ExportError`.
    """

    compute_capabilities: tuple[str, ...] = ()
    weights: Weights = "shared"
    weight_streaming: bool = False
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise ExportError(
                f"weights are to be {quote(self.weights)}: give one of "
                f"{quote_names(get_args(Weights))}"
            )
        if self.weight_streaming and self.weights == "shared":
            raise ExportError(
                "weight streaming is about weights within an engine, and shared weights are "
                "outside of it: ask for embedded weights, or leave weight streaming out"
            )


def check_compute_capabilities(
    chosen: tuple[str, ...], names: Iterable[str], library: str
) -> dict[str, str]:
    """The library's name of each compute capability, such as "8.9" → "SM89", in its order.

    names     of the library's enum, so that a GPU which it learns to know needs no change here
    Raises `ExportError` for one that the library does not know, or that is given twice.
    """
    known = {f"{m[1]}.{m[2]}": name for name in names if (m := _CAPABILITY.fullmatch(name))}
    if chosen and not known:
        raise ExportError(
            f"{library} builds for the GPU at hand and takes no compute capabilities: leave them "
            "out, or build for tensorrt-rtx"
        )
    for capability in chosen:
        if capability not in known:
            raise ExportError(
                f"{library} builds no engines for compute capability {quote(capability)}: it "
                f"knows {quote_names(known)}; choose among these, or none for its own choice"
            )
        if chosen.count(capability) > 1:
            raise ExportError(
                f"compute capability {quote(capability)} is given twice: once will do"
            )
    return {capability: name for capability, name in known.items() if capability in chosen}
