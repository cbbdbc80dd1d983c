"""Counts the memory that a launch of a stage writes."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keepstep.exporter.check.in_place import _session
from keepstep.runtime import Bundle
from keepstep.runtime.backends.onnxruntime_engine import bound
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Plan, Stage
from keepstep.runtime.memory.constants import ConstantPart, host_array


def pages_written(
    bundle: Bundle, plan: Plan, stage: Stage, given: Mapping[str, np.ndarray], folder: Path
) -> dict[str, int]:
    """Launch a stage; output that is in place → bytes of the pages of its memory that were written.

    Inputs in place are mapped from files of their own: a page of such a mapping is the process's
    own from when it is first written, and Linux counts those. Other inputs are zeros, if not given.
    """
    weights = {
        tensor: (plan.values[value].type, host_array(bundle, plan, ConstantPart(value)))
        for tensor, value in stage.weights.items()
    }
    session = _session(bundle.read(stage.engines["onnxruntime"]), weights)
    read: dict[str, np.ndarray] = {}
    for tensor, type_ in stage.inputs.items():
        dtype = numpy_dtype(type_.dtype)
        if tensor not in stage.in_place.values():
            read[tensor] = given.get(tensor, np.zeros(type_.shape, dtype))
            continue
        file = folder / f"{tensor}.bin"
        file.write_bytes(bytes(type_.bytes))
        read[tensor] = np.memmap(file, dtype, "c", shape=type_.shape)
    written = {
        tensor: read[stage.in_place[tensor]]
        if tensor in stage.in_place
        else np.zeros(type_.shape, numpy_dtype(type_.dtype))
        for tensor, type_ in stage.outputs.items()
    }
    addresses = {tensor: array.ctypes.data for tensor, array in {**read, **written}.items()}
    session.run_with_iobinding(bound(session, stage, addresses, "cpu"))
    return {output: _own_bytes(folder / f"{name}.bin") for output, name in stage.in_place.items()}


def _own_bytes(file: Path) -> int:
    """Bytes of the mapping of `file` that are this process's alone."""
    smaps = Path("/proc/self/smaps").read_text()
    (part,) = re.findall(rf"{re.escape(str(file))}\n(?:[A-Z].*\n)*?Anonymous: +(\d+) kB", smaps)
    found = int(part) * 1024
    assert found % mmap.PAGESIZE == 0
    return found
