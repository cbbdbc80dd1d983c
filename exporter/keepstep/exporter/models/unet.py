"""Where a diffusers UNet can be cut.

The skip connections are counted from the top as DeepCache does: branch b is the b-th from the
output side, so at branch 0 only the last block of the last level runs in a shallow call.
"""

from __future__ import annotations

from diffusers import UNet2DConditionModel

from ..errors import ScheduleError
from ..schedule.schema import Cache


def up_path(unet: UNet2DConditionModel) -> list[str]:
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


def cut_path(unet: UNet2DConditionModel, cache: Cache, schedule: str) -> str:
    """The path of the module whose output is cached, as in `up_path`; raises `ScheduleError`.

    A UNet can be cut where a skip connection joins: what is deeper is cached, what is further out
    runs. A module named by a schedule must end at such a place.
    """
    paths = up_path(unet)
    if cache.branch is not None:
        if cache.branch >= len(paths):
            raise ScheduleError(
                f"schedule '{schedule}': branch {cache.branch} does not exist: this model has "
                f"skip connections 0 to {len(paths) - 1}"
            )
        return paths[-1 - cache.branch]
    assert cache.module is not None
    # A block gives what its last unit gives.
    ends = {path.rpartition(".")[0].rpartition(".")[0]: path for path in paths}
    ends |= {path: path for path in paths}
    if cache.module not in ends or cache.module == "":
        raise ScheduleError(
            f"schedule '{schedule}': the model cannot be cut at '{cache.module}'; modules that "
            f"fit are {', '.join(paths)}"
        )
    return ends[cache.module]


def branch_of(unet: UNet2DConditionModel, cut: str) -> int:
    """Which skip connection joins behind the cut, counted from the output side."""
    paths = up_path(unet)
    return len(paths) - 1 - paths.index(cut)
