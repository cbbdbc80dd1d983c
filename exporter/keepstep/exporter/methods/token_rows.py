"""Rows of tokens: taken out of a sequence, and put into one."""

from __future__ import annotations

import torch
from torch import Tensor


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows (b, K, D) of x (b, N, D) at index (b, K)."""
    b, n, d = x.shape
    first = n * torch.arange(b, device=x.device)[:, None]
    return x.reshape(b * n, d).index_select(0, (index + first).flatten()).reshape(b, -1, d)


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


def latents_of(tokens: Tensor, columns: int, side: int) -> Tensor:
    """One number a token, (B, N), → the same for each latent that it stands for, (B, 1, h, w)."""
    grid = tokens.reshape(len(tokens), 1, -1, columns)
    return grid.repeat_interleave(side, 2).repeat_interleave(side, 3)
