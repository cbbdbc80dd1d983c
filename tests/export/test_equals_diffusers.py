"""A full plan gives what diffusers' own pipeline gives, for every kind of scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest
from export.drawn import distance, drawn, played
from exports_for_tests import SAMPLERS

from keepstep.runtime import Bundle

# Float32 rounding over a few calls, plus 1e-7 in the coefficients of schedulers that compute
# in float32 themselves; the project's bar.
TOLERANCE = 1e-4


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_full_plan_equals_the_pipeline_of_diffusers(
    name: str, samplers_bundle: Bundle, tiny_folder: Path
) -> None:
    ours = played(samplers_bundle, name)["latents"]
    assert distance(ours, drawn(tiny_folder, name)) <= TOLERANCE
