"""Engines of ONNX Runtime, on any device: loaded, compared with the plan, bound to addresses.

An engine is an ONNX file without weights: they are handed over when it is loaded, as arrays that
all engines of a bundle share. Its file is read once, and ONNX Runtime is given the very bytes that
have been checked. Every call is bound to its memory once, so that playing allocates
and copies nothing outside of ONNX Runtime's own kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from keepstep.runtime.backends.onnx_structure import check_onnx
from keepstep.runtime.backends.onnx_wire import OnnxError
from keepstep.runtime.errors import BackendError, BundleError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, Stage, TensorType
from keepstep.runtime.memory.constants import ConstantPart, host_array
from keepstep.runtime.quoting import sanitize

ONNX_TYPES = {  # number in onnx.TensorProto.DataType, name in ONNX Runtime
    "float32": (1, "tensor(float)"),
    "uint8": (2, "tensor(uint8)"),
    "int32": (6, "tensor(int32)"),
    "int64": (7, "tensor(int64)"),
    "bool": (9, "tensor(bool)"),
    "float16": (10, "tensor(float16)"),
    "bfloat16": (16, "tensor(bfloat16)"),
}
ORT_ERRORS: tuple[type[Exception], ...] = (  # they have no base class of their own
    RuntimeError,
    UnicodeDecodeError,  # where its message quotes what is no text
    MemoryError,
    *(
        kind
        for kind in vars(ort_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)
_ERRORS_ONLY = 3
_MOST_BYTES = 2**31 - 1  # of one protobuf message
_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")

Weights = Mapping[str, tuple[TensorType, np.ndarray]]


def stage_weights(bundle: BundleFolder, plan: Plan, stage: str) -> Weights:
    """The weights of a stage in the bundle's mapped memory, in the order of their names."""
    return {
        tensor: (plan.values[value].type, host_array(bundle, plan, ConstantPart(value)))
        for tensor, value in sorted(plan.stages[stage].weights.items())
    }


def session_options(weights: Weights) -> Any:
    """Options with which an engine reads weights that somebody else holds."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Each engine has threads of its own: those of the last one are not to spin beside the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # What has been checked is an ONNX file: its bytes are not to be taken for another format, and
    # types that it declares are not to be taken for true.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.strict_shape_type_inference", "1")
    if weights:
        options.add_external_initializers(
            list(weights),
            [
                ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, ONNX_TYPES[type_.dtype][0])
                for type_, array in weights.values()
            ],
        )
    return options


def load(
    bundle: BundleFolder,
    plan: Plan,
    name: str,
    path: str,
    options: Any,
    provider: str,
    **settings: str,
) -> Any:
    """The session of the stage `name` on one provider.

    Raises `BundleError` (rule 20) for an engine that is not the stage's. Raises `BackendError` for
    one that ONNX Runtime cannot load, and where the provider cannot be started: it would go on
    without it.
    """
    place = f"bundle {bundle.path}: stage {name!r} ({path})"
    data = _checked(bundle, plan, name, path, place)
    try:
        session = ort.InferenceSession(data, options, [(provider, settings)], enable_fallback=0)
    except Exception as error:  # any kind: the binding turns those of C++ into Python's own
        raise BackendError(
            f"{place} cannot be loaded by ONNX Runtime {ort.__version__}: {sanitize(error)}; "
            f"{_memory_fault(error) or 'export the bundle again'}"
        ) from error
    if provider not in session.get_providers():
        raise BackendError(
            f"{place}: ONNX Runtime {ort.__version__} could not start {provider}: a library that "
            "it needs is missing or too old, and its own words are on the error stream"
        )
    return session


def _checked(bundle: BundleFolder, plan: Plan, name: str, path: str, place: str) -> bytes:
    """The bytes of an engine's file, the code of its stage and no more."""
    stage = plan.stages[name]
    weights = {tensor: plan.values[value].type for tensor, value in stage.weights.items()}
    try:
        size = bundle.manifest.files[path].bytes
        if size > _MOST_BYTES:
            raise OnnxError(f"{size} bytes, expected {_MOST_BYTES} at most")
        data = bundle.read(path)
        check_onnx(data, stage, weights)
    except OnnxError as error:
        raise BundleError(20, f"{place}: {error}; export the bundle again") from error
    return data


def launches(
    plan: Plan,
    sessions: Mapping[str, Any],
    addresses: Sequence[Mapping[str, int]],
    device: str,
) -> list[tuple[Any, Any]]:
    """For every call its session, and the binding of its tensors to `addresses` on `device`."""
    return [
        (sessions[call.stage], bound(sessions[call.stage], plan.stages[call.stage], at, device))
        for call, at in zip(plan.calls, addresses, strict=True)
    ]


def bound(session: Any, stage: Stage, addresses: Mapping[str, int], device: str) -> Any:
    """A binding of every tensor of a call to its memory on "cpu" or "cuda"."""
    binding = session.io_binding()
    for types, bind in (
        (stage.inputs, binding.bind_input),
        (stage.outputs, binding.bind_output),
    ):
        for tensor, type_ in types.items():
            element = ONNX_TYPES[type_.dtype][0]
            try:
                bind(tensor, device, 0, element, list(type_.shape), addresses[tensor])
            except ORT_ERRORS as error:
                raise BackendError(
                    f"{tensor} cannot be bound on {device}: {sanitize(error)}"
                ) from error
    return binding


def failed(plan: Plan, call: int, error: Exception) -> BackendError:
    """What a launch that failed is told as."""
    fault = _memory_fault(error)
    return BackendError(
        f"plan {plan.name!r}: stage {plan.calls[call].stage!r} (calls[{call}]) failed in "
        f"ONNX Runtime: {sanitize(error)}{f'; {fault}' if fault else ''}"
    )


def _memory_fault(error: Exception) -> str | None:
    """The way out where there was too little memory; None where that is not why."""
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return (
            "there is too little memory: end other programs, close other players, or export at a "
            "smaller size or batch"
        )
    return None
