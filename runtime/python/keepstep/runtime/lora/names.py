"""What LoRA files call the weights of a model.

Diffusers and PEFT write the path of a module in the checkpoint, `unet.down_blocks.0.….to_q`.
Kohya's scripts write the same with underscores behind a prefix, `lora_unet_down_blocks_0_…_to_q`,
and for the UNet of SDXL the path that it had in the original checkpoint, before diffusers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

_KOHYA_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "unet": ("lora_unet_",),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
}
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

Part = Literal["down", "up", "alpha"]


@dataclass(frozen=True)
class Key:
    """The name of one tensor of a LoRA file, understood."""

    module: str  # in the spelling of `spellings`
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


def spellings(modules: Iterable[str]) -> dict[str, str]:
    """Every spelling of the given modules → the module.

    `modules` are plain paths that begin with their component: `unet.mid_block.….to_q`.
    """
    modules = list(modules)
    inner = [path.removeprefix("unet.") for path in modules if path.startswith("unet.")]
    blocks = _original_blocks(inner)
    found = {}
    for module in modules:
        found[module] = module
        component, _, path = module.partition(".")
        for prefix in _KOHYA_PREFIXES.get(component, ()):
            found[prefix + path.replace(".", "_")] = module
        if component == "unet":
            found[path] = module  # diffusers' first LoRAs were for the UNet alone
        if component == "unet" and (original := _original_path(path, blocks)):
            found["lora_unet_" + original.replace(".", "_")] = module
    return found


def is_tabled(module: str) -> bool:
    """Whether this is a part of the time embedding, which a bundle holds as a table of results."""
    return "time_emb" in module or "emb_layers" in module


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


def _original_blocks(paths: Collection[str]) -> dict[str, str]:
    """Blocks of a UNet in diffusers → their names in original checkpoints.

    There, blocks are numbered through: `input_blocks` on the way down, a downsampler being a block
    of its own, and `output_blocks` on the way up, where an upsampler is the last part of a block.
    """
    known = {prefix for path in paths for prefix in _prefixes(path)}
    blocks = {
        "conv_in": "input_blocks.0.0",
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
        "conv_out": "out.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }
    number = 1
    for level in _numbered("down_blocks", known):
        for resnet in _numbered(f"{level}.resnets", known):
            blocks[resnet] = f"input_blocks.{number}.0"
            blocks[resnet.replace("resnets", "attentions")] = f"input_blocks.{number}.1"
            number += 1
        if f"{level}.downsamplers.0" in known:
            blocks[f"{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    number = 0
    for level in _numbered("up_blocks", known):
        for resnet in _numbered(f"{level}.resnets", known):
            blocks[resnet] = f"output_blocks.{number}.0"
            blocks[resnet.replace("resnets", "attentions")] = f"output_blocks.{number}.1"
            number += 1
        part = 2 if f"{level}.attentions.0" in known else 1
        blocks[f"{level}.upsamplers.0.conv"] = f"output_blocks.{number - 1}.{part}.conv"
    return blocks


def _prefixes(path: str) -> Iterator[str]:
    """The path itself, then every module that it lies in."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _numbered(path: str, known: Collection[str]) -> Iterator[str]:
    """`path.0`, `path.1`, … as far as they are known."""
    number = 0
    while f"{path}.{number}" in known:
        yield f"{path}.{number}"
        number += 1


_ORIGINAL_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3"}
_ORIGINAL_RESNET |= {"conv_shortcut": "skip_connection"}


def _original_path(path: str, blocks: Mapping[str, str]) -> str | None:
    """The path of a UNet's module in original checkpoints; None where they have none."""
    block = next((prefix for prefix in _prefixes(path) if prefix in blocks), None)
    if block is None:
        return None
    rest = path[len(block) + 1 :]
    if ".resnets." in block:
        rest = _ORIGINAL_RESNET.get(rest, rest)
    return f"{blocks[block]}.{rest}" if rest else blocks[block]
