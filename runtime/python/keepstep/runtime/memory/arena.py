"""The one block of memory in which the values of a plan live, on the CPU."""

from __future__ import annotations

import numpy as np

from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import ALIGNMENT, Value


class Arena:
    """`size` bytes of zeros whose first address is a multiple of 256."""

    def __init__(self, size: int) -> None:
        try:
            block = np.zeros(size + ALIGNMENT, np.uint8)
        except MemoryError as error:
            raise BackendError(
                f"the plan needs {size} bytes of memory, more than is free"
            ) from error
        skip = -block.ctypes.data % ALIGNMENT
        self._bytes = block[skip : skip + size]

    @property
    def address(self) -> int:
        """Of the first byte."""
        return int(self._bytes.ctypes.data)

    def view(self, value: Value) -> np.ndarray:
        """The memory of a value that is no constant, typed and shaped, without a copy.

        bfloat16 is seen as uint16.
        """
        if value.offset is None:
            raise ValueError("a constant has no place in the arena")
        flat = self._bytes[value.offset : value.offset + value.type.bytes]
        return flat.view(numpy_dtype(value.type.dtype)).reshape(value.type.shape)
