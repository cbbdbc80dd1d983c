"""Skip folding: a skipped call uses the last prediction again, so its column joins that one's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..sampler import LoweredSampler
from ..schedule import Kind


def fold_skips(sampler: LoweredSampler, kinds: Sequence[Kind]) -> LoweredSampler:
    """The sampler with only the calls that run: skips cost nothing, not even a launch.

    `kinds` has one entry for each call of `sampler`; the first must not be a skip.
    """
    assert len(kinds) == len(sampler.timesteps) and kinds[0] != "skip"
    runs = [k for k, kind in enumerate(kinds) if kind != "skip"]
    fold = np.zeros((1 + len(kinds), 1 + len(runs)))
    fold[0, 0] = 1.0
    for k in range(len(kinds)):
        last_run = sum(run <= k for run in runs)  # counts from 1, as column 0 is the noise
        fold[1 + k, last_run] = 1.0
    return replace(
        sampler,
        inputs=(sampler.inputs @ fold)[runs],
        result=sampler.result @ fold,
        timesteps=tuple(sampler.timesteps[k] for k in runs),
    )
