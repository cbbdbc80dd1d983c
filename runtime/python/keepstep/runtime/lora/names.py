"""The names of a LoRA file's tensors: which module they change, and which factor they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

_ADAPTER = r"(?:\.[^.]+)?"  # PEFT may put the adapter's name in, such as `default`
_DOWN = rf"\.lora_A{_ADAPTER}|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down"
_UP = rf"\.lora_B{_ADAPTER}|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up"
_FACTOR = re.compile(rf"(?P<module>.+?)(?:(?P<down>{_DOWN})|(?:{_UP}))\.weight")
_ALPHA = re.compile(r"(?P<module>.+?)(?:[._]lora)?\.alpha")
_OTHER_METHODS: Mapping[str, str] = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "a LoRA in Tucker form",
    "oft_": "OFT",
}
_OLD_TEXT_NAMES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_OLD_TEXT = re.compile(r"(?P<before>text_encoder.*\.self_attn)\.(?P<name>to_(?:q|k|v|out))")
_TEXT_MODEL = re.compile(r"^(?P<before>text_encoder(?:_2)?\.|lora_te[12]?_)text_model[._]")
_TEXT_LAYER = re.compile(
    r"(?:(?P<component>text_encoder(?:_2)?)|lora_te(?P<number>[12]?))"
    r"[._]encoder[._]layers[._](?P<layer>\d{1,4})[._].+"
)
# In diffusers' names, then in those of original checkpoints: UNets, FLUX.1, Stable Diffusion 3.
_TABLED = re.compile(
    r"time_emb|timestep_embedder|adaln_single|emb_layers|[._]time_in[._]|[._]t_embedder[._]"
)
_T5_LAYER = re.compile(r"^(?:text_encoder|lora_te).*encoder[._]block[._]\d")

Part = Literal["down", "up", "alpha"]


@dataclass(frozen=True)
class Key:
    """The name of one tensor of a LoRA file, understood."""

    module: str  # a key of `spellings`, if a bundle has it
    part: Part


def parse_key(key: str) -> Key | None:
    """Understand a tensor's name; None when no LoRA has such a tensor."""
    if match := _FACTOR.fullmatch(key):
        return Key(_plain(match["module"]), "down" if match["down"] else "up")
    if match := _ALPHA.fullmatch(key):
        return Key(_plain(match["module"]), "alpha")
    return None


def other_method(key: str) -> str | None:
    """The method that is no plain LoRA to which a tensor belongs, by its name."""
    return next((method for mark, method in _OTHER_METHODS.items() if mark in key), None)


def _plain(module: str) -> str:
    """Without what differs between versions of diffusers and transformers."""
    module = _TEXT_MODEL.sub(r"\g<before>", module).replace(".processor.", ".")
    if match := _OLD_TEXT.fullmatch(module):
        return f"{match['before']}.{_OLD_TEXT_NAMES[match['name']]}"
    return f"{module}.0" if module.endswith(".to_out") else module


def plain_path(path: str) -> str:
    """A module's path in a checkpoint, without the part that only some transformers have."""
    return _TEXT_MODEL.sub(r"\g<before>", path)


def is_tabled(module: str) -> bool:
    """Whether this is a part of the time embedding, which a bundle holds as a table of results.

    To be asked of modules that a bundle has not: PixArt-α's `adaln_single` is also told the
    picture's size, and is no table.
    """
    return _TABLED.search(f".{module}.") is not None


def is_of_t5(module: str) -> bool:
    """Whether this is a layer of T5, in diffusers' names or kohya's."""
    return _T5_LAYER.search(module) is not None


def last_layers(modules: Iterable[str]) -> dict[str, int]:
    """The last layer that is computed of every text encoder of which it is not the last of all.

    SDXL reads the last layer but one of its first text encoder, and then no final norm either;
    LoRAs have factors for the last layer all the same. `modules` are plain paths.
    """
    modules = set(modules)
    last: dict[str, int] = {}
    for path in modules:
        match = _TEXT_LAYER.fullmatch(path)
        if match is None or not (component := match["component"]):
            continue
        if f"{component}.final_layer_norm" not in modules:
            last[component] = max(int(match["layer"]), last.get(component, 0))
    return last


def is_unused(module: str, last: Mapping[str, int]) -> bool:
    """Whether this is a layer of a text encoder behind the last one computed (`last_layers`)."""
    match = _TEXT_LAYER.fullmatch(module)
    if match is None:
        return False
    component = match["component"] or (
        "text_encoder_2" if match["number"] == "2" else "text_encoder"
    )
    return component in last and int(match["layer"]) > last[component]
