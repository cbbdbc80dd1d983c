"""`keepstep debug`: parts of a bundle in the formats of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepstep.output.terminal import say

from .options import BundleArgument, PlanOption, open_bundle

app = typer.Typer(no_args_is_help=True, help="Take a bundle apart, for tools that look closer.")


@app.command()
def stage(
    bundle: BundleArgument,
    stage: Annotated[str, typer.Argument(help="A stage, as `keepstep inspect` names it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder.")],
    plan: PlanOption = None,
    backend: Annotated[
        str, typer.Option(help="onnxruntime or onnxruntime-cuda: plays the calls before it.")
    ] = "onnxruntime",
) -> None:
    """Take one stage out: model.onnx with its weights, and what its first call reads and must give.

    keepstep debug stage engines/emoji decode -o decode

    keepstep debug stage engines/emoji text -o text --plan dato-coco

    graph.txt and graph.svg show its graph; README.txt has commands for Polygraphy and TensorRT to
    paste.
    """
    from keepstep.output.result_folder import check_folder, write_folder
    from keepstep.output.stage_files import check_tools, write_stage

    check_tools()
    from keepstep.exporter.check.lone_stage import lone_stage

    check_folder(output)
    opened, name = open_bundle(bundle, plan)
    taken = lone_stage(opened, name, stage, backend)
    write_folder(output, lambda folder: write_stage(taken, folder))
    say(f"{output}: stage {stage} of plan {taken.plan}, call {taken.call}; see README.txt")
