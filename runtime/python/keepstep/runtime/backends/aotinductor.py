"""The CPU, with what PyTorch's AOTInductor has compiled for it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from keepstep.runtime.backends import Session, SupportsDLPack, engine_paths
from keepstep.runtime.backends.aotinductor_package import Package, load_package
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.memory.addresses import call_addresses, weight_addresses
from keepstep.runtime.memory.arena import Arena
from keepstep.runtime.memory.constants import constant_parts, host_array
from keepstep.runtime.memory.inputs import on_host
from keepstep.runtime.quoting import sanitize


class AotInductor:
    """Opens sessions on the CPU."""

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> AotInductorSession:
        """Load the plan's packages."""
        paths = engine_paths(bundle, plan, "aotinductor")
        packages = {n: load_package(bundle, plan, n, path, "cpu") for n, path in paths.items()}
        return AotInductorSession(bundle, plan, packages, threads)


class AotInductorSession(Session):
    """One arena, and one list of tensors a call."""

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        packages: Mapping[str, Package],
        threads: int | None,
    ) -> None:
        self._plan, self._packages, self._threads = plan, packages, threads
        arena = Arena(plan.arena_bytes)
        self._values = {
            name: arena.view(value)
            for name, value in plan.values.items()
            if value.kind != "constant"
        }
        self._constants = {part: host_array(bundle, plan, part) for part in constant_parts(plan)}
        constants = {part: array.ctypes.data for part, array in self._constants.items()}
        addresses = call_addresses(plan, arena.address, constants)
        weights = {name: weight_addresses(plan, name, constants) for name in packages}
        self._launches = [
            _tensors(packages[call.stage], {**weights[call.stage], **bound})
            for call, bound in zip(plan.calls, addresses, strict=True)
        ]

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Copy into the arena."""
        np.copyto(self._values[value], on_host(value, array), casting="no")

    def read(self, value: str) -> np.ndarray:
        """Copy out of the arena."""
        return self._values[value].copy()

    def view(self, value: str) -> np.ndarray:
        """The value in the arena."""
        return self._values[value]

    def launch(self, call: int) -> None:
        """Run one call to its end; the number of threads is PyTorch's own, for the process."""
        package = self._packages[self._plan.calls[call].stage]
        before = torch.get_num_threads()
        try:
            if self._threads is not None and self._threads != before:
                torch.set_num_threads(self._threads)
            package.run(self._launches[call])
        except RuntimeError as error:
            raise failed(self._plan, call, error) from error
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)

    def wait(self) -> None:
        """Return: a launch ends before it returns."""

    def close(self) -> None:
        """Let go of packages and memory."""
        self._launches, self._packages = [], {}
        self._values, self._constants = {}, {}


def failed(plan: Plan, call: int, error: Exception) -> BackendError:
    """What is told of a call that failed."""
    return BackendError(
        f"plan {plan.name!r}: calls[{call}] (stage {plan.calls[call].stage!r}) failed in PyTorch "
        f"{torch.__version__}: {sanitize(error)}"
    )


def _tensors(package: Package, addresses: Mapping[str, int]) -> Sequence[Any]:
    """The arguments of a package, at their addresses."""
    interface = package.interface
    types = {**interface.inputs, **interface.weights, **interface.outputs}
    return [_at(addresses[name], types[name]) for name in interface.names]


def _at(address: int, type_: TensorType) -> Any:
    memory = (ctypes.c_char * type_.bytes).from_address(address)
    return torch.frombuffer(memory, dtype=getattr(torch, type_.dtype)).view(type_.shape)
