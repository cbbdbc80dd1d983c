"""Skip folding: a skipped call uses the last prediction again, so its column joins that one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .sampler import LoweredSampler
from .settings import Kind


def fold_skips(sampler: LoweredSampler, kinds: Sequence[Kind]) -> LoweredSampler:
    """The sampler with only the calls that run: skips cost nothing, not even a launch.

    `kinds` has one entry for each call of `sampler`; the first must not be a skip.
    """
    assert len(kinds) == len(sampler.timesteps) and kinds[0] != "skip"
    runs = [k for k, kind in enumerate(kinds) if kind != "skip"]
    starts = sampler.starts
    fold = np.zeros((starts + len(kinds), starts + len(runs)))
    fold[:starts, :starts] = np.eye(starts)
    for k in range(len(kinds)):
        last_run = sum(run <= k for run in runs) - 1
        fold[starts + k, starts + last_run] = 1.0
    return replace(
        sampler,
        inputs=(sampler.inputs @ fold)[runs],
        result=sampler.result @ fold,
        timesteps=tuple(sampler.timesteps[k] for k in runs),
    )
