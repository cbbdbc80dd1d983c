"""Everything that was measured, as data; the table and the page show nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .eager import Place
from .equal_latency import Comparison
from .rows import Row
from .setting import Setting

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Report:
    """A benchmark of one bundle.

    bundle        the manifest's words on the model
    bundle_bytes  on disk
    picture       (B, H, W) of a run
    baseline      the plan that stands for full sampling
    eager         where PyTorch ran; None where it did not
    notes         what is missing, and why
    pictures      of the rows, uint8 (B, H, W, 3); not part of the data
    """

    bundle: Mapping[str, str]
    bundle_bytes: int
    picture: tuple[int, int, int]
    baseline: str
    setting: Setting
    machine: Mapping[str, Any]
    eager: Place | None
    rows: Sequence[Row]
    equal_latency: Sequence[Comparison]
    notes: Sequence[str]
    pictures: Sequence[np.ndarray]

    def data(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "keepstep": FORMAT_VERSION,
            "bundle": dict(self.bundle),
            "bundle_bytes": self.bundle_bytes,
            "picture": list(self.picture),
            "baseline": self.baseline,
            "setting": asdict(self.setting),
            "machine": dict(self.machine),
            "eager": self.eager and asdict(self.eager),
            "rows": [asdict(row) for row in self.rows],
            "equal_latency": [
                {**asdict(found), "sentence": found.sentence} for found in self.equal_latency
            ],
            "notes": list(self.notes),
        }

    def row(self, plan: str, how: str) -> Row | None:
        """The line of a plan and of how it was run."""
        return next((row for row in self.rows if (row.plan, row.how) == (plan, how)), None)
