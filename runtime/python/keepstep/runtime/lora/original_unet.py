"""The names that a UNet's modules have in original checkpoints, before diffusers.

Kohya's scripts write them for SDXL: `lora_unet_input_blocks_4_1_…`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3"}
_RESNET |= {"conv_shortcut": "skip_connection"}


def original_paths(paths: Collection[str]) -> dict[str, str]:
    """The names of a UNet's modules in original checkpoints → their paths in diffusers.

    Modules that have none there are left out.
    """
    blocks = _blocks(paths)
    return {original: path for path in paths if (original := _path(path, blocks))}


def _blocks(paths: Collection[str]) -> dict[str, str]:
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


def _path(path: str, blocks: Mapping[str, str]) -> str | None:
    """The path of a UNet's module in original checkpoints; None where they have none."""
    block = next((prefix for prefix in _prefixes(path) if prefix in blocks), None)
    if block is None:
        return None
    rest = path[len(block) + 1 :]
    if ".resnets." in block:
        rest = _RESNET.get(rest, rest)
    return f"{blocks[block]}.{rest}" if rest else blocks[block]
