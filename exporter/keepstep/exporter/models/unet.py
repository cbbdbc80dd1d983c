"""The UNet of Stable Diffusion: how it is called, where it can be cut, where its tokens live.

Its skip connections are counted from the top as DeepCache does: branch b is the b-th from the
output side, so at branch 0 only the last block of the last level runs in a shallow call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from .denoiser import Cut, Denoiser, Site, TokenGrid


@dataclass(frozen=True)
class UNet(Denoiser):
    """A UNet2DConditionModel, conditioned by `prompt_embeds`; SDXL's by sizes and a pooled one."""

    component: ClassVar[str] = "unet"

    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As diffusers' pipelines call it."""
        arguments: dict[str, Any] = {"encoder_hidden_states": conditions["prompt_embeds"]}
        if "time_ids" in conditions:
            arguments["added_cond_kwargs"] = {
                "text_embeds": conditions["pooled_prompt_embeds"],
                "time_ids": conditions["time_ids"],
            }
        prediction: Tensor = self.module(sample, timestep, **arguments, return_dict=False)[0]
        return prediction

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """The time embedding has one row for the whole batch.

        All pictures of a call are at the same timestep; diffusers would embed it once for each,
        and the plan's tables would repeat every row as often.
        """
        unet: Any = self.module
        embed = unet.get_time_embed
        unet.get_time_embed = lambda sample, timestep: embed(sample=sample[:1], timestep=timestep)
        try:
            yield
        finally:
            del unet.get_time_embed  # the class's own again

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Where a skip connection joins: what is deeper is cached, what is further out runs."""
        names = _up_path(self.module)
        return tuple(_cut(self.module, b, name) for b, name in enumerate(reversed(names)))

    @property
    def aliases(self) -> Mapping[str, str]:
        """A block gives what its last unit gives."""
        names = _up_path(self.module)
        return {name.rpartition(".")[0].rpartition(".")[0]: name for name in names if "." in name}

    def tokens(self, height: int, width: int) -> TokenGrid | None:
        """Self-attention at the highest resolution that has any.

        For Stable Diffusion 1 and 2 that is the latent's own. SDXL has no attention there, and
        half of its height and width is where it has most tokens. None for a network that attends
        in its mid block only, or nowhere.
        """
        levels = _transformers(self.module)
        if not levels:
            return None
        downsamplings = min(levels)
        blocks = tuple(
            f"{path}.{name}"
            for path in levels[downsamplings]
            for name, module in self.module.get_submodule(path).named_modules()
            if isinstance(module, BasicTransformerBlock)
        )
        return TokenGrid(height >> downsamplings, width >> downsamplings, blocks)


def _up_path(unet: Any) -> list[str]:
    """Module paths whose outputs enter the skip connections' units, deepest first.

    The last entries are outputs of the units themselves; the first one is the mid block, which a
    UNet may do without.
    """
    paths = [] if unet.mid_block is None else ["mid_block"]
    for b, block in enumerate(unet.up_blocks):
        last = len(block.resnets) - 1
        for i in range(len(block.resnets)):
            unit = "attentions" if getattr(block, "attentions", None) else "resnets"
            path = f"up_blocks.{b}.{unit}.{i}"
            if i == last and block.upsamplers:
                path = f"up_blocks.{b}.upsamplers.0"
            paths.append(path)
    return paths[:-1]


def _cut(unet: Any, branch: int, name: str) -> Cut:
    """The cut behind which skip connection `branch` joins.

    Skip connection 0 comes from the first convolution, and each unit of the way down makes the
    next one; the units of the way up take them in reverse.
    """
    deep: list[str] = []
    made = 1
    for b, block in enumerate(unet.down_blocks):
        units = _units(block, f"down_blocks.{b}")
        if block.downsamplers:
            units.append([f"down_blocks.{b}.downsamplers.0"])
        left_out = [unit for s, unit in enumerate(units, made) if s > branch]
        made += len(units)
        deep += _whole(f"down_blocks.{b}", units, left_out)
    deep += [] if unet.mid_block is None else ["mid_block"]
    taken = made
    for b, block in enumerate(unet.up_blocks):
        units = _units(block, f"up_blocks.{b}")
        left_out = [unit for s, unit in enumerate(units, 1) if taken - s > branch]
        taken -= len(units)
        deep += _whole(f"up_blocks.{b}", units, left_out)
    holds_it = next(path for path in deep if name == path or name.startswith(f"{path}."))
    return Cut.at(name, Site(holds_it), tuple(deep))


def _units(block: Any, path: str) -> list[list[str]]:
    """The modules that run together with each resnet of a block."""
    attentions = getattr(block, "attentions", None)
    return [
        [f"{path}.resnets.{i}", *([f"{path}.attentions.{i}"] if attentions else [])]
        for i in range(len(block.resnets))
    ]


def _whole(path: str, units: list[list[str]], left_out: list[list[str]]) -> list[str]:
    """What is left out of a block: itself, where nothing of it is left."""
    if len(left_out) == len(units):
        return [path]
    return [module for unit in left_out for module in unit]


def _transformers(unet: UNet2DConditionModel | Any) -> dict[int, list[str]]:
    """How often height and width are halved → the transformers there, in order of execution."""
    found: dict[int, list[str]] = {}
    last = len(unet.up_blocks) - 1
    for way, blocks in (("down_blocks", unet.down_blocks), ("up_blocks", unet.up_blocks)):
        for b, block in enumerate(blocks):
            if getattr(block, "has_cross_attention", False):
                level = b if way == "down_blocks" else last - b
                paths = [f"{way}.{b}.attentions.{i}" for i in range(len(block.resnets))]
                found.setdefault(level, []).extend(paths)
    return found
