"""Text encoders of CLIP: prompts become token ids, and these what a network is conditioned by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from keepstep.runtime.folder.tokenizer import of_several_vectors, spell_out

from ..folder.hub import quiet
from .checkpoint import Checkpoint
from .config_checks import prompt_length
from .guidance import NEGATIVE, of_both, of_guidance


@dataclass(frozen=True)
class Text:
    """The text encoders of a checkpoint.

    stage       their module: token ids by name, negative ones behind → conditions as `outputs`
    encoders    by component, as the stage has them
    tokenizers  by the input that takes the ids of a prompt, in the same order
    folders     of those, in the checkpoint
    outputs     conditions of one half that it gives
    tells_empty whether no negative prompt is another thing than an empty one: then the input
                `negative_prompt_given`, bool (B,), says which it is
    """

    stage: nn.Module
    encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, CLIPTokenizer]
    folders: Mapping[str, str]
    outputs: tuple[str, ...]
    where: str
    tells_empty: bool = False

    @property
    def length(self) -> int:
        """L: token ids a prompt."""
        return prompt_length(self.tokenizers, self.encoders, self.where)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest id, by input: an encoder has an embedding for each, and no others."""
        return {
            prefix + name: (0.0, float(cast(Any, encoder.config).vocab_size - 1))
            for name, encoder in zip(self.tokenizers, self.encoders.values(), strict=True)
            for prefix in ("", NEGATIVE)
        }

    def inputs(
        self, prompts: list[str], negative_prompts: list[str] | None, guided: bool = True
    ) -> dict[str, Tensor]:
        """What prompts become for the text encoders, by input; None: no negative prompts given.

        Token ids are int64 (B, L), padded and cut to the prompt length.
        """
        ids = {}
        negative = [""] * len(prompts) if negative_prompts is None else negative_prompts
        for name, tokenizer in self.tokenizers.items():
            several = of_several_vectors(tokenizer.added_tokens_encoder.keys())
            for given, prefix in ((prompts, ""), (negative, NEGATIVE)):
                ids[prefix + name] = tokenizer(
                    [spell_out(text, tokenizer.tokenize(text), several) for text in given],
                    padding="max_length",
                    max_length=self.length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
        if self.tells_empty:
            told = torch.full((len(prompts),), negative_prompts is not None)
            ids[f"{NEGATIVE}prompt_given"] = told
        return of_guidance(ids, guided)

    def names(self, guided: bool) -> tuple[str, ...]:
        """Names of what the stage gives."""
        return tuple(of_guidance(of_both(dict.fromkeys(self.outputs)), guided))

    @torch.no_grad()
    def embed(
        self, prompts: list[str], negative_prompts: list[str] | None = None, guided: bool = True
    ) -> dict[str, Tensor]:
        """What prompts become for the network, by running the encoders eagerly, where they are."""
        on = next(self.stage.parameters()).device
        given = self.inputs(prompts, negative_prompts, guided)
        embedded = self.stage(**{name: tensor.to(on) for name, tensor in given.items()})
        return dict(zip(self.names(guided), embedded, strict=True))

    def to(self, device: str, dtype: torch.dtype) -> Text:
        """The same, elsewhere and in another dtype."""
        with quiet():
            return replace(self, stage=self.stage.to(device, dtype))


def clip_text(checkpoint: Checkpoint, module: Callable[[Any, str], Any]) -> Text:
    """The text of a checkpoint with one CLIP encoder; `module` makes a component of its class."""
    encoder = module(CLIPTextModel, "text_encoder")
    return Text(
        stage=TextEncoder(encoder),
        encoders={"text_encoder": encoder},
        tokenizers={"token_ids": checkpoint.tokenizer(CLIPTokenizer, "tokenizer")},
        folders={"token_ids": "tokenizer"},
        outputs=("prompt_embeds",),
        where=checkpoint.name,
    )


def _both(positive: Tensor, negative: Tensor | None) -> Tensor:
    """Both prompts in one batch, or the positive one alone."""
    return positive if negative is None else torch.cat([positive, negative])


class TextEncoder(nn.Module):
    """token ids (B, L) of prompt and negative prompt → their embeddings (B, L, D)."""

    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(
        self, token_ids: Tensor, negative_token_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Both prompts in one batch."""
        embeds = self.text_encoder(_both(token_ids, negative_token_ids))[0]
        return (embeds,) if negative_token_ids is None else embeds.chunk(2)


class TwoTextEncoders(nn.Module):
    """Token ids (B, L) for two encoders → embeddings (B, L, D₁ + D₂) and pooled ones (B, P).

    Both encoders give their last layer but one, and the second one its projected pooled output.
    """

    def __init__(self, text_encoder: nn.Module, text_encoder_2: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def forward(
        self,
        token_ids: Tensor,
        token_ids_2: Tensor,
        negative_token_ids: Tensor | None = None,
        negative_token_ids_2: Tensor | None = None,
        negative_prompt_given: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Both prompts in one batch.

        negative_prompt_given (B,), bool, is there for models to which no negative prompt means
        zeros, and not the embedding of an empty one (`force_zeros_for_empty_prompt`).
        """
        ids, ids_2 = _both(token_ids, negative_token_ids), _both(token_ids_2, negative_token_ids_2)
        one = self.text_encoder(ids, output_hidden_states=True)
        two = self.text_encoder_2(ids_2, output_hidden_states=True)
        embeds = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        pooled: Tensor = two.text_embeds
        if negative_token_ids is None:
            return embeds, pooled
        positive, negative = embeds.chunk(2)
        pooled, negative_pooled = pooled.chunk(2)
        if negative_prompt_given is not None:
            given = negative_prompt_given.to(embeds.dtype)[:, None]
            negative, negative_pooled = negative * given[:, :, None], negative_pooled * given
        return positive, negative, pooled, negative_pooled
