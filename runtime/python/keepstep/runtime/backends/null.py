"""The backend that runs nothing: it counts launches, and every output is zeros.

It plays any plan in microseconds and shows what the runtime itself costs.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from keepstep.runtime.backends import Session, SupportsDLPack
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Plan


class NullSession(Session):
    """Counts launches by stage in `launches`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.launches: Counter[str] = Counter()

    def write(self, value: str, array: SupportsDLPack) -> None:
        """Drop the array."""

    def read(self, value: str) -> np.ndarray:
        """Give zeros."""
        tensor = self._plan.values[value].type
        return np.zeros(tensor.shape, numpy_dtype(tensor.dtype))

    def view(self, value: str) -> np.ndarray:
        """Give zeros."""
        return self.read(value)

    def launch(self, call: int) -> None:
        """Count."""
        self.launches[self._plan.calls[call].stage] += 1

    def wait(self) -> None:
        """Return: nothing is under way."""

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Null:
    """Opens sessions that run nothing, with or without engines."""

    def open(self, bundle: BundleFolder, plan: Plan, threads: int | None) -> NullSession:
        """Give a session that counts."""
        return NullSession(plan)
