"""Which GPU is here, asked of the CUDA driver alone: no other library has to be installed."""

from __future__ import annotations

import ctypes
import sys

_NAME_BYTES = 256


class NoGpuError(Exception):
    """There is no GPU to be had; the text says what is missing."""


def gpu_name() -> str:
    """The name that the driver gives to the first GPU. Raises `NoGpuError`."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError as error:
        raise NoGpuError(f"no CUDA driver is found ({error})") from error
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    for code in (
        driver.cuInit(0),
        driver.cuDeviceGet(ctypes.byref(device), 0),
        driver.cuDeviceGetName(name, _NAME_BYTES, device),
    ):
        if code:
            raise NoGpuError(f"the CUDA driver finds no GPU (error {code})")
    return name.value.decode()


def gpu_fault() -> str | None:
    """What is missing for a GPU to be used here; None where there is one."""
    try:
        gpu_name()
    except NoGpuError as error:
        return str(error)
    return None
