"""Text encoders: prompts become token ids, and these what a network is conditioned by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from keepstep.runtime.folder.tokenizer import of_several_vectors, spell_out

from ..folder.hub import quiet
from ..schedule.settings import Guidance
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
    lengths     token ids a prompt, by the same inputs
    outputs     conditions of one half that it gives
    tells_empty whether no negative prompt is another thing than an empty one: then the input
                `negative_prompt_given`, bool (B,), says which it is
    wide        endings of the paths of weights whose products float16 does not hold
    """

    stage: nn.Module
    encoders: Mapping[str, nn.Module]
    tokenizers: Mapping[str, Any]
    folders: Mapping[str, str]
    lengths: Mapping[str, int]
    outputs: tuple[str, ...]
    tells_empty: bool = False
    wide: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """L: token ids a prompt, for the first tokenizer."""
        return next(iter(self.lengths.values()))

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest id, by input: an encoder has an embedding for each, and no others."""
        return {
            prefix + name: (0.0, float(cast(Any, encoder.config).vocab_size - 1))
            for name, encoder in zip(self.tokenizers, self.encoders.values(), strict=True)
            for prefix in ("", NEGATIVE)
        }

    def inputs(
        self,
        prompts: list[str],
        negative_prompts: list[str] | None,
        guidance: Guidance = "classifier-free",
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
                    max_length=self.lengths[name],
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
        if self.tells_empty:
            told = torch.full((len(prompts),), negative_prompts is not None)
            ids[f"{NEGATIVE}prompt_given"] = told
        return of_guidance(ids, guidance)

    def names(self, guidance: Guidance) -> tuple[str, ...]:
        """Names of what the stage gives."""
        return tuple(of_guidance(of_both(dict.fromkeys(self.outputs)), guidance))

    @torch.no_grad()
    def embed(
        self,
        prompts: list[str],
        negative_prompts: list[str] | None = None,
        guidance: Guidance = "classifier-free",
    ) -> dict[str, Tensor]:
        """What prompts become for the network, by running the encoders eagerly, where they are."""
        on = next(self.stage.parameters()).device
        given = self.inputs(prompts, negative_prompts, guidance)
        embedded = self.stage(**{name: tensor.to(on) for name, tensor in given.items()})
        return dict(zip(self.names(guidance), embedded, strict=True))

    def to(self, device: str, dtype: torch.dtype) -> Text:
        """The same, elsewhere and in another dtype."""
        with quiet():
            return replace(self, stage=self.stage.to(device, dtype))


def clip_text(checkpoint: Checkpoint, module: Callable[[Any, str], Any]) -> Text:
    """The text of a checkpoint with one CLIP encoder; `module` makes a component of its class."""
    encoders = {"text_encoder": module(CLIPTextModel, "text_encoder")}
    tokenizers = {"token_ids": checkpoint.tokenizer(CLIPTokenizer, "tokenizer")}
    return Text(
        stage=TextEncoder(*encoders.values()),
        encoders=encoders,
        tokenizers=tokenizers,
        folders={"token_ids": "tokenizer"},
        lengths=dict.fromkeys(tokenizers, prompt_length(tokenizers, encoders, checkpoint.name)),
        outputs=("prompt_embeds",),
    )


class TextStage(nn.Module, ABC):
    """Token ids (B, L) by name, negative ones behind → every condition, each with its negative
    one behind it. Both prompts are encoded in one batch."""

    @abstractmethod
    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Token ids for every encoder → the conditions."""

    def forward(self, **ids: Tensor) -> tuple[Tensor, ...]:
        """The conditions, with negative ones where there are negative ids."""
        own = [name for name in ids if not name.startswith(NEGATIVE)]
        guided = len(own) < len(ids)
        both = [torch.cat([ids[n], ids[NEGATIVE + n]]) if guided else ids[n] for n in own]
        made = self.encode(*both)
        return tuple(half for x in made for half in x.chunk(2)) if guided else made


class TextEncoder(TextStage):
    """One encoder, which gives embeddings (B, L, D)."""

    def __init__(self, text_encoder: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Its last layer."""
        (token_ids,) = ids
        return (self.text_encoder(token_ids)[0],)


class TwoTextEncoders(TextStage):
    """Two encoders, which give embeddings (B, L, D₁ + D₂) and pooled ones (B, P).

    Both give their last layer but one, and the second one its projected pooled output.
    """

    def __init__(self, text_encoder: nn.Module, text_encoder_2: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.text_encoder_2 = text_encoder_2

    def encode(self, *ids: Tensor) -> tuple[Tensor, ...]:
        """Embeddings side by side, and the pooled one."""
        one = self.text_encoder(ids[0], output_hidden_states=True)
        two = self.text_encoder_2(ids[1], output_hidden_states=True)
        embeds = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        return embeds, two.text_embeds

    def forward(
        self, negative_prompt_given: Tensor | None = None, **ids: Tensor
    ) -> tuple[Tensor, ...]:
        """negative_prompt_given (B,), bool, is there for models to which no negative prompt means
        zeros, and not the embedding of an empty one (`force_zeros_for_empty_prompt`)."""
        made = super().forward(**ids)
        if negative_prompt_given is None:
            return made
        embeds, negative, pooled, negative_pooled = made
        given = negative_prompt_given.to(embeds.dtype)[:, None]
        return embeds, negative * given[:, :, None], pooled, negative_pooled * given
