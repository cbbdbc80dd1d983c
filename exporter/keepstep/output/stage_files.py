"""The files of a stage that was taken out of a bundle, in the formats of other tools.

`model.onnx` for whatever reads ONNX; `inputs.json` and `outputs.json` as Polygraphy writes them;
`graph.txt` and `graph.svg` for people; `README.txt` says what is what, with commands to paste.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keepstep.exporter.methods import SELECTION
from keepstep.runtime.errors import InputError
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.format.rules_values import type_text

if TYPE_CHECKING:
    from keepstep.exporter.check.lone_stage import LoneStage

LARGEST_WHOLE = 1_500_000_000  # bytes of a model in one file; protobuf ends at 2³¹
RUNNER = "golden"  # under which name the outputs are stored


def check_tools() -> None:
    """Raise `InputError` where a package is missing with which stages are taken out."""
    for module, package in (("onnx", "onnx"), ("onnx_ir", "onnx-ir"), ("polygraphy", "polygraphy")):
        if find_spec(module) is None:
            raise InputError(
                f"this needs the package {package}, which is not installed: "
                "pip install 'keepstep[debug]'"
            )


def write_stage(stage: LoneStage, folder: Path) -> None:
    """Write the files into an empty folder.

    Weights are in `model.onnx`, or beside it in `model.onnx.data` where both together are larger
    than `LARGEST_WHOLE`. Raises `OSError`.
    """
    import onnx_ir as ir
    from polygraphy.comparator import RunResults
    from polygraphy.json import save_json
    from polygraphy.logger import G_LOGGER

    from .graph_picture import graph_picture
    from .stage_graph import graph_text

    tensors = [value.const_value for value in stage.model.graph.initializers.values()]
    weights = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    beside = "model.onnx.data" if weights > LARGEST_WHOLE else None
    ir.save(stage.model, folder / "model.onnx", external_data=beside)
    results = RunResults()
    results.add([_plain(stage.outputs)], runner_name=RUNNER)
    with G_LOGGER.verbosity(G_LOGGER.ERROR):  # it would tell of files at names that do not stay
        save_json([_plain(stage.inputs)], str(folder / "inputs.json"))
        save_json(results, str(folder / "outputs.json"))
    title = f"stage {stage.name} of plan {stage.plan}"
    (folder / "graph.txt").write_text(graph_text(stage.model, title), encoding="utf-8")
    (folder / "graph.svg").write_text(graph_picture(stage.model, title), encoding="utf-8")
    (folder / "README.txt").write_text(_readme(stage, beside), encoding="utf-8")


def _plain(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays in memory of their own: those of a bundle are mapped and read-only."""
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def _readme(stage: LoneStage, beside: str | None) -> str:
    compared = f"--load-inputs inputs.json --load-outputs outputs.json {_tolerances(stage)}"
    unrecorded = [name for name in stage.signature.outputs if name not in stage.outputs]
    place = f" in {beside} beside it" if beside else ""
    notes = []
    if unrecorded:
        notes.append(
            f"Not in outputs.json, because no golden values have it: {', '.join(unrecorded)}."
        )
    if any(name.startswith(SELECTION) for name in stage.outputs):
        notes.append(
            f"{SELECTION}N says which token each pruned one copies. Where tokens are as good as\n"
            "each other, rounding decides, and then every number behind it differs, too:\n"
            "`keepstep verify` knows such ties, Polygraphy does not."
        )
    return f"""\
Stage {stage.name} of plan {stage.plan}, as call {stage.call} of the plan launches it first.

model.onnx     the engine of ONNX Runtime, with its weights{place}
inputs.json    what the call reads: Polygraphy's --load-inputs
outputs.json   what it must give, by an eager run in float32: Polygraphy's --load-outputs
graph.txt      its operations, one a line, under the modules that they come from
graph.svg      its modules with their share of the work: a picture, for a browser

Inputs:
{_listing(stage.signature.inputs.items())}
Outputs:
{_listing(stage.signature.outputs.items())}
{"".join(f"{note}{chr(10)}" for note in notes)}
Commands, to be run in this folder:

Does ONNX Runtime give what it must?
    polygraphy run model.onnx --onnxrt {compared}

Does TensorRT? (needs a GPU)
    polygraphy run model.onnx --trt {compared}

What is in the model?
    polygraphy inspect model model.onnx --show layers

Does TensorRT build it, and how fast is it?
    trtexec --onnx=model.onnx

Which is the smallest part of it that TensorRT and ONNX Runtime compute differently?
    polygraphy debug reduce model.onnx -o reduced.onnx --mode bisect \\
        --load-inputs inputs.json \\
        --check polygraphy run polygraphy_debug.onnx --onnxrt --trt {_common(stage)}

Attention is the operator com.microsoft.MultiHeadAttention, which ONNX Runtime has and the parsers
of TensorRT-RTX 1.7 and later read. To older ones it is unknown.
"""


def _listing(types: Iterable[tuple[str, TensorType]]) -> str:
    return "".join(f"    {name}  {type_text(type_)}\n" for name, type_ in types)


def _common(stage: LoneStage) -> str:
    return f"--rtol {stage.tolerance:g} --atol {stage.tolerance:g}"


def _tolerances(stage: LoneStage) -> str:
    """Options for Polygraphy: relative to every number, and to the largest one of an output."""
    largest, exact = [], []
    for name, array in stage.outputs.items():
        if array.dtype == np.uint8:
            largest.append(f"{name}:1")  # rounded to levels: one up or down
        elif array.dtype.kind == "f":
            bound = stage.tolerance * float(np.abs(array.astype(np.float64)).max())
            largest.append(f"{name}:{bound:.3g}")
        else:
            largest.append(f"{name}:0")
            exact.append(f"{name}:0")
    return f"--rtol {' '.join([f'{stage.tolerance:g}', *exact])} --atol {' '.join(largest)}"
