"""What is drawn in every configuration, how often, and what else is looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """repeats         rounds over all configurations
    eager_repeats   rounds in which configurations of PyTorch take part; None: all, 0: none of them
    threads         CPU threads a launch; None: the backend's own choice
    peaks           measure each configuration's host memory, in processes of its own
    torch_compile   on a GPU, run the full plan as PyTorch compiles it, too: that takes minutes
    equal_latency   compare with plain sampling of fewer steps in the same time
    """

    prompt: str = "a red apple"
    guidance_scale: float = 5.0
    seed: int = 0
    repeats: int = 5
    eager_repeats: int | None = None
    threads: int | None = None
    peaks: bool = True
    torch_compile: bool = True
    equal_latency: bool = True

    @property
    def rounds_of_eager(self) -> int:
        """Rounds in which configurations of PyTorch take part."""
        return self.repeats if self.eager_repeats is None else self.eager_repeats
