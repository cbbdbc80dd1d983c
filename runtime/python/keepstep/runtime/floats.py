"""Floating-point arrays in float32 and back. bfloat16, which numpy lacks, is held as its bits."""

from __future__ import annotations

import numpy as np

DTYPES = ("float32", "float16", "bfloat16")
_BFLOAT16_EXPONENT = np.uint16(0x7F80)  # all ones: infinite or not a number
_BEYOND = 2.0**128  # numbers from here on are infinite in float32


def is_finite_number(value: object) -> bool:
    """Whether this is a number, and one that is finite in float32."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    try:
        return abs(float(value)) < _BEYOND
    except OverflowError:
        return False


def count_not_finite(array: np.ndarray, dtype: str) -> int:
    """How many elements of an array of any dtype of plans are NaN or infinite."""
    if dtype == "bfloat16":
        return int(np.count_nonzero((array & _BFLOAT16_EXPONENT) == _BFLOAT16_EXPONENT))
    if dtype not in DTYPES:
        return 0
    return array.size - int(np.count_nonzero(np.isfinite(array)))


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of `dtype`, one of `DTYPES`, in float32; a float32 array itself is given back."""
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32, copy=False)


def narrowed(array: np.ndarray, dtype: str) -> np.ndarray:
    """A finite float32 array in `dtype`, rounded to nearest, ties to even.

    What is too large for `dtype` becomes infinite.
    """
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return array.astype(dtype, copy=False)
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    # Half of the last bit that is kept, less one where that bit is 0: a tie then rounds down.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
