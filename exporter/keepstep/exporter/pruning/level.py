"""Where a UNet's tokens are pruned: in self-attention at the highest resolution that has any.

For Stable Diffusion 1 and 2 that is the latent's own resolution. SDXL has no attention there, and
half of its height and width is where it has most tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock


@dataclass(frozen=True)
class PrunedLevel:
    """The highest resolution at which a UNet has self-attention: where tokens are pruned.

    halvings       of the latent's height and width: 0 is its own resolution
    transformers   path of each one there → the least branch whose shallow calls run it, in order
    """

    halvings: int
    transformers: Mapping[str, int]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tokens down and across, of latents of height × width."""
        return height >> self.halvings, width >> self.halvings


def pruned_level(unet: UNet2DConditionModel) -> PrunedLevel | None:
    """Where tokens are pruned; None for a UNet with attention in its mid block only, or nowhere."""
    last = len(unet.up_blocks) - 1
    levels: dict[int, dict[str, int]] = {}
    for path, branch in _transformers(unet).items():
        way, block, *_ = path.split(".")
        level = int(block) if way == "down_blocks" else last - int(block)
        levels.setdefault(level, {})[path] = branch
    return PrunedLevel(min(levels), levels[min(levels)]) if levels else None


def pruned_blocks(
    unet: UNet2DConditionModel, branch: int | None = None
) -> dict[int, BasicTransformerBlock]:
    """The transformer blocks in which tokens are pruned, in order of execution, by number.

    branch   only those that the shallow calls of this branch run; the numbers stay the same
    """
    level = pruned_level(unet)
    blocks = [
        (module, least)
        for path, least in (level.transformers if level else {}).items()
        for module in unet.get_submodule(path).modules()
        if isinstance(module, BasicTransformerBlock)
    ]
    return {
        number: module
        for number, (module, least) in enumerate(blocks)
        if branch is None or branch >= least
    }


def _transformers(unet: UNet2DConditionModel) -> dict[str, int]:
    """Path of each transformer → the least branch whose shallow calls run it, first to last.

    Skip connection 0 comes from the first convolution, and each unit of the way down makes the
    next one; the units of the way up take them in reverse. The mid block is in no shallow call.
    """
    found: dict[str, int] = {}
    skip = 1
    for b, block in enumerate(unet.down_blocks):
        for i in range(len(block.resnets)):
            if getattr(block, "has_cross_attention", False):
                found[f"down_blocks.{b}.attentions.{i}"] = skip
            skip += 1
        skip += len(block.downsamplers or ())
    for b, block in enumerate(unet.up_blocks):
        for i in range(len(block.resnets)):
            skip -= 1
            if getattr(block, "has_cross_attention", False):
                found[f"up_blocks.{b}.attentions.{i}"] = skip
    return found
