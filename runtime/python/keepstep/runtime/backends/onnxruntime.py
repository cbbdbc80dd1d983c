"""The CPU, with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.host_session import HostSession
from keepstep.runtime.backends.onnxruntime_engine import (
    ORT_ERRORS,
    Weights,
    failed,
    launches,
    load,
    session_options,
    stage_weights,
)
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan


@dataclass(frozen=True)
class _Engine:
    """A loaded engine, and the arrays that ONNX Runtime reads but does not own."""

    session: Any
    weights: Weights


# Engines by path, threads, what their stage takes and gives, and weights. Launching is thread-safe,
# so players may share them.
_engines: WeakKeyDictionary[BundleFolder, dict[object, _Engine]] = WeakKeyDictionary()


class OnnxRuntime:
    """Opens sessions on the CPU."""

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> OnnxRuntimeSession:
        """Load the plan's engines, or share them with other players of this bundle object."""
        paths = engine_paths(bundle, plan, "onnxruntime")
        engines = {name: _engine(bundle, plan, name, path, threads) for name, path in paths.items()}
        return OnnxRuntimeSession(bundle, plan, engines)


class OnnxRuntimeSession(HostSession):
    """One prepared launch a call."""

    def __init__(self, bundle: BundleFolder, plan: Plan, engines: Mapping[str, _Engine]) -> None:
        super().__init__(bundle, plan)
        sessions = {name: engine.session for name, engine in engines.items()}
        self._launches = launches(plan, sessions, self._addresses, "cpu")

    def launch(self, call: int) -> None:
        """Run one call to its end."""
        session, binding = self._launches[call]
        try:
            session.run_with_iobinding(binding)
        except ORT_ERRORS as error:
            raise failed(self._plan, call, error) from error

    def close(self) -> None:
        """Let go of engines and memory."""
        self._launches = []
        super().close()


def _engine(bundle: BundleFolder, plan: Plan, name: str, path: str, threads: int | None) -> _Engine:
    """Load an engine unless a player of the bundle has it already."""
    stage = plan.stages[name]
    sources = sorted(stage.weights.items())
    interface = tuple(stage.inputs.items()), tuple(stage.outputs.items())
    places = tuple((t, plan.values[v].file, plan.values[v].tensor) for t, v in sources)
    shared = _engines.setdefault(bundle, {})
    key = (path, threads, interface, places)
    if key not in shared:
        weights = stage_weights(bundle, plan, name)
        options = session_options(weights)
        if threads is not None:
            options.intra_op_num_threads = threads
        session = load(bundle, plan, name, path, options, "CPUExecutionProvider")
        shared[key] = _Engine(session, weights)
    return shared[key]
