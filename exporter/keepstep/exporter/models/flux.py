"""FLUX.1: double and single blocks over picture and text, rotary positions, packed latents.

The dev checkpoints are told the guidance scale and the schnell ones have no guidance; none has a
negative prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

from .autoencoder import Autoencoder, LatentScale
from .checkpoint import Checkpoint
from .config_checks import check_tokenizers, picture_size, prompt_length
from .denoiser import Attention, Blocks, Denoiser, Site, TokenStream
from .family import Family, Model, with_encoders
from .flow_matching import from_a_line
from .guidance import SCALE
from .t5 import WIDE, t5_length, t5_tokenizer
from .text import Text, TextStage
from .transformer_checks import COMPONENT, check_latents, check_width

NAME = "flux"
NETWORK = (COMPONENT, "FluxTransformer2DModel")
ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
T5_TOKENS = 512  # of `FluxPipeline`, `max_sequence_length`
LATENTS = 128  # a side of those that the pipeline makes where no size is given
LARGEST_SHIFT = 1.15  # of the pipeline, where the scheduler's config has none
SIDE = 2  # latents a side of a token


@dataclass(frozen=True)
class Flux(Denoiser):
    """A FluxTransformer2DModel, conditioned by `prompt_embeds`, a pooled one, and perhaps the
    guidance scale; rows, columns: of the picture's tokens."""

    component: ClassVar[str] = COMPONENT

    rows: int
    columns: int

    @property
    def channels(self) -> int:
        """C of the latents, of which a token holds a square."""
        return int(self.config.in_channels) // SIDE**2

    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As diffusers' pipeline calls it, but with one timestep for all pictures."""
        text = conditions["prompt_embeds"]
        scale = conditions.get(SCALE)
        prediction: Tensor = self.module(
            hidden_states=_packed(sample),
            timestep=timestep.reshape(1) / 1000,
            guidance=None if scale is None else scale.reshape(1),
            pooled_projections=conditions["pooled_prompt_embeds"],
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=text.device),
            img_ids=_positions(self.rows, self.columns).to(text.device),
            return_dict=False,
        )[0]
        return _unpacked(prediction, self.rows, self.columns)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Rotations depend on positions alone: they are constants, and not made in every call."""
        embed: Any = self.module.pos_embed
        embed.forward = lambda ids: self._rotations
        try:
            yield
        finally:
            del embed.forward  # the class's own again

    @cached_property
    def _rotations(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine (tokens, features of a head)."""
        length, _ = self.conditions["prompt_embeds"]
        ids = torch.cat([torch.zeros(length, 3), _positions(self.rows, self.columns)])
        embed: Any = self.module.pos_embed
        cosine, sine = embed(ids)
        return cosine, sine

    def __post_init__(self) -> None:
        _ = self._rotations  # made now: while a network is traced no number is

    @property
    def blocks(self) -> Blocks:
        """Double blocks, then single ones; each gives the text's tokens, then the picture's."""
        config = self.config
        double = (f"transformer_blocks.{i}" for i in range(config.num_layers))
        single = (f"single_transformer_blocks.{i}" for i in range(config.num_single_layers))
        enter = (Site("x_embedder"), Site("context_embedder"))
        return Blocks(enter, (*double, *single), gives=(1, 0))

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """In single blocks, text and picture are one sequence."""
        config, (length, _) = self.config, self.conditions["prompt_embeds"]
        double = (f"transformer_blocks.{i}.attn" for i in range(config.num_layers))
        single = (f"single_transformer_blocks.{i}.attn" for i in range(config.num_single_layers))
        return (*map(Attention, double), *(Attention(path, length) for path in single))

    def stream(self, height: int, width: int) -> TokenStream:
        """Tokens are squares of latents."""
        rows, columns = height // SIDE, width // SIDE
        return TokenStream(rows, columns, SIDE, "x_embedder", "proj_out", self.attentions)

    @contextmanager
    def running(self, index: Tensor) -> Iterator[None]:
        """Queries of kept tokens are rotated by their own places, keys by those of all."""
        length, _ = self.conditions["prompt_embeds"]
        text = [turn[:length] for turn in self._rotations]
        all_ = [turn[length:] for turn in self._rotations]
        kept = [turn[index] for turn in all_]
        both = [
            torch.cat([a.expand(len(index), -1, -1), b], 1) for a, b in zip(text, kept, strict=True)
        ]
        double = {"norm_q": kept, "norm_k": all_, "norm_added_q": text, "norm_added_k": text}
        single = {"norm_q": both, "norm_k": list(self._rotations)}
        with ExitStack() as hooks:
            for attention in self.attentions:
                module = self.module.get_submodule(attention.path)
                hook = module.register_forward_pre_hook(_unrotated, with_kwargs=True)
                hooks.callback(hook.remove)
                for name, turn in (single if attention.before else double).items():
                    norm = module.get_submodule(name)
                    rotated = norm.register_forward_hook(partial(_rotated, turn))
                    hooks.callback(rotated.remove)
            yield


