"""The backend that runs nothing: it counts launches, and every output is zeros.

It plays any plan in microseconds and shows what the runtime itself costs.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from keepstep.runtime.backends import Session, SupportsDLPack
from keepstep.runtime.plan import Plan
from keepstep.runtime.tensors import numpy_dtype

if TYPE_CHECKING:
    from keepstep.runtime.bundle import Bundle


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

    def open(self, bundle: Bundle, plan: Plan, threads: int | None) -> NullSession:
        """Give a session that counts."""
        return NullSession(plan)
