"""T5 as a text encoder: its tokenizer, its prompts' length, and which ids of a prompt are real.

The encoder has relative positions and so no longest prompt; pipelines say how long theirs are.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import normalizers
from torch import Tensor
from transformers import T5TokenizerFast

from .checkpoint import Checkpoint

# transformers keeps these in float32 where the rest is float16 (`_keep_in_fp32_modules`): their
# sums overflow. Then the sum of all layers is in float32, too.
WIDE = (".DenseReluDense.wo.weight",)


def t5_tokenizer(checkpoint: Checkpoint, component: str, *, lower: bool = False) -> Any:
    """The tokenizer; with `lower` one that takes capitals for small letters."""
    tokenizer = checkpoint.tokenizer(T5TokenizerFast, component)
    if lower:
        backend = tokenizer.backend_tokenizer
        steps = [normalizers.Strip(), normalizers.Lowercase(), backend.normalizer]
        backend.normalizer = normalizers.Sequence([step for step in steps if step])
    return tokenizer


def t5_length(tokenizer: Any, usual: int) -> int:
    """Token ids a prompt: as many as the pipeline's own, if the tokenizer does not say fewer."""
    return min(usual, int(tokenizer.model_max_length))


def mask_of(ids: Tensor, pad: int) -> Tensor:
    """1 for every id (B, L) up to the last one that does not fill up, which marks the end, else 0.

    So a prompt may name the token that fills up. int64.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    last = torch.where(ids != pad, places, -1).amax(dim=1, keepdim=True)
    return (places <= last).to(torch.int64)
