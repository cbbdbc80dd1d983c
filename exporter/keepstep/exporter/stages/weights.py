"""Weights, made from a checkpoint's tensors as their names say, and the file that holds them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from keepstep.runtime.format.plan import TensorType

from ..errors import ModelError
from ..graph.weight_layout import LAYOUTS, changes_of, source_of
from ..models.checkpoint import FLOATS

# Names in safetensors headers.
_CODES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def make_weight(name: str, read: Callable[[str], Tensor]) -> Tensor:
    """The weight `name`; `read` gives tensors of the checkpoint, in any float dtype.

    Raises `ModelError` where not all of its numbers are finite.
    """
    path, _, dtype = source_of(name).partition(":")
    stored = read(path)
    tensor = stored.to(FLOATS[dtype] if dtype else torch.float32)
    _check_finite(path, stored, tensor)
    for kind, numbers in changes_of(name):
        tensor = LAYOUTS[kind](tensor, numbers)
    return tensor.contiguous()


def as_array(tensor: Tensor) -> np.ndarray:
    """The tensor as numpy has it: bfloat16 as the uint16 of its bits."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy()


def file_head(
    tensors: Mapping[str, TensorType], metadata: Mapping[str, str] | None = None
) -> bytes:
    """What a safetensors file has before its tensors, which follow in this order, packed.

    The library's own writer wants all tensors in memory. Eight bytes are the length of a JSON
    header, which follows: https://github.com/huggingface/safetensors#format
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, kind in tensors.items():
        begin, end = end, end + kind.bytes
        header[name] = {
            "dtype": _CODES[kind.dtype],
            "shape": list(kind.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return struct.pack("<Q", len(text)) + text


def write_weights(
    path: Path,
    weights: Mapping[str, TensorType],
    read: Callable[[str], Tensor],
    report: Callable[[int, int], None],
) -> None:
    """Write a safetensors file tensor by tensor, so that none but the current one is in memory.

    `report` is told how many bytes are written, of how many.
    """
    # Large alignments first, as the library does: then every tensor is aligned to its items.
    order = sorted(weights, key=lambda name: (-_item_bytes(weights[name]), name))
    total = sum(kind.bytes for kind in weights.values())
    done = 0
    with path.open("wb") as file:
        file.write(file_head({name: weights[name] for name in order}))
        for name in order:
            array = as_array(make_weight(name, read))
            assert array.nbytes == weights[name].bytes, f"{name}: {array.shape}, {weights[name]}"
            file.write(array.data if array.ndim else array.tobytes())
            done += array.nbytes
            report(done, total)


def _check_finite(path: str, stored: Tensor, tensor: Tensor) -> None:
    """One such number would make every picture black."""
    if _is_finite(tensor):
        return
    if _is_finite(stored):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(
            f"weight {path}: {float(stored.abs().max()):g} is beyond what {dtype} holds: export "
            "with --dtype bfloat16 or float32"
        )
    odd = int((~stored.isfinite()).sum())
    raise ModelError(
        f"weight {path}: {odd} of {stored.numel()} numbers are not finite (NaN or infinity): "
        "fetch the model again, or take one whose training did not diverge"
    )


def _is_finite(tensor: Tensor) -> bool:
    """In one pass and without a tensor of truths: NaN shows in both ends."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(low.isfinite()) and bool(high.isfinite())


def _item_bytes(kind: TensorType) -> int:
    return kind.bytes // kind.size
