"""A LoRA's settings, which stand beside its tensors.

Diffusers' pipelines write them into the file, as `unet.lora_alpha`, its models as `lora_alpha`.
PEFT writes them into a file of its own, `adapter_config.json` in the same folder, and begins the
names of tensors with `base_model.model.`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from keepstep.runtime import floats
from keepstep.runtime.errors import InputError
from keepstep.runtime.files import read_regular
from keepstep.runtime.quoting import quote, sanitize

METADATA = "lora_adapter_metadata"  # of the file, as JSON
_PEFT_FILE = "adapter_config.json"
_PEFT = "base_model."
_MOST_BYTES = 2**20  # of PEFT's file, which has one or two kB
# What changes how weights are computed, and is not computed here.
_REFUSED = ("use_rslora", "use_dora", "alpha_pattern", "lora_bias")


def settings_beside(
    path: Path, metadata: Mapping[str, str], names: Collection[str]
) -> dict[str, Any]:
    """The settings of the LoRA file at `path`, given its metadata and the names of its tensors.

    PEFT's have `base_model.` before them. Raises `InputError` for those that are not supported.
    """
    settings: dict[str, Any] = {}
    if METADATA in metadata:
        settings = _checked(str(path), f"its {METADATA}", metadata[METADATA])
    beside = path.with_name(_PEFT_FILE)
    if any(name.startswith(_PEFT) for name in names) and beside.exists():
        try:
            text = read_regular(beside, _MOST_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}: the settings beside it, {_PEFT_FILE}, cannot be read: {sanitize(error)}"
            ) from error
        found = _checked(str(path), f"{_PEFT_FILE} beside it", text)
        settings |= {_PEFT + key: value for key, value in found.items()}
    return settings


def alpha_of(place: str, module: str, settings: Mapping[str, Any], rank: int) -> float:
    """The alpha of a module that has no tensor for it: a setting, or else its rank."""
    own = f"{module.partition('.')[0]}.lora_alpha"
    setting = settings.get(own, settings.get("lora_alpha", rank))
    if not floats.is_finite_number(setting):
        raise InputError(f"{place}: its lora_alpha is {quote(setting)}, expected a finite number")
    return float(setting)


def _checked(place: str, what: str, text: str) -> dict[str, Any]:
    """Settings in JSON."""
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: {what} is no JSON: {sanitize(error)}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{place}: {what} is {quote(settings)}, expected an object")
    for key, value in settings.items():
        if key.rpartition(".")[2] in _REFUSED and value:
            raise InputError(
                f"{place}: its setting {quote(key)} is not supported: merge it into the "
                "checkpoint, and export that"
            )
    return settings
