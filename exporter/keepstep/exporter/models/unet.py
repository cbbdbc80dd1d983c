"""Where a diffusers UNet can be cut.

The skip connections are counted from the top as DeepCache does: branch b is the b-th from the
output side, so at branch 0 only the last block of the last level runs in a shallow call.
"""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import nn

from ..errors import ScheduleError
from ..schedule import Cache


def up_path(unet: UNet2DConditionModel) -> list[str]:
    """Module paths whose outputs enter the skip connections' units, deepest first.

    Entry i is what unit i of the up path is given: the mid block, then each unit's own output.
    """
    paths = ["mid_block"]
    for b, block in enumerate(unet.up_blocks):
        last = len(block.resnets) - 1
        for i in range(len(block.resnets)):
            unit = "attentions" if getattr(block, "has_cross_attention", False) else "resnets"
            path = f"up_blocks.{b}.{unit}.{i}"
            if i == last and block.upsamplers:
                path = f"up_blocks.{b}.upsamplers.0"
            paths.append(path)
    return paths[:-1]


def cut_path(unet: UNet2DConditionModel, cache: Cache, schedule: str) -> str:
    """The path of the module whose output is cached; raises `ScheduleError`."""
    if cache.branch is not None:
        paths = up_path(unet)
        if cache.branch >= len(paths):
            raise ScheduleError(
                f"schedule '{schedule}': branch {cache.branch} does not exist: this model has "
                f"skip connections 0 to {len(paths) - 1}"
            )
        return paths[-1 - cache.branch]
    assert cache.module is not None
    modules: dict[str, nn.Module] = dict(unet.named_modules())
    if cache.module not in modules or cache.module == "":
        raise ScheduleError(
            f"schedule '{schedule}': the model has no module '{cache.module}'; cuts that fit are "
            f"{', '.join(up_path(unet))}"
        )
    return cache.module
