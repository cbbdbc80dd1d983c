"""Writes a bundle: plans and small files from memory, large ones as links to finished blobs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from keepstep.runtime import Bundle, __version__
from keepstep.runtime.format.plan import FileEntry, Manifest, Plan, Tokenizer
from keepstep.runtime.format.plan_text import manifest_to_json, plan_to_json

from ..errors import ExportError
from .bundle_place import MANIFEST_FILE, check_bundle_target, place_bundle
from .cache_entry import Blob, sha256_of

__all__ = [
    "WEIGHTS_FILE",
    "BundleContent",
    "check_bundle_target",
    "constants_path",
    "restore_bundle",
    "save_arrays",
    "schedule_path",
    "write_bundle",
]

WEIGHTS_FILE = "weights.safetensors"


@dataclass(frozen=True)
class BundleContent:
    """Everything that goes into a bundle.

    `constants` and `golden` hold the arrays of `plans/NAME.safetensors` and
    `golden/NAME.safetensors`, `texts` maps paths to bytes, and `files` maps paths to finished
    content: the weights and the engines.
    """

    model: Mapping[str, str]
    plans: Mapping[str, Plan]
    constants: Mapping[str, Mapping[str, np.ndarray]]
    golden: Mapping[str, Mapping[str, np.ndarray]]
    files: Mapping[str, Blob]
    texts: Mapping[str, bytes]
    tokenizers: Mapping[str, Tokenizer]  # by input


def constants_path(plan: str) -> str:
    """Where a plan's constants are."""
    return f"plans/{plan}.safetensors"


def schedule_path(plan: str) -> str:
    """Where the schedule is from which a plan was made."""
    return f"schedules/{plan}.yaml"


def write_bundle(
    content: BundleContent, out: Path, check: Callable[[Bundle], None] = lambda bundle: None
) -> Bundle:
    """Write `content` to the folder `out`, replacing an older bundle there.

    `check` is given the bundle before that, and may refuse it with an `ExportError`.
    """

    def fill(staging: Path) -> None:
        _write_content(content, staging)
        check(Bundle.open(staging, verify_hashes=False))

    return place_bundle(out, fill)


def restore_bundle(files: Mapping[str, Blob], out: Path) -> Bundle:
    """Make a bundle of finished files alone, `bundle.json` among them, replacing an older one."""
    return place_bundle(out, lambda staging: _place_files(files, staging))


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file. Raises `OSError`."""
    try:
        save_file({name: np.asarray(a, order="C") for name, a in arrays.items()}, path)
    except Exception as error:  # safetensors wraps the system's errors in its own type
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code:
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        raise


def _write_content(content: BundleContent, staging: Path) -> None:
    for name, plan in content.plans.items():
        _write(staging / f"plans/{name}.json", plan_to_json(plan).encode())
        _save(staging / constants_path(name), content.constants[name])
        if name in content.golden:
            _save(staging / f"golden/{name}.safetensors", content.golden[name])
    for path, data in content.texts.items():
        _write(staging / path, data)
    entries = _entries(staging)
    _place_files(content.files, staging)
    entries |= {path: FileEntry(b.bytes, b.sha256) for path, b in content.files.items()}
    manifest = Manifest(
        producer=f"keepstep {__version__}",
        model=content.model,
        plans=tuple(content.plans),
        files=dict(sorted(entries.items())),
        tokenizers=content.tokenizers,
    )
    _write(staging / MANIFEST_FILE, manifest_to_json(manifest).encode())


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    mode = path.stat().st_mode
    save_arrays(path, arrays)
    path.chmod(mode)  # safetensors writes for the owner alone, whatever the umask


def _place_files(files: Mapping[str, Blob], staging: Path) -> None:
    for path, blob in files.items():
        place = staging / path
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            _link_or_copy(place, blob.path)
        except FileNotFoundError as error:
            raise ExportError(
                f"{blob.path}: gone from the cache while it was in use: export again"
            ) from error


def _link_or_copy(place: Path, finished: Path) -> None:
    """Let `place` be the same file as `finished` where the filesystem allows that.

    Two names for one file are safe because nobody writes into it: the cache and a bundle's writer
    alike only ever replace files, and a bundle's runtime reads.
    """
    place.touch()
    allowed = place.stat().st_mode & 0o444  # what the umask lets be read; a link has one mode only
    if finished.stat().st_mode & 0o444 == allowed:
        place.unlink()
        try:
            place.hardlink_to(finished)
            return
        except OSError:
            pass  # another filesystem, or one without links
    shutil.copyfile(finished, place)


def _entries(staging: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file written so far."""
    return {
        path.relative_to(staging).as_posix(): FileEntry(path.stat().st_size, sha256_of(path))
        for path in staging.rglob("*")
        if path.is_file()
    }
