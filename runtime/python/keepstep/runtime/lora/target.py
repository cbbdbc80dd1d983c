"""Where the modules of a LoRA file lie in a bundle: fused ones in several modules of diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keepstep.runtime.lora.file import Factors


@dataclass(frozen=True)
class Target:
    """The modules whose weights, one below the other, are the weight of a module of a LoRA.

    swapped: its first half of rows is their second one. Original checkpoints have a modulation's
    shift before its scale where `AdaLayerNormContinuous` of diffusers has the scale first.
    """

    modules: tuple[str, ...]
    swapped: bool = False

    def split(self, factors: Factors, rows: Sequence[int]) -> Iterator[tuple[str, Factors]]:
        """Each module and its factors; `rows`, out of each weight, add up to those of `up`.

        (up₁; up₂) @ down is (up₁ @ down; up₂ @ down): all parts have the same `down` and rank.
        """
        up = factors.up
        if self.swapped:
            up = np.roll(up, -(len(up) // 2), axis=0)
        begin = 0
        for module, out in zip(self.modules, rows, strict=True):
            yield module, replace(factors, module=module, up=up[begin : begin + out])
            begin += out