class ClipAndT5(TextStage):
    """CLIP's pooled output (B, P) and T5's tokens (B, L, D)."""

    def __init__(self, text_encoder: nn.Module, text_encoder_2: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Tokens, then the pooled output."""
        return self.text_encoder_2(ids[1])[0], self.text_encoder(ids[0]).pooler_output


def load(
    checkpoint: Checkpoint,
    height: int | None,
    width: int | None,
    module: Callable[[Any, str], Any],
) -> Model:
    """The model; its size defaults to the pipeline's."""
    where = checkpoint.name
    network, vae = module(FluxTransformer2DModel, COMPONENT), module(AutoencoderKL, "vae")
    config = network.config
    check_latents(config, vae.config, SIDE**2, where)
    autoencoder = Autoencoder(vae, LatentScale.with_shift(vae.config))
    unit = autoencoder.factor * SIDE  # pixels a side of a token
    h, w = picture_size(height, width, LATENTS, autoencoder.factor, unit, where, COMPONENT)
    text = _text(checkpoint, config, module)
    conditions = {
        "prompt_embeds": (text.lengths["token_ids_2"], int(config.joint_attention_dim)),
        "pooled_prompt_embeds": (int(config.pooled_projection_dim),),
    }
    told = bool(config.guidance_embeds)
    return Model(
        family=NAME,
        checkpoint=checkpoint,
        denoiser=Flux(network, conditions, h // unit, w // unit),
        text=text,
        autoencoder=autoencoder,
        height=h,
        width=w,
        guidances=("embedded",) if told else ("none",),
        guidance_scale=3.5,
        steps=28 if told else 4,
        timing=from_a_line((h // unit) * (w // unit), LARGEST_SHIFT),
    )


def _text(checkpoint: Checkpoint, config: Any, module: Callable[[Any, str], Any]) -> Text:
    """Encoders and tokenizers, which fit each other and the transformer."""
    where = checkpoint.name
    encoders = {part: module(cls, part) for part, cls in ENCODERS.items()}
    clip, t5 = encoders.values()
    check_width(config, "pooled_projection_dim", clip.config.hidden_size, "CLIP", where)
    check_width(config, "joint_attention_dim", t5.config.d_model, "T5", where)
    folders = {"token_ids": "tokenizer", "token_ids_2": "tokenizer_2"}
    tokenizers: dict[str, Any] = {
        "token_ids": checkpoint.tokenizer(CLIPTokenizer, "tokenizer"),
        "token_ids_2": t5_tokenizer(checkpoint, "tokenizer_2"),
    }
    check_tokenizers(tokenizers, encoders, where)
    own = {"token_ids": tokenizers["token_ids"]}
    return Text(
        stage=ClipAndT5(clip, t5),
        encoders=encoders,
        tokenizers=tokenizers,
        folders=folders,
        lengths={
            "token_ids": prompt_length(own, {"text_encoder": clip}, where),
            "token_ids_2": t5_length(tokenizers["token_ids_2"], T5_TOKENS),
        },
        outputs=("prompt_embeds", "pooled_prompt_embeds"),
        wide=WIDE,
    )


def _unrotated(_module: nn.Module, args: Any, told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A hook of an attention: it rotates nothing itself."""
    return args, {**told, "image_rotary_emb": None}


def _rotated(turn: Sequence[Tensor], _module: nn.Module, _args: Any, x: Tensor) -> Tensor:
    """A hook of a norm: x (b, S, heads, D), each pair of features turned by the cosines and sines
    of (S, D) or (b, S, D), as `apply_rotary_emb` of diffusers."""
    cosine, sine = (part.unsqueeze(-2) for part in turn)
    real, imaginary = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    return x * cosine + torch.stack([-imaginary, real], -1).flatten(-2) * sine


def _packed(latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) → a token for every square, (B, h·w / 4, 4 C)."""
    b, c, h, w = latents.shape
    squares = latents.reshape(b, c, h // SIDE, SIDE, w // SIDE, SIDE).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(b, (h // SIDE) * (w // SIDE), c * SIDE**2)


def _unpacked(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The reverse, of rows × columns tokens."""
    b, _, c = tokens.shape
    squares = tokens.reshape(b, rows, columns, c // SIDE**2, SIDE, SIDE).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(b, c // SIDE**2, rows * SIDE, columns * SIDE)


def _positions(rows: int, columns: int) -> Tensor:
    """(0, row, column) of every token, (rows · columns, 3)."""
    grid = torch.zeros(rows, columns, 3)
    grid[..., 1] += torch.arange(rows)[:, None]
    grid[..., 2] += torch.arange(columns)[None, :]
    return grid.reshape(rows * columns, 3)


FAMILY = Family(NAME, NETWORK, with_encoders(ENCODERS), load)
