"""How TensorRT-RTX and TensorRT speak: their log, their types, and why an engine is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from keepstep.runtime.quoting import quote

TENSORRT_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""The name of a TensorRT data type → that of a plan."""


@cache
def tensorrt_log(trt: Any) -> Any:
    """The log of `trt`, the module `tensorrt_rtx` or `tensorrt`; it keeps errors in `errors`.

    One for all: the library holds on to the first that it is given.
    """

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()


def alias_fault(in_place: Mapping[str, str], aliased: Mapping[str, str]) -> str | None:
    """What an engine wants in one place, output → input, that its stage does not promise.

    The other way round is no fault: every call is bound to the address that the stage says, and an
    engine that says nothing of it may do well there. Whether it does, `keepstep verify` tells.
    """
    for output, input_ in aliased.items():
        if in_place.get(output) != input_:
            return (
                f"the engine wants {quote(output)} in the memory of {quote(input_)}, and the "
                "stage's in_place does not say so"
            )
    return None


def refusal(diagnostics: int, names: Mapping[str, int], gpu: str, said: Collection[str]) -> str:
    """Why an engine does not run here: the library's diagnostics, its words, and what to do."""
    reasons = [name for name, bit in names.items() if diagnostics & bit]
    why = "; ".join([*reasons, *said]) or "no reason was given"
    ways = {
        "UNSUPPORTED_CC": "it knows no engines for this GPU: play with onnxruntime-cuda",
        "VERSION_MISMATCH": "export the bundle again with the version that is installed here",
        "MALFORMED_ENGINE": "export the bundle again with the version that is installed here",
        "OLD_CUDA_DRIVER": "install a newer driver",
        "OLD_CUDA_RUNTIME": "install a newer driver",
        "INSUFFICIENT_GPU_MEMORY": "close what else uses the GPU, or export smaller",
    }
    way = next((ways[name] for name in reasons if name in ways), "play with onnxruntime-cuda")
    return f"does not run on {gpu}: {why}; {way}"
