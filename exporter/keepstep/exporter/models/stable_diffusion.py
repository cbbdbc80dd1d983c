"""The Stable Diffusion family: CLIP text encoder, UNet2DConditionModel, AutoencoderKL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from packaging import version
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextModel, CLIPTokenizer

from keepstep.runtime.folder.tokenizer import of_several_vectors, spell_out

from ..errors import ModelError
from ..schedule.schema import Schedule
from .checkpoint import Checkpoint
from .config_checks import (
    MOST_PIXELS,
    check_parts,
    check_tokenizers,
    check_widths,
    native_size,
    prompt_length,
    text_width,
)
from .modules import LatentScale, TextEncoder
from .scheduler_config import scheduler_config

T = TypeVar("T")

# Schedulers that only checkpoints distilled for few steps, guidance included, come with.
_OF_DISTILLED = ("LCMScheduler", "TCDScheduler")


def of_guidance(named: Mapping[str, T], guided: bool) -> dict[str, T]:
    """What a run takes of `named`: all with guidance, nothing negative and no scale without it."""
    halves = ("negative_", "guidance_scale")
    return {name: x for name, x in named.items() if guided or not name.startswith(halves)}


@dataclass(frozen=True)
class StableDiffusion:
    """A checkpoint at one picture size, its modules in float32 and in eval mode."""

    family: ClassVar[str] = "stable-diffusion"
    TEXT: ClassVar[Mapping[str, Any]] = {"text_encoder": CLIPTextModel}
    TOKENIZERS: ClassVar[Mapping[str, str]] = {"token_ids": "tokenizer"}
    ADDED: ClassVar[str | None] = None  # what is added to the UNet's time embedding
    # Settings that `StableDiffusionPipeline` mends when it is made.
    SCHEDULER: ClassVar[Mapping[str, object]] = {"steps_offset": 1, "clip_sample": False}

    checkpoint: Checkpoint
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: Mapping[str, nn.Module]  # by component
    tokenizers: Mapping[str, CLIPTokenizer]  # by the input that takes the ids of a prompt
    height: int  # of the picture, pixels
    width: int

    @classmethod
    def fits(cls, index: Mapping[str, Any]) -> bool:
        """Whether a model_index.json is of this family."""

        def kind(part: str) -> Any:
            return index.get(part, [None, None])[1]

        encoders = {part for part in index if part.startswith("text_encoder") and kind(part)}
        return (
            kind("unet") == "UNet2DConditionModel"
            and encoders == set(cls.TEXT)
            and all(kind(part) == text.__name__ for part, text in cls.TEXT.items())
        )

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, height: int | None, width: int | None, weights: bool
    ) -> StableDiffusion:
        """With weights, or without; the size defaults to what the UNet was trained for."""
        mode = FakeTensorMode(allow_non_fake_inputs=True)

        def module(kind: Any, component: str) -> Any:
            if weights:
                return checkpoint.loaded(kind, component)
            return checkpoint.weightless(kind, component, mode)

        unet = module(UNet2DConditionModel, "unet")
        vae = module(AutoencoderKL, "vae")
        native_h, native_w = native_size(cls._native_size(unet), f"{checkpoint.name}/unet")
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        model = cls(
            checkpoint=checkpoint,
            unet=unet,
            vae=vae,
            text_encoders={part: module(kind, part) for part, kind in cls.TEXT.items()},
            tokenizers={
                name: checkpoint.tokenizer(CLIPTokenizer, part)
                for name, part in cls.TOKENIZERS.items()
            },
            height=height or native_h * factor,
            width=width or native_w * factor,
        )
        model._check_network()
        model._check_size(factor)
        check_parts(unet.config, vae.config, model.name)
        check_widths(unet.config, model.text_encoders, model.name)
        check_tokenizers(model.tokenizers, model.text_encoders, model.name)
        _ = model.scheduler_config  # refused now, not when a schedule is lowered
        return model

    @classmethod
    def _native_size(cls, unet: UNet2DConditionModel) -> Any:
        """The latent's side, or its height and width, for which the UNet was trained.

        Configs from before diffusers 0.9 may say 32 of a UNet that was trained for 64;
        `StableDiffusionPipeline` does not believe them.
        """
        size = unet.config.sample_size
        try:
            written = version.parse(unet.config.get("_diffusers_version", "1"))
        except (version.InvalidVersion, TypeError):
            return size  # not diffusers' own
        old = written < version.parse("0.9.0.dev0")
        return 64 if old and isinstance(size, int) and size < 64 else size

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.checkpoint.name

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Which scheduler runs is up to the schedule; its settings are the checkpoint's."""
        return scheduler_config(self.checkpoint, self.SCHEDULER)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return self.unet.config.in_channels, self.height // factor, self.width // factor

    @property
    def prompt_length(self) -> int:
        """Token ids a prompt."""
        return prompt_length(self.tokenizers, self.text_encoders, self.name)

    @property
    def text_width(self) -> int:
        """Features of one token of an embedded prompt."""
        return text_width(self.unet.config.cross_attention_dim, f"{self.name}/unet")

    @property
    def latent_scale(self) -> LatentScale:
        """Between the VAE and the sampler, as `StableDiffusionPipeline` has it."""
        return LatentScale(float(self.vae.config.scaling_factor))

    def is_guided(self, schedule: Schedule) -> bool:
        """Whether a run has both halves of classifier-free guidance.

        That is up to the schedule; where it says nothing, a distilled checkpoint has none.
        """
        if schedule.guidance is not None:
            return schedule.guidance == "classifier-free"
        index = self.checkpoint.index
        distilled = bool(index.get("is_distilled"))
        return not distilled and index.get("scheduler", [None, None])[1] not in _OF_DISTILLED

    def text_stage(self) -> tuple[nn.Module, tuple[str, ...]]:
        """The module from token ids to embeddings, and the names of its outputs.

        Its arguments are those of `text_inputs`, without the negative ones in a run without
        guidance; it then has no negative outputs.
        """
        return TextEncoder(self.text_encoders["text_encoder"]), tuple(self._embeddings(1))

    def conditions(self, batch: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what the network is told of the prompt, all float32."""
        return self._embeddings(batch)

    def text_inputs(
        self, prompts: list[str], negative_prompts: list[str] | None
    ) -> dict[str, Tensor]:
        """What prompts become for the text encoders, by input; None: no negative prompts given.

        Token ids are int64 (B, L), padded and cut to the prompt length.
        """
        ids = {}
        negative = [""] * len(prompts) if negative_prompts is None else negative_prompts
        for name, tokenizer in self.tokenizers.items():
            several = of_several_vectors(tokenizer.added_tokens_encoder.keys())
            for given, prefix in ((prompts, ""), (negative, "negative_")):
                ids[prefix + name] = tokenizer(
                    [spell_out(text, tokenizer.tokenize(text), several) for text in given],
                    padding="max_length",
                    max_length=self.prompt_length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
        return ids

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest id, by input: an encoder has an embedding for each, and no others."""
        return {
            prefix + name: (0.0, float(cast(Any, encoder.config).vocab_size - 1))
            for name, encoder in zip(self.TOKENIZERS, self.text_encoders.values(), strict=True)
            for prefix in ("", "negative_")
        }

    def sizes(self, batch: int) -> dict[str, Tensor]:
        """Conditions that are no text: none in this family."""
        return {}

    @torch.no_grad()
    def embed(
        self,
        prompts: list[str],
        negative_prompts: list[str] | None = None,
        guided: bool = True,
    ) -> dict[str, Tensor]:
        """The conditions of prompts, by running the text encoders eagerly, where they are."""
        module, outputs = self.text_stage()
        given = of_guidance(self.text_inputs(prompts, negative_prompts), guided)
        embedded = module(**{name: tensor.to(self.unet.device) for name, tensor in given.items()})
        names = of_guidance(dict.fromkeys(outputs), guided)
        sizes = of_guidance(self.sizes(len(prompts)), guided)
        return dict(zip(names, embedded, strict=True)) | sizes

    def _embeddings(self, batch: int) -> dict[str, tuple[int, ...]]:
        shape = (batch, self.prompt_length, self.text_width)
        return {"prompt_embeds": shape, "negative_prompt_embeds": shape}

    def _check_network(self) -> None:
        """Refuse what has the family's parts but takes more than prompt, latents and timestep."""
        _ = self.latent_scale  # refuses statistics that do not fit
        unet, vae = self.unet.config, self.vae.config
        channels = {unet.in_channels, unet.out_channels, vae.latent_channels}
        extras = {
            name: unet.get(name)
            for name in ("class_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim")
            if unet.get(name) is not None
        }
        if unet.addition_embed_type != self.ADDED:
            extras["addition_embed_type"] = unet.addition_embed_type
        if len(channels) > 1:
            extras["in_channels"] = unet.in_channels
        if extras:
            found = ", ".join(f"{name} {value}" for name, value in extras.items())
            raise ModelError(
                f"{self.name}/unet: {found}: expected a {self.family} text-to-image network; "
                "inpainting, upscaling and guidance-distilled ones are not supported"
            )

    def _check_size(self, factor: int) -> None:
        unit = factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        for name, size in (("height", self.height), ("width", self.width)):
            if size == 0:
                raise ModelError(
                    f"{self.name}/unet: config.json has no sample_size: give --height and --width"
                )
            if not 0 < size <= MOST_PIXELS or size % unit:
                raise ModelError(
                    f"{name} {size} does not fit {self.name}: give a multiple of {unit} pixels "
                    f"up to {MOST_PIXELS}"
                )
