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
T5 = "T5EncoderModel"
ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", T5)
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


# Networks whose pipelines do without T5, which is the largest part of their checkpoints.
WITHOUT_T5 = ("SD3Transformer2DModel",)
T5_OF_SD3 = ("text_encoder_3", "tokenizer_3")


@dataclass(frozen=True)
class Choice:
    """Which files of a model are read.

    variant     of its weights files, such as `fp16`; the plain ones if not given
    without_t5  leave that text encoder out, where the pipeline does without it
    """

    variant: str | None = None
    without_t5: bool = False


PLAIN = Choice()


@dataclass(frozen=True)
class ModelFolder:
    """A diffusers folder as it was when it was read.

    name      what the user calls it
    texts     content of the small files, by path in the folder
    weights   by component
    choice    what was asked for
    """

    path: Path
    name: str
    texts: Mapping[str, bytes]
    weights: Mapping[str, Weights]
    choice: Choice

    @property
    def index(self) -> Mapping[str, Any]:
        """The content of model_index.json, without what was left out."""
        return _index(self.json(INDEX), self.choice, f"{self.name}/{INDEX}")

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


def find_folder(model: str, choice: Choice = PLAIN) -> ModelFolder:
    """The folder that `model` (a path, or a hub id) means, and the weights that are chosen.

    Raises `ModelError`. Only a hub id loads torch, with the library that fetches it.
    """
    check_variant(choice.variant)
    path = Path(model)
    if not os.path.lexists(path):
        from .hub import fetched

        left_out = T5_OF_SD3 if choice.without_t5 else ()
        return read_folder(fetched(model, choice.variant, left_out), model, choice)
    if not os.path.lexists(path / INDEX):
        raise ModelError(
            f"{model}: no {INDEX} there: give a diffusers folder, as made by "
            "`pipeline.save_pretrained(…)`"
        )
    return read_folder(path, path.resolve().name, choice)


def read_folder(path: Path, name: str, choice: Choice) -> ModelFolder:
    """What is read of the folder `path`; raises `ModelError`."""
    texts = {INDEX: read_small(path / INDEX, f"{name}/{INDEX}", MOST_CONFIG_BYTES)}
    written = object_of(texts[INDEX], f"{name}/{INDEX}")
    _check_index(written, f"{name}/{INDEX}")
    index = _index(written, choice, f"{name}/{INDEX}")
    variant = choice.variant
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
    return ModelFolder(path, name, texts, weights, choice)


def _index(index: Mapping[str, Any], choice: Choice, where: str) -> Mapping[str, Any]:
    """A model_index.json without the T5 encoder and its tokenizer, if they are left out.

    Raises `ModelError` where there is no such encoder, or the pipeline needs it.
    """
    if not choice.without_t5:
        return index
    if class_in(index, "transformer") not in WITHOUT_T5:
        raise ModelError(
            f"{where}: a {index.get('_class_name')}, of which T5 cannot be left out: only Stable "
            "Diffusion 3 does without it"
        )
    encoders = [part for part in index if part.startswith("text_encoder")]
    t5 = [part for part in encoders if class_in(index, part) == T5]
    left_out = {*t5, *(part.replace("text_encoder", "tokenizer") for part in t5)}
    return {part: entry for part, entry in index.items() if part not in left_out}


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

    encoders = [class_in(index, part) for part in index if part.startswith("text_encoder")]
    readable = all(encoder in ENCODERS for encoder in encoders if encoder)
    known = any(class_in(index, part) in classes for part, classes in NETWORKS.items())
    if not known or not readable:
        return []
    return [part for part in (*_modules(), *TOKENIZERS, "scheduler") if class_in(index, part)]


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


def class_in(index: Mapping[str, Any], component: str) -> str | None:
    """The class of a component, as a model_index.json names it."""
    entry = index.get(component) or [None, None]
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None
