"""The Stable Diffusion family: CLIP text encoder, UNet2DConditionModel, AutoencoderKL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, PNDMScheduler, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from ..errors import ModelError

# Component → its class and how it is loaded. `low_cpu_mem_usage` would ask for `accelerate`.
_DIFFUSERS = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
COMPONENTS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "unet": (UNet2DConditionModel, _DIFFUSERS),
    "vae": (AutoencoderKL, _DIFFUSERS),
    "text_encoder": (CLIPTextModel, {"dtype": torch.float32}),
}


@dataclass(frozen=True)
class StableDiffusion:
    """A checkpoint in float32 and in eval mode, at one picture size."""

    name: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_config: Mapping[str, Any]
    height: int  # of the picture, pixels
    width: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.unet.config.in_channels, self.height // factor, self.width // factor

    @property
    def prompt_length(self) -> int:
        """Token ids a prompt."""
        return int(self.tokenizer.model_max_length)

    @property
    def text_width(self) -> int:
        """Features of one token of an embedded prompt."""
        return int(self.text_encoder.config.hidden_size)

    def token_ids(self, prompts: list[str]) -> Tensor:
        """int64 (B, L), padded and cut to the prompt length."""
        ids: Tensor = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.prompt_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return ids

    @staticmethod
    def load(model: str, height: int | None = None, width: int | None = None) -> StableDiffusion:
        """Load `model` (folder or hub id); the size defaults to what the UNet was trained for."""
        _check_family(model)
        with _quiet():
            parts = {
                name: _component(cls, model, name, **how).eval().requires_grad_(False)
                for name, (cls, how) in COMPONENTS.items()
            }
            tokenizer = _component(CLIPTokenizer, model, "tokenizer")
        try:
            # Any class reads any scheduler's config; which scheduler runs is up to the schedule.
            scheduler_config = PNDMScheduler.load_config(model, subfolder="scheduler")
        except Exception as error:
            raise ModelError(f"{model}: its scheduler cannot be read: {error}") from error
        factor = 2 ** (len(parts["vae"].config.block_out_channels) - 1)
        native = parts["unet"].config.sample_size
        native_h, native_w = (native, native) if isinstance(native, int) else native
        loaded = StableDiffusion(
            name=Path(model).name or model,
            tokenizer=tokenizer,
            scheduler_config=scheduler_config,
            height=height or native_h * factor,
            width=width or native_w * factor,
            **parts,
        )
        loaded._check_size(factor)
        return loaded

    def _check_size(self, factor: int) -> None:
        unit = factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        for name, size in (("height", self.height), ("width", self.width)):
            if size <= 0 or size % unit:
                raise ModelError(
                    f"{name} {size} does not fit {self.name}: give a multiple of {unit} pixels"
                )


def _check_family(model: str) -> None:
    """Refuse what is not a Stable Diffusion folder before anything large is read."""
    path = Path(model)
    if path.exists() and not (path / "model_index.json").is_file():
        raise ModelError(
            f"{model}: no model_index.json there: give a diffusers folder, as made by "
            "`pipeline.save_pretrained(…)`"
        )
    try:
        index = (
            json.loads((path / "model_index.json").read_text(encoding="utf-8"))
            if path.exists()
            else DiffusionPipeline.load_config(model)
        )
        family = index["_class_name"]
    except Exception as error:
        where = (
            "cannot be read" if path.exists() else "is neither a folder nor a hub id within reach"
        )
        raise ModelError(f"{model}: {where}: {_brief(error)}") from error
    unet = index.get("unet", [None, None])[1]
    text = index.get("text_encoder", [None, None])[1]
    if unet != "UNet2DConditionModel" or text != "CLIPTextModel" or "text_encoder_2" in index:
        raise ModelError(
            f"{model}: a {family} with {unet or 'no UNet'} and {text or 'no text encoder'}; this "
            "version exports StableDiffusionPipeline folders (UNet2DConditionModel, CLIPTextModel)"
        )


def _component(cls: Any, model: str, name: str, **how: Any) -> Any:
    try:
        return cls.from_pretrained(model, subfolder=name, **how)
    except Exception as error:  # truncated, altered or missing files raise many types
        raise ModelError(
            f"{model}/{name}: cannot be loaded: {_brief(error)}. Fetch or save the model again"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and advice from the loaders: a command has its own progress."""
    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def _brief(error: BaseException) -> str:
    """The first line of an error's text, which for hub libraries can be a page long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
