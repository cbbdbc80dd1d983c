"""`keepstep export`: the options of an export, thin over `compiler.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from keepstep.output.progress import progress
from keepstep.output.terminal import say

SizeOption = Annotated[int | None, typer.Option(min=1, help="Pixels; the model's own if absent.")]


def export(
    model: Annotated[str, typer.Argument(help="A diffusers folder or hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle's folder.")],
    schedule: Annotated[
        list[str], typer.Option("--schedule", "-s", help="A built-in name or a YAML file; repeat.")
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, tensorrt-rtx, tensorrt, aotinductor (a CPU) or aotinductor-cuda; "
            "repeat.",
            show_default="onnxruntime",
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16: of weights and products.")
    ] = "float32",
    float32: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep it in float32: text, prompt, full, shallow, decode, or attention, linear, "
            "convolution; repeat."
        ),
    ] = None,
    height: SizeOption = None,
    width: SizeOption = None,
    batch: Annotated[int, typer.Option(help="Pictures a run.")] = 1,
    weights: Annotated[
        str, typer.Option(help="shared by all engines, or embedded in each of them.")
    ] = "shared",
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="GPUs that engines are for, such as 8.9; repeat.",
            show_default="any, or the one at hand",
        ),
    ] = None,
    weight_streaming: Annotated[
        bool, typer.Option(help="Let embedded weights stay in host memory.")
    ] = False,
    tf32: Annotated[bool, typer.Option(help="Let float32 products be rounded to TF32.")] = False,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="none: a distilled checkpoint, the prompt alone; classifier-free.",
            show_default="as it is made",
        ),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Of the model's weights files, such as fp16.", show_default="the plain ones"
        ),
    ] = None,
    without_t5: Annotated[
        bool,
        typer.Option(
            "--without-t5",
            help="Leave T5, the largest text encoder, out of Stable Diffusion 3.",
        ),
    ] = False,
    verify: Annotated[
        str,
        typer.Option(
            help="run: compare every stage and a whole eager run; stages: every stage; none."
        ),
    ] = "run",
) -> None:
    """Compile MODEL with one or more schedules into a bundle.

    keepstep export models/emoji -o engines/emoji -s full -s dato-coco

    keepstep export sd15 -o engines/sd15 -s full -s dato-coco --dtype float16
    --backend tensorrt-rtx --verify stages
    """
    from keepstep.exporter.compiler import export as compile_bundle
    from keepstep.exporter.engines import BuildOptions

    options = BuildOptions(
        compute_capabilities=tuple(compute_capability or ()),
        weights=cast(Any, weights),
        weight_streaming=weight_streaming,
        tf32=tf32,
    )
    with progress() as report:
        bundle = compile_bundle(
            model,
            schedule,
            output,
            backend or ["onnxruntime"],
            height,
            width,
            batch,
            dtype=cast(Any, dtype),
            float32=float32 or (),
            options=options,
            verify=cast(Any, verify),
            guidance=cast(Any, guidance),
            variant=variant,
            without_t5=without_t5,
            progress=report,
        )
    total = sum(entry.bytes for entry in bundle.manifest.files.values())
    from keepstep.exporter.settings import weights_of
    from keepstep.output.tables import size

    for component, files in weights_of(bundle).items():
        say(f"{component}: {', '.join(files)}", "bright_black")
    say(f"{output}: plans {', '.join(bundle.plans)}; {size(total)}")
