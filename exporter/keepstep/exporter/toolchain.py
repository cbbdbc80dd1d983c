"""Which program makes stages: part of every cache key, so that nothing stale is ever used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "diffusers", "transformers", "onnx", "onnx-ir", "onnxscript")


@cache
def toolchain() -> Mapping[str, str]:
    """Versions of what traces and converts, and a digest of the exporter's own code."""
    return {**{name: _version(name) for name in _PACKAGES}, "keepstep": _own_digest()}


def _own_digest() -> str:
    """The version alone would let a developer play yesterday's engines."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
