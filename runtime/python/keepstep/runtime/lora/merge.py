"""LoRAs at load time: weights are values of a plan like any other, so nothing is built anew.

`W' = W + scale · alpha / rank · up @ down` is computed in float32 and rounded once to the dtype
in which the bundle holds W. A weight that the exporter stored in another layout, or in several,
is named after that (`….weight:transpose-1-0`); the change is brought into the same layout.
Source of the formula: Hu et al., "LoRA", arXiv:2106.09685, section 4.1.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keepstep.runtime import floats
from keepstep.runtime.errors import InputError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.lora.file import Factors, Lora, Source, read_lora
from keepstep.runtime.lora.names import is_of_t5, is_tabled, is_unused, last_layers, plain_path
from keepstep.runtime.lora.spellings import spellings
from keepstep.runtime.lora.target import Target
from keepstep.runtime.quoting import did_you_mean, quote, quote_names

_LAYOUT = re.compile(r"(?P<name>transpose|unsqueeze|reshape)(?P<axes>(?:--?\d{1,12})+)")


@dataclass(frozen=True)
class _Weight:
    """One array of the bundle that is made from a weight of the checkpoint."""

    file: str
    tensor: str  # the weight's path, then `:` and a suffix for each change of layout or dtype
    type: TensorType

    def laid_out(self, array: np.ndarray) -> np.ndarray:
        """An array of the checkpoint's layout in this one's; `ValueError` if it has other axes."""
        for suffix in self.tensor.split(":")[1:]:
            match = _LAYOUT.fullmatch(suffix)
            if match is not None:
                axes = [int(axis) for axis in re.findall(r"-(-?\d+)", match["axes"])]
                array = _LAYOUTS[match["name"]](array, axes)
            elif suffix not in floats.DTYPES:
                raise InputError(
                    f"{quote(self.tensor)} is in a layout that this keepstep does not know, "
                    f"{quote(suffix)}, so no LoRA can change it: update keepstep"
                )
        return array


_LAYOUTS: Mapping[str, Callable[[np.ndarray, list[int]], np.ndarray]] = {
    "transpose": lambda array, axes: array.transpose(axes),
    "unsqueeze": lambda array, axes: np.expand_dims(array, tuple(axes)),
    "reshape": lambda array, axes: array.reshape(axes),
}


def merged_weights(
    bundle: BundleFolder, loras: Iterable[tuple[Source, float]]
) -> dict[tuple[str, str], np.ndarray]:
    """Give (file, tensor) → the array with all of `loras` added, for every weight they change.

    Each LoRA is a safetensors file, or its tensors by name, with its scale; a scale of 0 changes
    nothing. Arrays have the dtype and layout of those in the bundle. Raises `InputError`.
    """
    entries = [_checked_entry(entry) for entry in loras]
    weights = _weights(bundle) if entries else {}
    known = spellings(weights)
    changes: dict[str, list[tuple[Factors, float]]] = {}
    for source, scale in entries:
        lora = read_lora(source)
        for module, factors in _matched(lora, known, weights).items():
            for weight in weights[module]:
                _check_shape(lora.place, module, factors, weight)
            if scale:
                changes.setdefault(module, []).append((factors, scale))
    merged = {}
    for module, parts in changes.items():
        for weight in weights[module]:
            merged[weight.file, weight.tensor] = _merged(bundle, weight, parts)
    return merged


def _checked_entry(entry: Any) -> tuple[Source, float]:
    """A LoRA and its scale, as the caller gave them."""
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise InputError(
            f"expected pairs such as ('style.safetensors', 0.8) as LoRAs, found {quote(entry)}"
        )
    source, scale = entry
    if not isinstance(source, str | os.PathLike | Mapping):
        raise InputError(f"expected a file or a mapping of arrays as a LoRA, found {quote(source)}")
    name = "LoRA" if isinstance(source, Mapping) else source
    if not floats.is_finite_number(scale):
        raise InputError(f"{name}: its scale is {quote(scale)}, expected a finite number")
    return source, float(scale)


def _weights(bundle: BundleFolder) -> dict[str, list[_Weight]]:
    """The arrays of the bundle by the module whose weight they are."""
    found: dict[str, dict[tuple[str, str], _Weight]] = {}  # plans share weights
    for name in bundle.plans:
        plan = bundle.plan(name)
        for call in plan.calls:
            if call.step is not None and not plan.stages[call.stage].weights:
                raise InputError(
                    f"bundle {bundle.path}, plan {name!r}: stage {call.stage!r} has its weights in "
                    "its engines, where no LoRA reaches them: merge the LoRA into the checkpoint "
                    "and export that, or export with weights outside of engines"
                )
        for value in sorted({v for s in plan.stages.values() for v in s.weights.values()}):
            constant = plan.values[value]
            assert constant.file is not None and constant.tensor is not None
            path = plain_path(constant.tensor.partition(":")[0])
            if path.endswith(".weight"):
                weight = _Weight(constant.file, constant.tensor, constant.type)
                arrays = found.setdefault(path.removesuffix(".weight"), {})
                arrays[weight.file, weight.tensor] = weight
    return {module: list(arrays.values()) for module, arrays in found.items()}


def _matched(
    lora: Lora, known: Mapping[str, Target], weights: Mapping[str, Sequence[_Weight]]
) -> dict[str, Factors]:
    """The LoRA's factors by the bundle's module, every one of them accounted for."""
    matched: dict[str, Factors] = {}
    tabled, strange = [], []
    last = last_layers(weights)
    for factors in lora.factors:
        target = known.get(factors.module)
        if target is not None:
            for module, part in target.split(factors, _rows(lora.place, factors, target, weights)):
                if module in matched:
                    raise InputError(
                        f"{lora.place}: {quote(module)} is given in two spellings; keep one"
                    )
                matched[module] = part
        elif is_tabled(factors.module):
            tabled.append(factors.module)
        elif not is_unused(factors.module, last):
            strange.append(factors.module)
    if strange:
        raise InputError(
            f"{lora.place}: changes {quote_names(strange)}{did_you_mean(strange[0], known)}, "
            f"which this bundle has not: {_reason(strange, weights)}"
        )
    if tabled:
        raise InputError(
            f"{lora.place}: this LoRA changes {quote_names(tabled)}, which the bundle holds as a "
            "table: merge the LoRA into the checkpoint and export that"
        )
    return matched


def _rows(
    place: str, factors: Factors, target: Target, weights: Mapping[str, Sequence[_Weight]]
) -> list[int]:
    """How many rows of the LoRA's weight each module of the target has."""
    out, *inner = factors.shape
    if len(target.modules) == 1:
        return [out]
    rows = [weights[module][0].type.size // math.prod(inner) for module in target.modules]
    if sum(rows) != out:
        raise InputError(
            f"{place}: changes {quote(factors.module)} as a weight of shape "
            f"{list(factors.shape)}, but in the bundle it is {quote_names(target.modules)} with "
            f"{', '.join(map(str, rows))} rows: the LoRA is for another architecture"
        )
    return rows


def _reason(strange: Sequence[str], known: Iterable[str]) -> str:
    """Why a bundle has not what a LoRA changes."""
    if all(map(is_of_t5, strange)) and not any(map(is_of_t5, known)):
        return "it was exported without T5: export it with T5"
    return "the LoRA is for another architecture"


def _check_shape(place: str, module: str, factors: Factors, weight: _Weight) -> None:
    """Refuse factors whose product is not the weight's shape, before they are multiplied."""
    fits = math.prod(factors.shape) == weight.type.size
    if fits:
        try:
            fits = weight.laid_out(np.empty(factors.shape, np.bool_)).shape == weight.type.shape
        except ValueError:
            fits = False
    if not fits:
        raise InputError(
            f"{place}: changes {quote(module)} as a weight of shape {list(factors.shape)}, but "
            f"the bundle has {list(weight.type.shape)} (as {quote(weight.tensor)}): the LoRA is "
            "for another architecture"
        )
    if weight.type.dtype not in floats.DTYPES:
        raise InputError(
            f"{place}: changes {quote(module)}, which the bundle holds as {weight.type.dtype}; "
            "a LoRA can change floating-point weights only"
        )


def _merged(
    bundle: BundleFolder, weight: _Weight, parts: Sequence[tuple[Factors, float]]
) -> np.ndarray:
    """A new, read-only array: the weight, and what is added to it by factors and their scales."""
    dtype = weight.type.dtype
    total = floats.widened(bundle.array(weight.file, weight.tensor), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for factors, scale in parts:
            total = total + weight.laid_out(factors.change(scale))
    array = floats.narrowed(total, dtype)
    if not np.isfinite(total).all() or not np.isfinite(floats.widened(array, dtype)).all():
        raise InputError(
            f"bundle {bundle.path}: with these LoRAs {quote(weight.tensor)} leaves the range of "
            f"{dtype}; give smaller scales"
        )
    merged = np.ascontiguousarray(array)
    merged.flags.writeable = False
    return merged
