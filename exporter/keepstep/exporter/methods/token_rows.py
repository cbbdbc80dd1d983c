"""Rows of tokens, put into a sequence, and what tokens stand for."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.denoiser import TokenStream


def put_rows(x: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """x (b, N, D) with rows (b, K, D) at index (b, K): one ScatterND of whole rows, which may
    happen where x lies."""
    first = torch.arange(len(x), device=x.device)[:, None].expand_as(index)
    return x.index_put((first, index), rows)


def tokens_of(latents: Tensor, side: int) -> Tensor:
    """Latents (B, C, h, w) → what each token stands for, (B, h·w / side², side² · C)."""
    b, c, h, w = latents.shape
    squares = latents.reshape(b, c, h // side, side, w // side, side).permute(0, 2, 4, 3, 5, 1)
    return squares.reshape(b, (h // side) * (w // side), side * side * c)


def merged(prediction: Tensor, last: Tensor, kept: Tensor, stream: TokenStream) -> Tensor:
    """The prediction of kept tokens and the last one of the others, both (b, C, h, w); kept: 1 for
    each of these, else 0, (b, N)."""
    grid = kept.reshape(len(kept), 1, stream.rows, stream.columns)
    of_latents = grid.repeat_interleave(stream.side, 2).repeat_interleave(stream.side, 3)
    return torch.where(of_latents > 0, prediction, last)
