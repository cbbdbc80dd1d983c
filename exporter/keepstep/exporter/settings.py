"""What a bundle says of how it was made: `settings.json`, for people and for making another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from keepstep.runtime import Bundle
from keepstep.runtime.errors import KeepstepError

from .folder.model_folder import Choice, ModelFolder
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
        "variant": request.choice.variant,
        "without_t5": request.choice.without_t5,
        "weights": {part: list(weights.files) for part, weights in folder.weights.items()},
        "float32": sorted(request.float32),
        "kept_in_float32": dict(kept),
        "engines": {b.backend: dict(b.identity()) for b in request.builders},
    }
    return (json.dumps(settings, indent=2) + "\n").encode()


def choice_of(bundle: Bundle) -> Choice:
    """Which files of its model were read."""
    settings = _settings(bundle)
    variant = settings.get("variant")
    return Choice(
        variant=variant if isinstance(variant, str) else None,
        without_t5=settings.get("without_t5") is True,
    )


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
