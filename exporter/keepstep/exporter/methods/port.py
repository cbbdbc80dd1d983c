"""How a tensor of a stage is bound: what a stage declares, so that a plan knows no names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Rows = Literal["whole", "call", "window", "newest"]
Makes = Literal["scratch", "feed", "output", "state"]


@dataclass(frozen=True)
class Port:
    """How a tensor of a stage is bound, whatever the plan.

    value    the plan's value
    rows     `whole`: all of it; `call`: a block of rows for each call of the network, in order;
             `window`: the predictions so far, newest first; `newest`: the row in front of those
    makes    what the value is if it is this tensor that writes it
    lowered  whether it is held in the plan's own dtype: what networks hand to networks. All else
             (the sampler's values, the embeddings that a caller may feed, pictures) is the same
             whatever the dtype.
    """

    value: str
    rows: Rows = "whole"
    makes: Makes = "scratch"
    lowered: bool = False
