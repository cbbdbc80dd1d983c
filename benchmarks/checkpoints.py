"""Checkpoints of the published architectures whose weights are zeros or random numbers.

What an export takes and how fast a plan plays depend on shapes, so neither needs a download. The
configurations in checkpoints.json are as published; names and shapes come from the classes.

Usage: python benchmarks/checkpoints.py ARCHITECTURE OUT [--weights zero|random]
           [--dtype float16|bfloat16|float32] [--seed N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from string import ascii_letters, digits, punctuation
from typing import Any, BinaryIO

import diffusers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel

from keepstep.exporter.stages.weights import file_head
from keepstep.runtime.format.plan import TensorType

Config = Mapping[str, Any]
Architecture = Mapping[str, Config]  # model_index and the components by name → configuration
Shape = tuple[int, ...]

ARCHITECTURES: Mapping[str, Architecture] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
WEIGHTS = ("zero", "random")
DTYPES = ("float16", "bfloat16", "float32")
CHUNK = 1 << 22  # random numbers drawn at a time: 16 MiB

# Component → the names of its configuration and of its weights in a diffusers folder.
_NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")
_ENCODER = ("config.json", "model.safetensors")
FILES = {
    **dict.fromkeys(("unet", "transformer", "vae"), _NETWORK),
    **dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3"), _ENCODER),
    "scheduler": ("scheduler_config.json", None),
    **dict.fromkeys(("tokenizer", "tokenizer_2", "tokenizer_3"), ("tokenizer_config.json", None)),
}


def write_checkpoint(
    architecture: Architecture,
    folder: Path,
    weights: str = "zero",
    dtype: str = "float16",
    seed: int = 0,
) -> Path:
    """Write `folder` as `DiffusionPipeline.from_pretrained` reads it; gives it back.

    weights   `zero`: holes in sparse files, which take no disk; for what looks at shapes alone.
              `random`: numbers that stay in range through the network; for what computes (on
              zeros a GPU draws less power and clocks higher). The same for the same seed.
    Raises `OSError`; the folder is then not there.
    """
    if folder.exists():
        raise FileExistsError(f"{folder}: exists already: remove it, or choose another place")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _write_json(part / "model_index.json", architecture["model_index"])
        for name, (config_file, weights_file) in FILES.items():
            if name not in architecture:
                continue
            config = architecture[name]
            (part / name).mkdir()
            _write_json(part / name / config_file, config)
            if weights_file:
                random = torch.Generator().manual_seed(seed) if weights == "random" else None
                _write_weights(part / name / weights_file, shapes(config), dtype, random)
            elif config.get("tokenizer_class") == "T5TokenizerFast":
                pieces().save(str(part / name / "tokenizer.json"))
            elif name.startswith("tokenizer"):
                _write_json(part / name / "vocab.json", vocabulary())
                (part / name / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
        return part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def shapes(config: Config) -> dict[str, Shape]:
    """Names and shapes of a network's weights, as in its published file."""
    is_encoder, is_t5 = "architectures" in config, config.get("model_type") == "t5"
    with torch.device("meta"):
        if is_encoder:
            of = transformers.T5Config if is_t5 else transformers.CLIPTextConfig
            network = getattr(transformers, config["architectures"][0])(of(**config))
        else:
            network = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    found = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if is_t5:  # the same tensor by another name, which published files have once
        del found["encoder.embed_tokens.weight"]
    if not is_encoder or is_t5:
        return found
    # transformers 5 leaves out a prefix that published files have; it reads both.
    return {
        name if name.startswith("text_") else f"text_model.{name}": shape
        for name, shape in found.items()
    }


def vocabulary() -> dict[str, int]:
    """The tokens of CLIP's vocabulary that are no merges, with the ids that they have there.

    Bytes, alone and at the end of a word, and the two special tokens: every letter is a token.
    """
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    return {token: i for i, token in enumerate(tokens)} | {
        "<|startoftext|>": 49406,
        "<|endoftext|>": 49407,
    }


def pieces() -> Tokenizer:
    """A tokenizer of T5's kind with its three special tokens, where every letter is a token."""
    letters = ascii_letters + digits + punctuation
    special = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    scores = special | {piece: -2.0 for letter in letters for piece in (letter, f"▁{letter}")}
    made = Tokenizer(models.Unigram([*scores.items()], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return made


def _write_json(path: Path, data: Config) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _write_weights(
    path: Path, tensors: Mapping[str, Shape], dtype: str, random: torch.Generator | None
) -> None:
    """A safetensors file: zeros, or numbers drawn from `random`."""
    types = {name: TensorType(dtype, shape) for name, shape in tensors.items()}
    head = file_head(types, {"format": "pt"})
    with path.open("wb") as file:
        file.write(head)
        if random:
            _write_random(file, tensors, getattr(torch, dtype), random)
        else:
            file.truncate(len(head) + sum(type_.bytes for type_ in types.values()))


def _write_random(
    file: BinaryIO, tensors: Mapping[str, Shape], dtype: torch.dtype, random: torch.Generator
) -> None:
    for name, shape in tensors.items():
        for piece in _pieces(name, shape, random):
            file.write(piece.to(dtype).view(torch.uint8).numpy().tobytes())


def _pieces(name: str, shape: Shape, random: torch.Generator) -> Iterator[torch.Tensor]:
    """A tensor in float32, flat and in pieces, such that a layer's output is as large as its input.

    Norms scale by 1, biases are 0, and other weights have a deviation of 1/√fan-in.
    """
    count = prod(shape)
    if len(shape) == 1:
        yield torch.full(shape, 1.0 if name.endswith("weight") else 0.0)
        return
    deviation = prod(shape[1:]) ** -0.5
    for begin in range(0, count, CHUNK):
        size = min(CHUNK, count - begin)
        yield deviation * torch.randn(size, generator=random)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--weights", choices=WEIGHTS, default="zero")
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    try:
        write_checkpoint(
            ARCHITECTURES[given.architecture], given.out, given.weights, given.dtype, given.seed
        )
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
