"""Tensors in safetensors files, mapped and never copied.

The package `safetensors` opens and checks a file; the bytes are then mapped here, because weights
are to be shared between processes and because numpy has no bfloat16 to read them as.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from keepstep.runtime.files import open_regular
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.quoting import sanitize

_DTYPES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
    "BOOL": "bool",
}


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype in which a tensor is held; bfloat16 is held as the uint16 of its bits."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


class TensorFile:
    """One safetensors file. Raises `ValueError` when it is none, `OSError` for no regular file.

    opened   the file itself, where its name may stand for another one by now
    """

    def __init__(self, path: Path, opened: BinaryIO | None = None) -> None:
        self._path = path
        with opened or open_regular(path) as file:
            names = _checked_names(_name_of(file) or path)
            self._data = np.memmap(file, np.uint8, mode="r")
        (header_bytes,) = struct.unpack("<Q", self._data[:8].tobytes())
        header = json.loads(self._data[8 : 8 + header_bytes].tobytes())
        self.metadata: Mapping[str, str] = header.get("__metadata__") or {}  # or null
        self._entries = {name: header[name] for name in names}
        self._start = 8 + header_bytes
        self._arrays: dict[str, np.ndarray] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors in the file."""
        return tuple(self._entries)

    def type(self, name: str) -> TensorType | None:
        """Type of a tensor; None when there is no such one. Foreign dtypes keep their own name."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        return TensorType(_DTYPES.get(entry["dtype"], entry["dtype"]), tuple(entry["shape"]))

    def array(self, name: str) -> np.ndarray:
        """The tensor, read-only, the same array at every call; bfloat16 as uint16.

        Raises `KeyError` for an unknown name and `ValueError` for a dtype foreign to plans.
        """
        if name not in self._arrays:
            entry = self._entries[name]
            if entry["dtype"] not in _DTYPES:
                raise ValueError(f"tensor {name!r} has dtype {entry['dtype']}")
            dtype = numpy_dtype(_DTYPES[entry["dtype"]])
            start, end = (self._start + offset for offset in entry["data_offsets"])
            array = np.frombuffer(self._data[start:end], dtype).reshape(entry["shape"])
            if not array.flags.aligned:  # a file that was not written by the exporter
                array = array.copy()
                array.flags.writeable = False
            self._arrays[name] = array
        return self._arrays[name]

    def read(self, name: str) -> np.ndarray:
        """The tensor in memory of its own, read and not mapped; bfloat16 as uint16.

        For passing through files larger than memory. Raises as `array` does, and `OSError`.
        """
        entry = self._entries[name]
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"tensor {name!r} has dtype {entry['dtype']}")
        dtype = numpy_dtype(_DTYPES[entry["dtype"]])
        start, end = (self._start + offset for offset in entry["data_offsets"])
        count = (end - start) // dtype.itemsize
        return np.fromfile(self._path, dtype, count, offset=start).reshape(entry["shape"])


def _checked_names(path: Path) -> list[str]:
    """The tensors of a file, whose whole header is checked by the format's own package."""
    try:
        with safe_open(path, framework="numpy") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {sanitize(error)}") from error


def _name_of(file: BinaryIO) -> Path | None:
    """A name for an open file that stands for no other, where the system has one."""
    name = Path(f"/dev/fd/{file.fileno()}")
    return name if name.exists() else None
