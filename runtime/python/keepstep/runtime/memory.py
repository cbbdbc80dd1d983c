"""The one block of memory in which the values of a plan live, on the CPU."""

from __future__ import annotations

import numpy as np

from keepstep.runtime.errors import BackendError
from keepstep.runtime.plan import ALIGNMENT, Binding, TensorType, Value
from keepstep.runtime.tensors import numpy_dtype


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

    def view(self, value: Value, binding: Binding, tensor: TensorType) -> np.ndarray:
        """The memory of a tensor that is bound to `value`, typed and shaped, without a copy.

        `binding` and `tensor` fit `value` (rules 9 and 12). bfloat16 is seen as uint16.
        """
        if value.offset is None:
            raise ValueError("a constant has no place in the arena")
        start = value.offset
        if binding.row is not None:
            start += binding.row * (value.type.bytes // value.type.shape[0])
        flat = self._bytes[start : start + tensor.bytes]
        return flat.view(numpy_dtype(tensor.dtype)).reshape(tensor.shape)
