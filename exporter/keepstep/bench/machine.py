"""The conditions of a measurement: processor, GPU, memory, versions."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from keepstep.runtime.gpu import NoGpuError, gpu_name

PACKAGES = (
    "keepstep",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt-rtx-cu13",
    "tensorrt-cu13-bindings",
    "cuda-core",
    "torch",
    "diffusers",
    "transformers",
)


def conditions() -> dict[str, object]:
    """Facts that a reader of a benchmark needs; none that name the machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "load": _load(),
        "gpu": _gpu(),
        "driver": _driver(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none, other systems not all of it
        return None


def _load() -> float | None:
    """Processes that wanted to run in the last minute, on average: what else the machine did."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _gpu() -> str | None:
    try:
        return gpu_name()
    except NoGpuError:
        return None


def _driver() -> str | None:
    """The version of NVIDIA's driver, where its kernel module says so."""
    info = Path("/proc/driver/nvidia/version")
    found = info.exists() and re.search(r"\b\d+\.\d+(\.\d+)?\b", info.read_text(encoding="utf-8"))
    return found[0] if found else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
