"""Write a pipeline as a diffusers folder in half precision; how large its parts are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch import nn


def write_folder(
    pipeline: DiffusionPipeline,
    output: Path,
    work: Path,
    add: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Replace the model in `output`, file by file, after it has been written whole to `work`.

    add   writes what else belongs to the folder, before it is put in place
    """
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True)
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    for part in parts:
        if not all(value.isfinite().all() for value in part.state_dict().values()):
            raise ValueError(f"{type(part).__name__} does not fit half precision")
    with tempfile.TemporaryDirectory(dir=work) as beside:
        fresh = Path(beside)
        pipeline.save_pretrained(fresh)
        add(fresh)
        _tidy_configs(fresh)
        for file in sorted(fresh.rglob("*")):
            if file.is_file():
                target = output / file.relative_to(fresh)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.chmod(0o644)  # safetensors writes for the owner alone
                file.replace(target)  # a reader sees the old file or the new, never half


def _tidy_configs(folder: Path) -> None:
    """Drop paths of the machine that exported, and let every part load in float32 by default."""
    for file in folder.glob("*/*config.json"):
        if file.parent.name == "tokenizer":
            continue
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        # transformers loads in the dtype that a config names, diffusers in float32.
        for key in ("dtype", "torch_dtype"):
            if key in config:
                config[key] = "float32"
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def sizes(output: Path, parts: Sequence[str]) -> dict[str, float]:
    """Megabytes on disk, a part each, and in all."""
    found = {
        name: sum(file.stat().st_size for file in (output / name).rglob("*")) / 1e6
        for name in parts
    }
    return {name: round(size, 2) for name, size in {**found, "all": sum(found.values())}.items()}
