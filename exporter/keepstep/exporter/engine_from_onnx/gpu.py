"""Which GPU is here: some libraries build for it, and for no other."""

from __future__ import annotations

import ctypes
import sys

from ..errors import ExportError

_NAME_BYTES = 256


def gpu_name() -> str:
    """The name that the CUDA driver gives to the first GPU; raises `ExportError` without one."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        raise ExportError(f"no CUDA driver is found ({error}): {_WAY_OUT}") from error
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    for code in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, _NAME_BYTES, device),
    ):
        if code:
            raise ExportError(f"the CUDA driver finds no GPU (error {code}): {_WAY_OUT}")
    return name.value.decode()


_WAY_OUT = "TensorRT builds for the GPU at hand; build there, or for tensorrt-rtx, which needs none"
