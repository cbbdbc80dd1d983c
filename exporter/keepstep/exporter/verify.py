"""Checks a bundle against the golden values that travel with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepstep.runtime import Bundle, InputError

# Compiled and eager runs differ by float32 rounding only; over 51 calls that stays far below this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verdict:
    """How far one plan, played on one backend, is from its golden latents."""

    plan: str
    backend: str
    error: float  # norm of the difference, relative to the norm of the golden latents

    @property
    def good(self) -> bool:
        """Whether the plan plays what the eager run gave."""
        return self.error <= TOLERANCE  # false for NaN


def verify(bundle: Bundle, plan: str, backend: str = "onnxruntime") -> Verdict:
    """Play `plan` with its golden inputs and compare the latents."""
    golden = bundle.golden(plan)
    if "outputs.latents" not in golden:
        raise InputError(
            f"bundle {bundle.path}: the golden values of plan '{plan}' hold no outputs.latents; "
            "export it again"
        )
    inputs = {n.removeprefix("inputs."): a for n, a in golden.items() if n.startswith("inputs.")}
    with bundle.player(plan, backend) as player:
        latents = player.run(inputs)["latents"]
    expected = golden["outputs.latents"]
    error = np.linalg.norm(latents - expected) / np.linalg.norm(expected)
    return Verdict(plan, backend, float(error))
