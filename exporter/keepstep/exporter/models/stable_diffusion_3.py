"""Stable Diffusion 3 and 3.5: joint attention over picture and text, three text encoders.

The third encoder, T5, may be left out: its tokens are zeros then, as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from ..errors import ModelError
from .autoencoder import Autoencoder, LatentScale
from .checkpoint import Checkpoint
from .config_checks import check_tokenizers, picture_size, prompt_length
from .denoiser import Attention, Blocks, Denoiser, Site, TokenStream
from .family import Family, Model, with_encoders
from .flow_matching import shifted_by_size
from .scheduler_config import guidances_of
from .t5 import WIDE, t5_length, t5_tokenizer
from .text import Text, TextStage
from .transformer_checks import COMPONENT, check_latents, check_width

NAME = "stable-diffusion-3"
NETWORK = (COMPONENT, "SD3Transformer2DModel")
CLIPS = dict.fromkeys(("text_encoder", "text_encoder_2"), CLIPTextModelWithProjection)
T5 = "text_encoder_3"
T5_TOKENS = 256  # of `StableDiffusion3Pipeline`, `max_sequence_length`
LARGEST_SHIFT = 1.16  # of the pipeline, where the scheduler's config has none


@dataclass(frozen=True)
class SD3(Denoiser):
    """An SD3Transformer2DModel, conditioned by `prompt_embeds` and a pooled one."""

    component: ClassVar[str] = COMPONENT

    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As diffusers' pipelines call it, but with one timestep for all pictures."""
        prediction: Tensor = self.module(
            hidden_states=sample,
            timestep=timestep.reshape(1),
            encoder_hidden_states=conditions["prompt_embeds"],
            pooled_projections=conditions["pooled_prompt_embeds"],
            return_dict=False,
        )[0]
        return prediction

    @property
    def blocks(self) -> Blocks:
        """A block gives the text's tokens, then the picture's."""
        paths = (f"transformer_blocks.{i}" for i in range(self.config.num_layers))
        enter = (Site("pos_embed"), Site("context_embedder"))
        return Blocks(enter, tuple(paths), gives=(1, 0))

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """The joint one of every block, and in 3.5 one of the picture alone in some."""
        also = self.config.dual_attention_layers or ()
        blocks = range(self.config.num_layers)
        names = ((i, name) for i in blocks for name in ("attn", "attn2")[: 1 + (i in also)])
        return tuple(Attention(f"transformer_blocks.{i}.{name}") for i, name in names)

    def stream(self, height: int, width: int) -> TokenStream:
        """Tokens are squares of latents."""
        side = int(self.config.patch_size)
        rows, columns = height // side, width // side
        return TokenStream(rows, columns, side, "pos_embed", "proj_out", self.attentions)


class ThreeTextEncoders(TextStage):
    """Two of CLIP and T5 → the tokens of all, (B, L, D), and a pooled one of CLIP's, (B, P).

    CLIP's give their last layer but one, side by side and filled up with zeros to D features.
    """

    def __init__(self, clips: Sequence[nn.Module], t5: nn.Module | None, width: int) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = clips
        if t5 is not None:
            self.text_encoder_3 = t5
        self.width = width

    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Without T5 its tokens are zeros."""
        one = self.text_encoder(ids[0], output_hidden_states=True)
        two = self.text_encoder_2(ids[1], output_hidden_states=True)
        clip = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        clip = functional.pad(clip, (0, self.width - clip.shape[-1]))
        if len(ids) > 2:
            t5 = self.text_encoder_3(ids[2])[0]
        else:
            t5 = clip.new_zeros(clip.shape[0], T5_TOKENS, self.width)
        pooled = torch.cat([one.text_embeds, two.text_embeds], dim=-1)
        return torch.cat([clip, t5], dim=-2), pooled


def load(
    checkpoint: Checkpoint,
    height: int | None,
    width: int | None,
    module: Callable[[Any, str], Any],
) -> Model:
    """The model; its size defaults to what the transformer says."""
    where = checkpoint.name
    network, vae = module(SD3Transformer2DModel, COMPONENT), module(AutoencoderKL, "vae")
    config = network.config
    check_latents(config, vae.config, 1, where)
    autoencoder = Autoencoder(vae, LatentScale.with_shift(vae.config))
    unit = autoencoder.factor * config.patch_size
    native: object = config.sample_size
    h, w = picture_size(height, width, native, autoencoder.factor, unit, where, COMPONENT)
    if max(h, w) // unit > config.pos_embed_max_size:
        raise ModelError(
            f"{where}: has positions for {config.pos_embed_max_size * unit} pixels a side, "
            f"not for {max(h, w)}: choose a smaller picture"
        )
    text = _text(checkpoint, config, module)
    tokens = text.length + text.lengths.get("token_ids_3", T5_TOKENS)
    conditions = {
        "prompt_embeds": (tokens, int(config.joint_attention_dim)),
        "pooled_prompt_embeds": (int(config.pooled_projection_dim),),
    }
    return Model(
        family=NAME,
        checkpoint=checkpoint,
        denoiser=SD3(network, conditions),
        text=text,
        autoencoder=autoencoder,
        height=h,
        width=w,
        guidances=guidances_of(checkpoint),
        guidance_scale=7.0,
        steps=28,
        timing=shifted_by_size((h // unit) * (w // unit), LARGEST_SHIFT),
    )


def _text(checkpoint: Checkpoint, config: Any, module: Callable[[Any, str], Any]) -> Text:
    """Encoders and tokenizers, which fit each other and the transformer."""
    where = checkpoint.name
    encoders = {part: module(cls, part) for part, cls in CLIPS.items()}
    folders = {"token_ids": "tokenizer", "token_ids_2": "tokenizer_2"}
    tokenizers: dict[str, Any] = {
        name: checkpoint.tokenizer(CLIPTokenizer, part) for name, part in folders.items()
    }
    lengths = dict.fromkeys(tokenizers, prompt_length(tokenizers, encoders, where))
    pooled = sum(int(encoder.config.projection_dim) for encoder in encoders.values())
    check_width(config, "pooled_projection_dim", pooled, "CLIP's sum", where)
    if checkpoint.has(T5):
        encoders[T5] = t5 = module(T5EncoderModel, T5)
        check_width(config, "joint_attention_dim", t5.config.d_model, "T5", where)
        tokenizers["token_ids_3"] = tokenizer = t5_tokenizer(checkpoint, "tokenizer_3")
        folders["token_ids_3"] = "tokenizer_3"
        lengths["token_ids_3"] = t5_length(tokenizer, T5_TOKENS)
    check_tokenizers(tokenizers, encoders, where)
    clips = [encoders[part] for part in CLIPS]
    return Text(
        stage=ThreeTextEncoders(clips, encoders.get(T5), int(config.joint_attention_dim)),
        encoders=encoders,
        tokenizers=tokenizers,
        folders=folders,
        lengths=lengths,
        outputs=("prompt_embeds", "pooled_prompt_embeds"),
        wide=WIDE,
    )


FAMILY = Family(NAME, NETWORK, with_encoders(CLIPS, {**CLIPS, T5: T5EncoderModel}), load)
