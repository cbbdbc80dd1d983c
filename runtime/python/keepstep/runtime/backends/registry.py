"""Which backends there are, what each needs, and which of them can run here.

This is found out without importing an engine library: by the files of installed packages and by
asking the CUDA driver.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from keepstep.runtime.backends.session import Backend
from keepstep.runtime.errors import BackendError
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.gpu import gpu_fault
from keepstep.runtime.quoting import did_you_mean, quote, quote_names


@dataclass(frozen=True)
class Library:
    """A module that must be there; `file` is a pattern of what must be in its folder, too."""

    module: str
    title: str = ""
    file: str = ""


@dataclass(frozen=True)
class _Known:
    """module    of this package, and the class in it that is the backend
    engines   the key under `engines` of a stage; None: needs none
    libraries what must be installed: a module, or one with a file in its folder
    install   how to get them
    gpu       whether it needs one
    """

    module: str
    backend: str
    engines: str | None
    libraries: tuple[Library, ...] = ()
    install: str = ""
    gpu: bool = False


_CUDA = (Library("cuda.core"), Library("cuda.bindings"))
_ORT_CUDA = Library(
    "onnxruntime", "onnxruntime-gpu, with the CUDA provider", "capi/*onnxruntime_providers_cuda*"
)
_KNOWN: Mapping[str, _Known] = {
    "null": _Known("null", "Null", None),
    "onnxruntime": _Known(
        "onnxruntime",
        "OnnxRuntime",
        "onnxruntime",
        (Library("onnxruntime"),),
        "pip install onnxruntime",
    ),
    "onnxruntime-cuda": _Known(
        "onnxruntime_cuda",
        "OnnxRuntimeCuda",
        "onnxruntime",
        (*_CUDA, _ORT_CUDA),
        "pip install 'keepstep[cuda]', pip uninstall onnxruntime, "
        "pip install 'onnxruntime-gpu[cuda,cudnn]' (both are one module)",
        gpu=True,
    ),
    "aotinductor": _Known(
        "aotinductor",
        "AotInductor",
        "aotinductor",
        (Library("torch"),),
        "pip install 'keepstep[aotinductor]'",
    ),
    "aotinductor-cuda": _Known(
        "aotinductor_cuda",
        "AotInductorCuda",
        "aotinductor-cuda",
        (Library("torch"), *_CUDA),
        "pip install 'keepstep[aotinductor,cuda]'",
        gpu=True,
    ),
    "tensorrt-rtx": _Known(
        "tensorrt",
        "TensorRtx",
        "tensorrt-rtx",
        (Library("tensorrt_rtx"), *_CUDA),
        "pip install 'keepstep[tensorrt-rtx]'",
        gpu=True,
    ),
    "tensorrt": _Known(
        "tensorrt",
        "TensorRt",
        "tensorrt",
        (Library("tensorrt"), *_CUDA),
        # PyPI has placeholders that run pip once more, against NVIDIA's index.
        "pip install 'keepstep[tensorrt]', which has to reach pypi.nvidia.com (without it: "
        "docs/playing.md, Installing TensorRT)",
        gpu=True,
    ),
}


def known() -> tuple[str, ...]:
    """The names of all backends."""
    return tuple(_KNOWN)


def how_to_install(name: str) -> str:
    """What to do for a known backend whose libraries are missing."""
    return _KNOWN[name].install


def runnable() -> tuple[str, ...]:
    """The names of the backends whose libraries are installed here, and their GPU is there."""
    return tuple(name for name, entry in _KNOWN.items() if _fault(entry) is None)


def playable(plan: Plan) -> tuple[str, ...]:
    """The runnable backends for which every stage of `plan` has an engine."""
    return tuple(
        name
        for name in runnable()
        if (engines := _KNOWN[name].engines)
        and all(engines in stage.engines for stage in plan.stages.values())
    )


def backend(name: str) -> Backend:
    """Give a backend, its library imported. Raises `BackendError` when it cannot run here."""
    entry = _KNOWN.get(name)
    if entry is None:
        raise BackendError(
            f"there is no backend {quote(name)}{did_you_mean(str(name), _KNOWN)}; "
            f"known: {quote_names(_KNOWN)}; {_would_run()}"
        )
    if fault := _fault(entry):
        raise BackendError(f"backend {name!r} {fault}; {_would_run()}")
    try:
        module = import_module(f"keepstep.runtime.backends.{entry.module}")
    except (ImportError, OSError) as error:  # OSError: a shared library that cannot be loaded
        raise BackendError(
            f"backend {name!r} is installed but cannot be loaded: {error}; {_would_run()}"
        ) from error
    return cast("Backend", getattr(module, entry.backend)())


def _would_run() -> str:
    return f"what would run here: {quote_names(runnable())}"


def _fault(entry: _Known) -> str | None:
    """Why a backend cannot run here: the first thing that is missing."""
    for library in entry.libraries:
        if not _installed(library):
            title = library.title or library.module
            return f"needs {title}, which is not installed: {entry.install}"
    if entry.gpu and (fault := gpu_fault()):
        return f"needs an NVIDIA GPU, and {fault}"
    return None


def _installed(library: Library) -> bool:
    try:
        spec = find_spec(library.module)
    except ModuleNotFoundError:  # of the package that it is in
        return False
    if spec is None or not library.file:
        return spec is not None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    return any(any(folder.glob(library.file)) for folder in folders)
