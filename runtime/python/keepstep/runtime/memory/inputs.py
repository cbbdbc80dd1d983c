"""What a caller gives, checked against the type of the value that it is for."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

import numpy as np

from keepstep.runtime import floats
from keepstep.runtime.errors import InputError
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import TensorType, Value
from keepstep.runtime.format.rules_values import range_text, type_text
from keepstep.runtime.quoting import quote, sanitize

_ON_HOST = (1, 3)  # DLPack's kDLCPU and kDLCUDAHost


class SupportsDLPack(Protocol):
    """An array of any library, on any device, that others can take over without a copy."""

    def __dlpack__(self, *, stream: object = None) -> object: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...


def on_gpu(given: object) -> TypeGuard[SupportsDLPack]:
    """Whether an array says that it lies on a device, out of the host's reach."""
    where = getattr(given, "__dlpack_device__", None)
    return where is not None and int(where()[0]) not in _ON_HOST


def on_host(name: str, array: SupportsDLPack) -> np.ndarray:
    """What a session on the CPU can read; raises `InputError` for what lies on a GPU."""
    if not isinstance(array, np.ndarray):
        raise InputError(
            f"input {quote(name)}: lies on a GPU, and this backend plays on the CPU: give a copy "
            "in host memory, such as x.cpu() of a tensor, or play on the GPU"
        )
    return array


def device_fault(
    dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, expected: TensorType
) -> str | None:
    """Why an array on the device is not what a value takes; strides in elements, None: packed."""
    bits = (dtype, expected.dtype) == ("uint16", "bfloat16")  # as on the host
    if dtype != expected.dtype and not bits:
        return f"has dtype {dtype}: convert it, dtypes are never converted here"
    if shape != expected.shape:
        return f"has shape {list(shape)}: the plan is for its own shape only"
    packed, step = [], 1
    for n in reversed(shape):
        packed.append(step)
        step *= n
    if strides is not None and any(
        have != want and n > 1
        for have, want, n in zip(strides, reversed(packed), shape, strict=True)
    ):
        return f"is not contiguous (strides {list(strides)}): give a contiguous copy"
    return None


def checked_input(
    name: str, given: object, expected: TensorType, range_: tuple[float, float] | None = None
) -> np.ndarray:
    """Give `given` as an array of exactly the expected dtype and shape.

    dtypes are never converted, but for a scalar given where one number is expected, if it loses
    nothing but digits of a fraction. bfloat16 is given as itself or as the uint16 of its bits.
    Raises `InputError` for another dtype or shape, for NaN and infinity, and for what lies outside
    of `range_` (lowest, highest).
    """
    try:
        array = np.from_dlpack(given) if _only_dlpack(given) else np.asarray(given)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise InputError(f"input {quote(name)}: is no array: {sanitize(error)}") from error
    dtype = numpy_dtype(expected.dtype)
    if expected.dtype == "bfloat16" and array.dtype.name == "bfloat16":
        array = array.view(np.uint16)
    if array.ndim == 0 and expected.size == 1:
        array = _scalar(name, array, expected).reshape(expected.shape)
    if array.dtype != dtype:
        raise InputError(
            f"input {quote(name)}: expected {type_text(expected)}, found dtype {array.dtype}; "
            f"convert it with numpy.asarray(x, dtype={dtype.name!r})"
        )
    if array.shape != expected.shape:
        raise InputError(
            f"input {quote(name)}: expected {type_text(expected)}, found shape "
            f"{list(array.shape)}; the plan is for this shape only: give it, or export with another"
        )
    bad = floats.count_not_finite(array, expected.dtype)
    if bad:
        raise InputError(
            f"input {quote(name)}: {bad} of {array.size} elements are NaN or infinite; "
            "every element must be finite"
        )
    if range_ is not None:
        _check_range(name, array, expected.dtype, range_)
    return array


def default_array(value: Value) -> np.ndarray:
    """What an input holds that has a default and is not given; bfloat16 as the uint16 of its bits.

    A float is rounded to float32 first, then to the value's dtype, each time to nearest.
    """
    assert value.default is not None
    dtype = value.type.dtype
    if dtype in floats.DTYPES:
        entries = floats.narrowed(np.asarray(value.default, np.float32), dtype)
    else:
        entries = np.asarray(value.default).astype(numpy_dtype(dtype))
    repeated = np.broadcast_to(entries.reshape(np.shape(value.default)), value.type.shape)
    return np.array(repeated, order="C")


def _only_dlpack(given: object) -> TypeGuard[Any]:
    """Whether numpy would take an array for a single object."""
    return hasattr(given, "__dlpack__") and not hasattr(given, "__array__")


def _scalar(name: str, array: np.ndarray, expected: TensorType) -> np.ndarray:
    """Convert one number, if its kind fits and an int stays what it is."""
    dtype = numpy_dtype(expected.dtype)
    fits = {"b": "b", "i": "iuf", "u": "iuf", "f": "f"}.get(array.dtype.kind, "")
    if array.dtype == dtype or dtype.kind not in fits or expected.dtype == "bfloat16":
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        converted: np.ndarray[Any, Any] = array.astype(dtype)
    if array.dtype.kind != "f" and not (np.isfinite(converted) and int(converted) == int(array)):
        raise InputError(f"input {quote(name)}: {array} does not fit {expected.dtype}")
    return converted


def _check_range(name: str, array: np.ndarray, dtype: str, range_: tuple[float, float]) -> None:
    """Refuse elements that the model has no meaning for."""
    numbers = floats.widened(array, dtype) if dtype in floats.DTYPES else array
    # Bounds are compared as they are: to the array's own dtype they would be rounded.
    exact = np.float64 if numbers.dtype.kind == "f" else np.int64
    lowest, highest = exact(range_[0]), exact(range_[1])
    bad = np.argwhere((numbers < lowest) | (numbers > highest))
    if len(bad) == 0:
        return
    place = tuple(int(i) for i in bad[0])
    raise InputError(
        f"input {quote(name)}: {numbers[place]} at {list(place)} lies outside of the range "
        f"{range_text(range_)}, and so do {len(bad)} of {array.size} elements; the model knows no "
        "others: give what its own tokenizer, or the like, makes"
    )
