"""What a bundle says of how it was made: `settings.json`, for people and for making another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from keepstep.runtime import Bundle
from keepstep.runtime.errors import KeepstepError

from .folder.model_folder import ModelFolder
from .request import ExportRequest

SETTINGS_FILE = "settings.json"


def settings_text(
    request: ExportRequest, folder: ModelFolder, kept: Mapping[str, Sequence[str]]
) -> bytes:
    """Which weights were read, dtype, what stays in float32, every option of every backend.

    kept   stage → the operations that stay in float32
    """
    settings = {
        "dtype": request.dtype,
        "variant": request.variant,
        "weights": {part: list(weights.files) for part, weights in folder.weights.items()},
        "float32": sorted(request.float32),
        "kept_in_float32": dict(kept),
        "engines": {b.backend: dict(b.identity()) for b in request.builders},
    }
    return (json.dumps(settings, indent=2) + "\n").encode()


def variant_of(bundle: Bundle) -> str | None:
    """The variant of the model's weights files that was asked for, if any was."""
    variant = _settings(bundle).get("variant")
    return variant if isinstance(variant, str) else None


def weights_of(bundle: Bundle) -> dict[str, list[str]]:
    """The weights files that were read, by component of the model."""
    weights = _settings(bundle).get("weights")
    return weights if isinstance(weights, dict) else {}


def _settings(bundle: Bundle) -> dict[str, Any]:
    """Nothing for a bundle of another program, which need not have this file."""
    try:
        settings = json.loads(bundle.read(SETTINGS_FILE))
    except (KeepstepError, OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}
