"""What an export reads of a diffusers folder: the small files whole, the weights by name.

Everything else in the folder is left alone, and everything here has been looked at before any
library opens it: it is a regular file, of no absurd size, and a JSON object where it should be.
Light: no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepstep.runtime.quoting import quote

from ..errors import ModelError
from .small_json import AGAIN, check_bounds, object_of, read_small
from .weight_files import (
    DIFFUSERS,
    TRANSFORMERS,
    Weights,
    check_variant,
    choose_weights,
    variants_in,
)

INDEX = "model_index.json"
# Networks of the families: the component, and the classes that it may be of. A pipeline with
# another network is not read; which family it is, and whether any, is not asked here.
NETWORKS: dict[str, set[str]] = {
    "unet": {"UNet2DConditionModel"},
    "transformer": {
        "SD3Transformer2DModel",
        "PixArtTransformer2DModel",
        "Transformer2DModel",
        "FluxTransformer2DModel",
    },
}
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
PARTS = {"vae": DIFFUSERS} | dict.fromkeys(
    ("text_encoder", "text_encoder_2", "text_encoder_3"), TRANSFORMERS
)
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
# All that a tokenizer of CLIP or T5 is made of; which of them there are differs.
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)
MOST_CONFIG_BYTES = 2**20
MOST_TOKENIZER_BYTES = 16 * 2**20
# What costs time or memory before weights are compared with it.
MOST = {"sample_size": 16384, "num_train_timesteps": 100_000}


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers folder as it was when it was read.

    name      what the user calls it
    texts     content of the small files, by path in the folder
    weights   by component
    variant   which was asked for
    """

    path: Path
    name: str
    texts: Mapping[str, bytes]
    weights: Mapping[str, Weights]
    variant: str | None

    @property
    def index(self) -> Mapping[str, Any]:
        """The content of model_index.json."""
        return self.json(INDEX)

    def json(self, path: str) -> dict[str, Any]:
        """The object in one of the small files; raises `ModelError`."""
        where = f"{self.name}/{path}"
        if path not in self.texts:
            raise ModelError(f"{where}: cannot be read: No such file or directory. {AGAIN}")
        return object_of(self.texts[path], where)

    def texts_of(self, component: str) -> dict[str, bytes]:
        """The small files of a component, by name."""
        begin = f"{component}/"
        return {p.removeprefix(begin): t for p, t in self.texts.items() if p.startswith(begin)}


def find_folder(model: str, variant: str | None = None) -> ModelFolder:
    """The folder that `model` (a path, or a hub id) means, and its weights of `variant`.

    Raises `ModelError`. Only a hub id loads torch, with the library that fetches it.
    """
    check_variant(variant)
    path = Path(model)
    if not os.path.lexists(path):
        from .hub import fetched

        return read_folder(fetched(model, variant), model, variant)
    if not os.path.lexists(path / INDEX):
        raise ModelError(
            f"{model}: no {INDEX} there: give a diffusers folder, as made by "
            "`pipeline.save_pretrained(…)`"
        )
    return read_folder(path, path.resolve().name, variant)


def read_folder(path: Path, name: str, variant: str | None) -> ModelFolder:
    """What is read of the folder `path`; raises `ModelError`."""
    texts = {INDEX: read_small(path / INDEX, f"{name}/{INDEX}", MOST_CONFIG_BYTES)}
    index = object_of(texts[INDEX], f"{name}/{INDEX}")
    _check_index(index, f"{name}/{INDEX}")
    components = _components(index)
    for component in components:
        texts |= _texts(path, name, component)
    modules = {c: kind for c, kind in _modules().items() if c in components}
    weights = {
        component: choose_weights(path / component, f"{name}/{component}", kind, variant)
        for component, kind in modules.items()
    }
    if variant and weights and all(found.variant is None for found in weights.values()):
        there = {v for c, kind in modules.items() for v in variants_in(path / c, kind)}
        known = f"there are {', '.join(sorted(there))}" if there else "there are plain ones alone"
        raise ModelError(f"{name}: no component has weights of the variant {variant}: {known}")
    return ModelFolder(path, name, texts, weights, variant)


def _check_index(index: Mapping[str, Any], where: str) -> None:
    """Refuse a part that is not told by a library and a class, or by two nulls."""
    for part, entry in index.items():
        if part not in (*_modules(), *TOKENIZERS, "scheduler") and "text_encoder" not in part:
            continue
        pair = isinstance(entry, list) and len(entry) == 2
        if not pair or not all(isinstance(name, str | None) for name in entry):
            raise ModelError(
                f"{where}: {part} is {quote(entry)}, expected a library and a class. {AGAIN}"
            )


def _components(index: Mapping[str, Any]) -> list[str]:
    """Those that are read, of a pipeline that can be one of ours; none of another one."""

    def kind(part: str) -> str:
        _, name = index.get(part, (None, None))
        return name or ""

    encoders = [kind(part) for part in index if part.startswith("text_encoder") and kind(part)]
    readable = all(encoder in ENCODERS for encoder in encoders)
    known = any(kind(part) in classes for part, classes in NETWORKS.items())
    if not known or not readable:
        return []
    return [part for part in (*_modules(), *TOKENIZERS, "scheduler") if kind(part)]


def _modules() -> Mapping[str, tuple[str, str]]:
    """The components that are modules, and how their weights are named."""
    return {**dict.fromkeys(NETWORKS, DIFFUSERS), **PARTS}


def _texts(path: Path, name: str, component: str) -> dict[str, bytes]:
    """The small files of one component, by path in the folder."""
    texts = {}
    if component in TOKENIZERS:
        for file in TOKENIZER_FILES:
            if os.path.lexists(path / component / file):
                where = f"{component}/{file}"
                texts[where] = read_small(path / where, f"{name}/{where}", MOST_TOKENIZER_BYTES)
                if file.endswith("_config.json"):
                    object_of(texts[where], f"{name}/{where}")
        return texts
    file = "scheduler_config.json" if component == "scheduler" else "config.json"
    where = f"{component}/{file}"
    texts[where] = read_small(path / where, f"{name}/{where}", MOST_CONFIG_BYTES)
    config = object_of(texts[where], f"{name}/{where}")
    check_bounds(config, f"{name}/{where}", MOST)
    if config.get("quantization_config") or config.get("transformers_weights"):
        raise ModelError(
            f"{name}/{where}: says that its weights are quantized or elsewhere: save the model "
            "again without that, in float16 or float32"
        )
    if os.path.lexists(path / component / "adapter_config.json"):
        raise ModelError(
            f"{name}/{component}/adapter_config.json: an adapter, which transformers would add to "
            "the weights: merge it and save the model again, or take it away"
        )
    return texts
