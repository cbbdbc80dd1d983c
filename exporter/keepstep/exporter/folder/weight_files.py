"""Which weights of a component are read: those that diffusers and transformers would load.

A component's folder may hold more: other variants (`fp16`, `non_ema`), backups, a training run's
own files. Nothing is read because it lies there, only because it has the name that the libraries
look for. Light: no torch.

Sources: diffusers 0.42, `ModelMixin.from_pretrained` (an index before a file) and
`DiffusionPipeline.from_pretrained` (a component without the variant is read without it);
transformers 5.23, `_get_resolved_checkpoint_files` (a file before an index).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from keepstep.runtime.files import check_regular
from keepstep.runtime.quoting import quote, quote_names

from ..errors import ModelError
from .small_json import read_object

DIFFUSERS = ("diffusion_pytorch_model", "diffusion_pytorch_model")  # names without their endings
TRANSFORMERS = ("model", "pytorch_model")  # of safetensors files, and of pickles

MOST_INDEX_BYTES = 16 * 2**20
_VARIANT = re.compile(r"[A-Za-z0-9_-]+")
_SHARD = r"\d{5}-of-\d{5}"


@dataclass(frozen=True)
class Weights:
    """The files of one component's weights.

    folder    where they lie
    files     their names: one, or the shards that an index names
    stem      how the library calls a file of this kind, without variant and ending
    homes     tensor → file, where an index says that
    variant   which one was taken; None for the plain ones
    """

    folder: Path
    files: tuple[str, ...]
    stem: str
    homes: Mapping[str, str] | None
    variant: str | None

    @property
    def pickled(self) -> bool:
        """Whether they are PyTorch's own files, and not safetensors."""
        return self.files[0].endswith(".bin")

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the files are."""
        return tuple(self.folder / name for name in self.files)


def check_variant(variant: str | None) -> None:
    """Refuse what cannot be part of a file's name; raises `ModelError`."""
    if variant is not None and not _VARIANT.fullmatch(variant):
        raise ModelError(
            f"variant is {quote(variant)}: give the part of a file's name, such as fp16 for "
            "diffusion_pytorch_model.fp16.safetensors"
        )


def choose_weights(
    folder: Path, where: str, stems: tuple[str, str], variant: str | None
) -> Weights:
    """The weights of the component in `folder`, which `where` names in messages.

    Those of `variant`, or the plain ones where the component has none of it; every shard is there.
    Raises `ModelError`.
    """
    for asked in dict.fromkeys((variant, None)):
        for name, stem in _candidates(stems, asked):
            if os.path.lexists(folder / name):
                return _found(folder, where, name, stem, asked)
    others = variants_in(folder, stems)
    if others:
        raise ModelError(
            f"{where}: has weights of {'variants' if len(others) > 1 else 'the variant'} "
            f"{', '.join(others)} alone: export with --variant {others[0]} "
            f"(`variant={others[0]!r}` in Python), or fetch the plain ones, too"
        )
    raise ModelError(
        f"{where}: cannot be loaded: no {stems[0]}.safetensors there. Fetch or save the model again"
    )


def variants_in(folder: Path, stems: tuple[str, str]) -> list[str]:
    """The variants of which a component's folder has weights, by their files' names."""
    stem = "|".join(dict.fromkeys(stems))
    patterns = (
        rf"(?:{stem})\.({_VARIANT.pattern}?)(?:-{_SHARD})?\.(?:safetensors|bin)",
        rf"(?:{stem})-{_SHARD}\.({_VARIANT.pattern})\.(?:safetensors|bin)",
        rf"(?:{stem})\.(?:safetensors|bin)\.index\.({_VARIANT.pattern})\.json",
    )
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    matches = (re.fullmatch(pattern, name) for name in names for pattern in patterns)
    return list(dict.fromkeys(match[1] for match in matches if match))


def _candidates(stems: tuple[str, str], variant: str | None) -> Iterator[tuple[str, str]]:
    """File names and their stems, the first choice first."""
    safe, pickled = stems
    dot = f".{variant}" if variant else ""
    files = [(f"{safe}{dot}.safetensors", safe)]
    indexes = [(f"{safe}.safetensors.index{dot}.json", safe)]
    if variant and stems == DIFFUSERS:  # as older versions of diffusers named it
        indexes.append((f"{safe}.safetensors{dot}.index.json", safe))
    yield from (*indexes, *files) if stems == DIFFUSERS else (*files, *indexes)
    yield f"{pickled}{dot}.bin", pickled
    yield f"{pickled}.bin.index{dot}.json", pickled


def _found(folder: Path, where: str, name: str, stem: str, variant: str | None) -> Weights:
    if not name.endswith(".json"):
        _check_file(folder / name, where)
        return Weights(folder, (name,), stem, None, variant)
    index = read_object(folder / name, f"{where}/{name}", MOST_INDEX_BYTES)
    homes = index.get("weight_map")
    if not isinstance(homes, dict) or not homes or not all(map(_is_text, homes.values())):
        raise ModelError(
            f"{where}/{name}: expected a `weight_map` from tensors to files. "
            "Fetch or save the model again"
        )
    files = tuple(sorted(set(homes.values())))
    outside = [f for f in files if Path(f).name != f or "\\" in f or "\0" in f]
    if outside:
        raise ModelError(
            f"{where}/{name}: names {quote_names(outside)}, expected files of the same folder"
        )
    missing = [f for f in files if not os.path.lexists(folder / f)]
    if missing:
        raise ModelError(
            f"{where}: {quote_names(missing)} not there, but {name} names "
            f"{'it' if len(missing) == 1 else 'them'}. Fetch or save the model again"
        )
    endings = {Path(f).suffix for f in files}
    if endings != {".bin" if ".bin.index" in name else ".safetensors"}:
        raise ModelError(
            f"{where}/{name}: names {quote_names(files)}, expected files of its own kind"
        )
    for file in files:
        _check_file(folder / file, where)
    return Weights(folder, files, stem, homes, variant)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _check_file(path: Path, where: str) -> None:
    try:
        check_regular(path)
    except OSError as error:
        raise ModelError(
            f"{where}/{path.name}: cannot be read: {error.strerror or error}. "
            "Fetch or save the model again"
        ) from error
