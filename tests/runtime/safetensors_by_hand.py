"""Safetensors files written by hand, for what the package's own writer does not write."""

from __future__ import annotations

import json
import struct
from pathlib import Path


def write_safetensors(
    path: Path, tensors: dict[str, tuple[str, list[int], bytes]], pad: int = 0
) -> Path:
    """Write tensors given as (dtype, shape, bytes); `pad` blanks follow the header."""
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode() + b" " * pad
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path
