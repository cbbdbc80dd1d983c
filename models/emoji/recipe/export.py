"""Write the averaged weights as a diffusers folder, half precision, file by file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from recipe import autoencoder, denoiser, pictures
from recipe.settings import Recipe
from recipe.training import checkpoint_path, load_checkpoint


def write(recipe: Recipe, work: Path, output: Path) -> None:
    """Replace the model in `output` by the checkpoint's averaged weights."""
    data = pictures.training_set(pictures.load(work), recipe)
    words = denoiser.make_tokenizer(recipe, data)
    model = load_averaged(recipe, words, work)
    vae = autoencoder.load_trained(recipe, work)
    pipeline = denoiser.pipeline_of(model, vae, words)
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True)
    for part in (model.unet, model.text_encoder, vae):
        if not all(value.isfinite().all() for value in part.state_dict().values()):
            raise ValueError(f"{type(part).__name__} does not fit half precision")
    with tempfile.TemporaryDirectory(dir=work) as beside:
        fresh = Path(beside)
        pipeline.save_pretrained(fresh)
        # The two files that tokenizers written before tokenizer.json read.
        words.backend_tokenizer.model.save(str(fresh / "tokenizer"))
        _tidy_configs(fresh)
        for file in sorted(fresh.rglob("*")):
            if file.is_file():
                target = output / file.relative_to(fresh)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.chmod(0o644)  # safetensors writes for the owner alone
                file.replace(target)  # a reader sees the old file or the new, never half


def load_averaged(recipe: Recipe, words: CLIPTokenizer, work: Path) -> denoiser.Denoiser:
    """UNet and text encoder with the checkpoint's averaged weights."""
    state = load_checkpoint(checkpoint_path(work, recipe.name, "denoiser"))
    if state is None:
        raise FileNotFoundError("no denoiser yet: run `train.py denoiser` first")
    model = denoiser.Denoiser(recipe, words).eval()
    for parameter, average in zip(model.parameters(), state["ema"]["shadow_params"], strict=True):
        parameter.data.copy_(average)
    return model


def _tidy_configs(folder: Path) -> None:
    """Drop paths of the machine that exported, and let every part load in float32 by default."""
    for name in ("unet", "vae", "text_encoder", "scheduler"):
        for file in (folder / name).glob("*config.json"):
            config = json.loads(file.read_text())
            config.pop("_name_or_path", None)
            # transformers loads in the dtype that a config names, diffusers in float32.
            for key in ("dtype", "torch_dtype"):
                if key in config:
                    config[key] = "float32"
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
