"""A calibration as files, for the cache."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ..store.bundle_writer import save_arrays
from ..store.cache import Blob, Files
from .calibration import Calibration

OUTPUTS, RANGES = "outputs.safetensors", "ranges.json"


def write_calibration(calibration: Calibration, folder: Path) -> Files:
    """Its files, the large one written into `folder`."""
    arrays = {
        f"{i}.{tensor}": array
        for i, outputs in calibration.outputs.items()
        for tensor, array in outputs.items()
    }
    save_arrays(folder / OUTPUTS, arrays)
    ranges = {"stages": calibration.ranges, "handed_on": calibration.handed_on}
    return {OUTPUTS: folder / OUTPUTS, RANGES: json.dumps(ranges).encode()}


def read_calibration(files: Mapping[str, Blob]) -> Calibration:
    """The calibration that `write_calibration` wrote."""
    outputs: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in load_file(files[OUTPUTS].path).items():
        call, _, tensor = name.partition(".")
        outputs[int(call)][tensor] = array
    ranges = json.loads(files[RANGES].path.read_bytes())
    return Calibration(outputs, ranges["stages"], ranges["handed_on"])
