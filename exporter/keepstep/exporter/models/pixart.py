"""PixArt-α and PixArt-Σ: self-attention, and cross-attention to the tokens of T5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from diffusers import AutoencoderKL, PixArtTransformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from torch import Tensor, nn
from transformers import T5EncoderModel

from .autoencoder import Autoencoder, LatentScale
from .checkpoint import Checkpoint
from .config_checks import check_tokenizers, picture_size
from .denoiser import Attention, Blocks, Denoiser, Site, TokenStream
from .family import Family, Model, with_encoders
from .scheduler_config import guidances_of
from .t5 import WIDE, mask_of, t5_length, t5_tokenizer
from .text import Text, TextStage
from .transformer_checks import COMPONENT, check_latents, check_width

NAME = "pixart"
# Published with the name of diffusers' older class, which became this one.
NETWORKS = ((COMPONENT, "PixArtTransformer2DModel"), (COMPONENT, "Transformer2DModel"))
ENCODERS = {"text_encoder": T5EncoderModel}
TOKENS = {"PixArtAlphaPipeline": 120}  # by pipeline, `max_sequence_length`
MOST_TOKENS = 300  # of `PixArtSigmaPipeline`, and of any other


@dataclass(frozen=True)
class PixArt(Denoiser):
    """A PixArtTransformer2DModel, conditioned by `prompt_embeds` and which of them are a prompt's;
    where a checkpoint asks for it, by the picture's size."""

    component: ClassVar[str] = COMPONENT

    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As diffusers' pipelines call it. What it predicts of variance is left out."""
        sizes = {name: conditions.get(name) for name in ("resolution", "aspect_ratio")}
        prediction: Tensor = self.module(
            sample,
            encoder_hidden_states=conditions["prompt_embeds"],
            encoder_attention_mask=conditions["prompt_attention_mask"],
            timestep=timestep.reshape(1).expand(len(sample)),
            added_cond_kwargs=sizes,
            return_dict=False,
        )[0]
        return prediction[:, : sample.shape[1]]

    @property
    def blocks(self) -> Blocks:
        """The picture's tokens alone go through them."""
        paths = (f"transformer_blocks.{i}" for i in range(self.config.num_layers))
        return Blocks((Site("pos_embed"),), tuple(paths), gives=(0,))

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Self-attention; the other one is to the prompt."""
        blocks = range(self.config.num_layers)
        return tuple(Attention(f"transformer_blocks.{i}.attn1") for i in blocks)

    def stream(self, height: int, width: int) -> TokenStream:
        """Tokens are squares of latents."""
        side = int(self.config.patch_size)
        rows, columns = height // side, width // side
        return TokenStream(rows, columns, side, "pos_embed", "proj_out", self.attentions)


class T5Text(TextStage):
    """T5 → tokens (B, L, D), and 1 for each that belongs to the prompt, else 0: float32 (B, L)."""

    def __init__(self, text_encoder: nn.Module, pad: int) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.pad = pad

    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Tokens attend to those of the prompt alone."""
        (token_ids,) = ids
        mask = mask_of(token_ids, self.pad)
        return self.text_encoder(token_ids, attention_mask=mask)[0], mask.float()


def load(
    checkpoint: Checkpoint,
    height: int | None,
    width: int | None,
    module: Callable[[Any, str], Any],
) -> Model:
    """The model; its size defaults to what the transformer says."""
    where = checkpoint.name
    network, vae = module(PixArtTransformer2DModel, COMPONENT), module(AutoencoderKL, "vae")
    config = network.config
    check_latents(config, vae.config, 1, where)
    autoencoder = Autoencoder(vae, LatentScale(float(vae.config.scaling_factor)))
    unit = autoencoder.factor * config.patch_size
    native: object = config.sample_size
    h, w = picture_size(height, width, native, autoencoder.factor, unit, where, COMPONENT)
    _set_positions(network, h // unit, w // unit)
    sizes: dict[str, tuple[float, ...]] = {}
    if network.use_additional_conditions:
        sizes = {"resolution": (float(h), float(w)), "aspect_ratio": (h / w,)}
    text = _text(checkpoint, config, module)
    conditions = {
        "prompt_embeds": (text.length, int(config.caption_channels)),
        "prompt_attention_mask": (text.length,),
        **{name: (len(row),) for name, row in sizes.items()},
    }
    return Model(
        family=NAME,
        checkpoint=checkpoint,
        denoiser=PixArt(network, conditions),
        text=text,
        autoencoder=autoencoder,
        height=h,
        width=w,
        guidances=guidances_of(checkpoint),
        sizes=sizes,
        guidance_scale=4.5,
        steps=20,
    )


def _set_positions(network: Any, rows: int, columns: int) -> None:
    """The embedding of every token's position, made once; diffusers makes it in every call where
    the picture is not of the network's own size."""
    embed = network.pos_embed
    made = get_2d_sincos_pos_embed(
        embed.pos_embed.shape[-1],
        (rows, columns),
        base_size=embed.base_size,
        interpolation_scale=embed.interpolation_scale,
        output_type="pt",
    )
    embed.pos_embed = made.float().unsqueeze(0)
    embed.height, embed.width = rows, columns


def _text(checkpoint: Checkpoint, config: Any, module: Callable[[Any, str], Any]) -> Text:
    """T5, whose prompts are in small letters, as the pipelines have them."""
    where = checkpoint.name
    encoder = module(T5EncoderModel, "text_encoder")
    check_width(config, "caption_channels", encoder.config.d_model, "T5", where)
    tokenizer = t5_tokenizer(checkpoint, "tokenizer", lower=True)
    tokenizers, encoders = {"token_ids": tokenizer}, {"text_encoder": encoder}
    check_tokenizers(tokenizers, encoders, where)
    usual = TOKENS.get(str(checkpoint.index.get("_class_name")), MOST_TOKENS)
    return Text(
        stage=T5Text(encoder, int(tokenizer.pad_token_id)),
        encoders=encoders,
        tokenizers=tokenizers,
        folders={"token_ids": "tokenizer"},
        lengths={"token_ids": t5_length(tokenizer, usual)},
        outputs=("prompt_embeds", "prompt_attention_mask"),
        wide=WIDE,
    )


FAMILIES = tuple(Family(NAME, network, with_encoders(ENCODERS), load) for network in NETWORKS)
