"""The CPU, with what PyTorch's AOTInductor has compiled for it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import torch

from keepstep.runtime.backends import engine_paths
from keepstep.runtime.backends.aotinductor_package import Package, launches, load_package
from keepstep.runtime.backends.host_session import HostSession
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.quoting import sanitize


class AotInductor:
    """Opens sessions on the CPU."""

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> AotInductorSession:
        """Load the plan's packages."""
        paths = engine_paths(bundle, plan, "aotinductor")
        packages = {n: load_package(bundle, plan, n, path, "cpu") for n, path in paths.items()}
        return AotInductorSession(bundle, plan, packages, threads)


class AotInductorSession(HostSession):
    """One list of tensors a call."""

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        packages: Mapping[str, Package],
        threads: int | None,
    ) -> None:
        super().__init__(bundle, plan)
        self._packages, self._threads = packages, threads
        self._launches = launches(plan, packages, self._addresses, self._constants, _tensor_at)

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

    def close(self) -> None:
        """Let go of packages and memory."""
        self._launches, self._packages = [], {}
        super().close()


def failed(plan: Plan, call: int, error: Exception) -> BackendError:
    """What is told of a call that failed."""
    return BackendError(
        f"plan {plan.name!r}: calls[{call}] (stage {plan.calls[call].stage!r}) failed in PyTorch "
        f"{torch.__version__}: {sanitize(error)}"
    )


def _tensor_at(address: int, type_: TensorType) -> Any:
    """Host memory as a tensor, without a copy."""
    memory = (ctypes.c_char * type_.bytes).from_address(address)
    return torch.frombuffer(memory, dtype=getattr(torch, type_.dtype)).view(type_.shape)
