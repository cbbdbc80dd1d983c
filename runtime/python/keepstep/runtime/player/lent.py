"""Outputs that are lent: where they are, to be read only, and for a while."""

from __future__ import annotations

from typing import Any

import numpy as np

from keepstep.runtime.backends import SupportsDLPack
from keepstep.runtime.errors import InputError
from keepstep.runtime.quoting import quote


class Lent:
    """The memory of an output, for any library that speaks DLPack, or for numpy on the CPU.

    It can be taken until `Player.lend` is over; after that to take it is an `InputError`. What was
    taken before keeps its memory, also when the player is closed, but the next run overwrites it.

    Arrays are read-only where the taker lets that be said: numpy does by `numpy.asarray`, and from
    2.1 on by DLPack. Others are given memory that they could write to, and that would be lost.
    """

    def __init__(self, name: str, memory: SupportsDLPack) -> None:
        self._name = name
        self._memory: SupportsDLPack | None = memory

    def __dlpack__(self, **options: Any) -> object:
        """A capsule of the memory itself."""
        memory = self._lent()
        if not isinstance(memory, np.ndarray):
            return memory.__dlpack__(**options)
        try:
            return _read_only(memory).__dlpack__(**options)
        except BufferError:  # before DLPack 1.0 nobody can say that memory is read-only
            return memory.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """Its kind and its number, as DLPack counts them."""
        return self._lent().__dlpack_device__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A read-only array of the memory itself; bfloat16 as uint16."""
        memory = self._lent()
        if not isinstance(memory, np.ndarray):
            raise InputError(
                f"output {quote(self._name)} is lent on a GPU: take it by DLPack, or have a copy "
                "in host memory from Player.run"
            )
        array = _read_only(memory)
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(f"{array.dtype} as {np.dtype(dtype)} needs a copy")
            return array.astype(dtype)
        return array.copy() if copy else array

    def end(self) -> None:
        """Lend it no longer."""
        self._memory = None

    def _lent(self) -> SupportsDLPack:
        if self._memory is None:
            raise InputError(
                f"output {quote(self._name)} was lent until the end of its `with`: take it there, "
                "or have a copy from Player.run"
            )
        return self._memory


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
