"""The AOTInductor engine: PyTorch compiles a stage's own operations ahead of time.

It starts from the traced subgraph, not from its ONNX code, and takes weights as the ONNX code names
them: how they are laid out there is undone by views, which cost nothing. Outputs are arguments that
the code overwrites, so that a player's memory is written directly and nothing is copied.

Packages hold machine code: for the CPU of this machine, or for the GPU of this machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import which
from threading import Lock
from typing import TYPE_CHECKING, Any

from keepstep.runtime.backends.aotinductor_package import Interface, interface_text
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.quoting import quote, sanitize

from ..errors import ExportError
from ..graph.quiet import quiet
from .initializers import Source
from .options import BuildOptions
from .stage import OnnxStage

_WORKER = "keepstep.exporter.engines.aotinductor_compile"
COMPILED = "compiled; now it is loaded"  # a worker's last words, where loading ends it
_ERROR = re.compile(r"[\w.]*(Error|Exception): ")
_tracing = Lock()  # PyTorch traces one module at a time

if TYPE_CHECKING:
    from torch import Tensor

    from ..graph.extract import Subgraph


class AotInductorBuilder:
    """Compiles for the CPU (`aotinductor`) or the GPU (`aotinductor-cuda`) of this machine."""

    extension = "pt2"
    plays_here = True

    def __init__(self, backend: str, options: BuildOptions) -> None:
        """Look for what compiling needs; raises `ExportError`."""
        self.backend = backend
        if options.weights == "embedded":
            raise ExportError(
                f"backend {quote(backend)} takes its weights from the bundle's one file: leave "
                "--weights embedded out, or choose another backend"
            )
        if _compiler() is None:
            raise ExportError(
                f"backend {quote(backend)} compiles C++, and neither g++ nor clang++ is on the "
                "PATH: install one (Debian: apt install g++), or choose another backend"
            )
        self._machine = _gpu(options) if self._on_gpu else _cpu(options)

    def identity(self) -> Mapping[str, object]:
        """PyTorch's version and the machine that the code is for."""
        import torch

        return {"library": f"torch {torch.__version__}", "machine": self._machine}

    @property
    def aligned(self) -> bool:
        """On a GPU it would copy what is not, outputs as well."""
        return self._on_gpu

    @property
    def at_once(self) -> int:
        """One a core: a compiler takes some gigabytes for a large UNet, hence no more than 8."""
        return min(8, os.cpu_count() or 1)

    @property
    def _threads(self) -> int:
        """Of one compiler, so that the last one at work does not leave most cores idle."""
        return max(1, 2 * (os.cpu_count() or 2) // self.at_once)

    def build(self, stage: OnnxStage, weights: Source | None) -> bytes:
        """The package; raises `ExportError` where PyTorch or the C++ compiler fails."""
        assert weights is None
        assert stage.subgraph is not None, "the code alone is not what PyTorch compiles"
        layouts = _channels_last(stage) if self._on_gpu else {}
        with tempfile.TemporaryDirectory(prefix="keepstep-") as folder:
            program, package = Path(folder) / "program.pt2", Path(folder) / "stage.pt2"
            with _tracing:
                exported, interface = _program(stage, stage.subgraph(), layouts)
                _save(exported, program)
                del exported
            device = "cuda" if self._on_gpu else "cpu"
            worker = [sys.executable, "-m", _WORKER]
            done = subprocess.run(
                [*worker, str(program), str(package), device, interface_text(interface)],
                capture_output=True,
                text=True,
                env={**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(self._threads)},
            )
            if done.returncode:
                raise ExportError(
                    f"stage {quote(stage.name)} cannot be compiled for {self._machine} by "
                    f"AOTInductor: {_last_words(done)}, or leave --backend {self.backend} out"
                )
            return package.read_bytes()

    @property
    def _on_gpu(self) -> bool:
        return self.backend == "aotinductor-cuda"


def _program(
    stage: OnnxStage, subgraph: Subgraph, layouts: Mapping[str, tuple[int, ...]]
) -> tuple[Any, Interface]:
    """The subgraph as a function of inputs, weights and outputs, and which those are."""
    import torch
    from torch import nn

    from ..graph.weight_layout import plain_weight, undo_permutation

    sources = [*subgraph.weights]
    names = [_made_of(source, stage.weights) for source in sources]
    interface = Interface(
        inputs={name: stage.inputs[name] for name in subgraph.inputs},
        weights={name: stage.weights[name] for name in names},
        outputs=dict(stage.outputs),
        layouts={name: axes for name, axes in layouts.items() if name in names},
    )
    mode = next(iter(subgraph.inputs.values())).fake_mode  # type: ignore[attr-defined]

    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = subgraph.module

        def forward(
            self, given: list[Tensor], weights: list[Tensor], outputs: list[Tensor]
        ) -> Tensor:
            plain = []
            for name, weight, source in zip(names, weights, sources, strict=True):
                if axes := layouts.get(name):
                    weight = undo_permutation(weight, axes)
                plain.append(plain_weight(name, weight, source, subgraph.weights[source].shape))
            results = self.stage(*given, *plain)
            for output, result in zip(outputs, results, strict=True):
                output.copy_(result)
            return given[0]  # a program without a result cannot be saved; this one costs nothing

    def example(type_: TensorType) -> Tensor:
        return torch.empty(type_.shape, dtype=getattr(torch, type_.dtype))

    arguments = interface.arguments
    groups = (interface.inputs, interface.weights, interface.outputs)
    with mode, torch.no_grad(), quiet():
        examples = tuple([example(arguments[name]) for name in group] for group in groups)
        program = torch.export.export(Overwriting().eval(), examples, strict=False)
    return program, interface


def _made_of(source: str, weights: Iterable[str]) -> str:
    """The one of the stage's weights that is the traced one, in another layout or as it was."""
    from ..graph.weight_layout import source_of

    alike = (name for name in weights if source_of(name) == source_of(source))
    return next(name for name in alike if f"{name}:".startswith(f"{source}:"))


def _channels_last(stage: OnnxStage) -> dict[str, tuple[int, ...]]:
    """How the weights of convolutions are to lie on a GPU: as its convolutions read them.

    Otherwise each launch would turn all of them around.
    """
    from ..graph.weight_layout import changes_of

    return {
        name: (0, 2, 3, 1)
        for name, tensor in stage.weights.items()
        if len(tensor.shape) == 4 and tensor.shape[2] * tensor.shape[3] > 1 and not changes_of(name)
    }


def _cpu(options: BuildOptions) -> str:
    if options.compute_capabilities:
        raise ExportError(
            "aotinductor builds for the CPU and takes no compute capabilities: leave them out, or "
            "build for aotinductor-cuda"
        )
    from torch.backends.cpu import get_cpu_capability

    return f"CPU with {get_cpu_capability()}"


def _gpu(options: BuildOptions) -> str:
    import torch

    if not torch.cuda.is_available():
        raise ExportError(
            "aotinductor-cuda builds for the GPU at hand, and PyTorch finds none "
            f"(torch {torch.__version__}, made for CUDA {torch.version.cuda or 'no version'}): "
            "build where the GPU is, or for tensorrt-rtx, which needs none"
        )
    own = "{}.{}".format(*torch.cuda.get_device_capability(0))
    for capability in options.compute_capabilities:
        if capability != own:
            raise ExportError(
                f"aotinductor-cuda builds for the GPU at hand, of compute capability {own}, and "
                f"not for {quote(capability)}: leave it out, or build on such a GPU"
            )
    return f"{torch.cuda.get_device_name(0)} (compute capability {own})"


def _save(program: Any, file: Path) -> None:
    """Write it for the process that compiles it."""
    import torch

    with quiet():
        torch.export.save(program, file)


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """What a compiler said that is worth reading, and a way out."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if lines and lines[-1] == COMPILED and done.returncode < 0:
        return (
            f"what {_compiler()} made of it ends the process that loads it (signal "
            f"{-done.returncode}), as one does that links libstdc++ statically: set CXX to another "
            "compiler, such as /usr/bin/g++"
        )
    if done.returncode < 0:
        return f"it was ended by signal {-done.returncode}: close what else takes memory"
    errors = [line for line in lines if _ERROR.match(line)] or lines or ["no reason was given"]
    return f"{sanitize(errors[-1])}: try another version of PyTorch or of the C++ compiler"


def _compiler() -> str | None:
    """The C++ compiler that PyTorch takes."""
    named = os.environ.get("CXX")
    return next(
        (path for name in (named, "g++", "clang++") if name and (path := which(name))), None
    )
