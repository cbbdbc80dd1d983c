"""What the sessions of all CPU backends have in common: values in one arena in host memory."""

from __future__ import annotations

import numpy as np

from keepstep.runtime.backends.session import Session
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.memory.addresses import call_addresses
from keepstep.runtime.memory.arena import Arena
from keepstep.runtime.memory.constants import constant_parts, host_array
from keepstep.runtime.memory.inputs import SupportsDLPack, on_host


class HostSession(Session):
    """A plan's values in host memory, and the address of every tensor of every call."""

    def __init__(self, bundle: BundleFolder, plan: Plan) -> None:
        self._plan = plan
        arena = Arena(plan.arena_bytes)
        self._values = {
            name: arena.view(value)
            for name, value in plan.values.items()
            if value.kind != "constant"
        }
        self._arrays = {part: host_array(bundle, plan, part) for part in constant_parts(plan)}
        self._constants = {part: array.ctypes.data for part, array in self._arrays.items()}
        self._addresses = call_addresses(plan, arena.address, self._constants)

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Copy into the arena."""
        np.copyto(self._values[value], on_host(value, array), casting="no")

    def read(self, value: str) -> np.ndarray:
        """Copy out of the arena."""
        return self._values[value].copy()

    def view(self, value: str) -> np.ndarray:
        """The value in the arena."""
        return self._values[value]

    def wait(self) -> None:
        """Return: a launch ends before it returns."""

    def close(self) -> None:
        """Let go of memory; subclasses let go of engines before."""
        self._values, self._arrays = {}, {}
