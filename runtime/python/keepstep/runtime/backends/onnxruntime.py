"""The CPU, with ONNX Runtime.

An engine is an ONNX file without weights: they are handed over when it is loaded, as arrays that
all engines of a bundle share. Every call is bound to its memory once, so that playing allocates
and copies nothing outside of ONNX Runtime's own kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from keepstep.runtime.backends import Session, SupportsDLPack, engine_paths
from keepstep.runtime.errors import BackendError
from keepstep.runtime.inputs import host_array
from keepstep.runtime.memory import Arena
from keepstep.runtime.plan import Binding, Call, Plan, Stage, TensorType
from keepstep.runtime.rules_values import type_text
from keepstep.runtime.wording import listed, shown

if TYPE_CHECKING:
    from keepstep.runtime.bundle import Bundle

_ONNX_TYPES = {  # number in onnx.TensorProto.DataType, name in ONNX Runtime
    "float32": (1, "tensor(float)"),
    "uint8": (2, "tensor(uint8)"),
    "int32": (6, "tensor(int32)"),
    "int64": (7, "tensor(int64)"),
    "bool": (9, "tensor(bool)"),
    "float16": (10, "tensor(float16)"),
    "bfloat16": (16, "tensor(bfloat16)"),
}
_ERRORS_ONLY = 3
_ORT_ERRORS: tuple[type[Exception], ...] = (  # they have no base class of their own
    RuntimeError,
    *(
        kind
        for kind in vars(ort_state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ),
)


@dataclass(frozen=True)
class _Engine:
    """A loaded engine, and the arrays that ONNX Runtime reads but does not own."""

    session: Any
    weights: tuple[np.ndarray, ...]


# Engines by path, weights and threads. Launching is thread-safe, so players may share them.
_engines: WeakKeyDictionary[Bundle, dict[object, _Engine]] = WeakKeyDictionary()


class OnnxRuntime:
    """Opens sessions on the CPU."""

    def open(self, bundle: Bundle, plan: Plan, threads: int | None) -> OnnxRuntimeSession:
        """Load the plan's engines, or share them with other players of this bundle object."""
        paths = engine_paths(bundle, plan, "onnxruntime")
        engines = {name: _engine(bundle, plan, name, path, threads) for name, path in paths.items()}
        return OnnxRuntimeSession(bundle, plan, engines)


class OnnxRuntimeSession(Session):
    """One arena, and one prepared launch a call."""

    def __init__(self, bundle: Bundle, plan: Plan, engines: dict[str, _Engine]) -> None:
        self._bundle = bundle  # keeps the constants' memory
        self._plan = plan
        arena = Arena(plan.arena_bytes)
        self._values = {
            name: arena.view(value, Binding(name), value.type)
            for name, value in plan.values.items()
            if value.kind != "constant"
        }
        self._launches = [
            (engines[call.stage].session, self._bound(arena, call, engines[call.stage]))
            for call in plan.calls
        ]

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Copy into the arena."""
        np.copyto(self._values[value], host_array(value, array), casting="no")

    def read(self, value: str) -> np.ndarray:
        """Copy out of the arena."""
        return self._values[value].copy()

    def view(self, value: str) -> np.ndarray:
        """The value in the arena."""
        return self._values[value]

    def launch(self, call: int) -> None:
        """Run one call to its end."""
        session, binding = self._launches[call]
        try:
            session.run_with_iobinding(binding)
        except _ORT_ERRORS as error:
            stage = self._plan.calls[call].stage
            raise BackendError(
                f"plan {self._plan.name!r}: stage {stage!r} (calls[{call}]) failed in "
                f"ONNX Runtime: {error}"
            ) from error

    def wait(self) -> None:
        """Return: a launch ends before it returns."""

    def close(self) -> None:
        """Let go of engines and memory."""
        self._launches = []
        self._values = {}

    def _bound(self, arena: Arena, call: Call, engine: _Engine) -> Any:
        """Bind every tensor of a call to its memory, for all launches to come."""
        stage = self._plan.stages[call.stage]
        binding = engine.session.io_binding()
        for tensor, source in call.reads.items():
            type_ = stage.inputs[tensor]
            address = self._memory(arena, source, type_).ctypes.data
            element = _ONNX_TYPES[type_.dtype][0]
            binding.bind_input(tensor, "cpu", 0, element, list(type_.shape), address)
        for tensor, target in call.writes.items():
            type_ = stage.outputs[tensor]
            address = self._memory(arena, target, type_).ctypes.data
            element = _ONNX_TYPES[type_.dtype][0]
            binding.bind_output(tensor, "cpu", 0, element, list(type_.shape), address)
        return binding

    def _memory(self, arena: Arena, binding: Binding, tensor: TensorType) -> np.ndarray:
        value = self._plan.values[binding.value]
        if value.file is None or value.tensor is None:
            return arena.view(value, binding, tensor)
        constant = self._bundle.array(value.file, value.tensor)
        if binding.row is None:
            return constant
        return constant[binding.row : binding.row + tensor.shape[0]]


def _engine(bundle: Bundle, plan: Plan, name: str, path: str, threads: int | None) -> _Engine:
    """Load an engine unless a player of the bundle has it already."""
    stage = plan.stages[name]
    sources = {tensor: plan.values[value] for tensor, value in sorted(stage.weights.items())}
    places = tuple((tensor, value.file, value.tensor) for tensor, value in sources.items())
    shared = _engines.setdefault(bundle, {})
    key = (path, threads, places)
    if key not in shared:
        arrays = {
            tensor: (value.type, bundle.array(value.file or "", value.tensor or ""))
            for tensor, value in sources.items()
        }
        try:
            session = ort.InferenceSession(
                str(bundle.file(path)),
                _options(arrays, threads),
                providers=["CPUExecutionProvider"],
            )
        except _ORT_ERRORS as error:
            raise BackendError(
                f"bundle {bundle.path}: stage {name!r} ({path}) cannot be loaded by ONNX Runtime "
                f"{ort.__version__}: {error}; export the bundle again"
            ) from error
        _check_interface(f"bundle {bundle.path}: stage {name!r} ({path})", session, stage)
        shared[key] = _Engine(session, tuple(array for _, array in arrays.values()))
    return shared[key]


def _options(arrays: dict[str, tuple[TensorType, np.ndarray]], threads: int | None) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Each engine has threads of its own: those of the last one are not to spin beside the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    if arrays:
        options.add_external_initializers(
            list(arrays),
            [
                ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_TYPES[type_.dtype][0])
                for type_, array in arrays.values()
            ],
        )
    return options


def _check_interface(place: str, session: Any, stage: Stage) -> None:
    """Refuse an engine whose inputs and outputs are not the stage's."""
    for what, found, expected in (
        ("inputs", session.get_inputs(), stage.inputs),
        ("outputs", session.get_outputs(), stage.outputs),
    ):
        names = {tensor.name for tensor in found}
        if names != expected.keys():
            raise BackendError(
                f"{place}: the plan's {what} are {listed(sorted(expected))}, the engine's "
                f"{listed(sorted(names))}; export the bundle again"
            )
        for tensor in found:
            type_ = expected[tensor.name]
            if (tensor.type, tuple(tensor.shape)) != (_ONNX_TYPES[type_.dtype][1], type_.shape):
                raise BackendError(
                    f"{place}: {what}.{tensor.name}: the plan has {type_text(type_)}, the engine "
                    f"{shown(tensor.type)} {tensor.shape}; export the bundle again"
                )
