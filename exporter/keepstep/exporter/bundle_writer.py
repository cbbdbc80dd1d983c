"""Writes a bundle: beside its place first, then with one rename, so that no half bundle is seen."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from keepstep.runtime import Bundle, __version__
from keepstep.runtime.plan import FileEntry, Manifest, Plan, Tokenizer
from keepstep.runtime.plan_json import manifest_to_json, plan_to_json

from .errors import ExportError

WEIGHTS_FILE = "weights.safetensors"
MANIFEST_FILE = "bundle.json"


@dataclass(frozen=True)
class BundleContent:
    """Everything that goes into a bundle, in memory.

    `constants` and `golden` hold the arrays of `plans/NAME.safetensors` and
    `golden/NAME.safetensors`; `engines` and `texts` map paths to bytes.
    """

    model: Mapping[str, str]
    plans: Mapping[str, Plan]
    constants: Mapping[str, Mapping[str, np.ndarray]]
    golden: Mapping[str, Mapping[str, np.ndarray]]
    weights: Mapping[str, np.ndarray]
    engines: Mapping[str, bytes]
    texts: Mapping[str, bytes]
    tokenizer: Tokenizer | None


def constants_path(plan: str) -> str:
    """Where a plan's constants are."""
    return f"plans/{plan}.safetensors"


def schedule_path(plan: str) -> str:
    """Where the schedule is from which a plan was made."""
    return f"schedules/{plan}.yaml"


def check_target(out: Path) -> None:
    """Refuse a target that is something else than an old bundle, before any work is done."""
    try:
        taken = out.is_file() or (out.is_dir() and any(out.iterdir()) and not _is_bundle(out))
    except OSError as error:
        raise ExportError(f"{out}: cannot be read: {error.strerror}: choose another") from error
    if taken:
        raise ExportError(
            f"{out}: there already, and not a bundle: choose another name, or remove it yourself"
        )
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ExportError(f"{out}: {above} is a file, expected a folder: choose another place")


def write_bundle(content: BundleContent, out: Path) -> Bundle:
    """Write `content` to the folder `out`, replacing an older bundle there."""
    check_target(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            draft = Path(folder) / "bundle"
            _write_files(content, draft)
            Bundle.open(draft)  # what we write, we can read
            _replace(draft, out, Path(folder) / "old")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        way_out = "free some space" if full else "choose another place"
        raise ExportError(
            f"{out}: cannot be written: {error.strerror or error}; nothing was left behind: "
            f"{way_out} and export again"
        ) from error
    return Bundle.open(out, verify_hashes=False)


def _write_files(content: BundleContent, draft: Path) -> None:
    for name, plan in content.plans.items():
        _write(draft / f"plans/{name}.json", plan_to_json(plan).encode())
        _save(draft / constants_path(name), content.constants[name])
        _save(draft / f"golden/{name}.safetensors", content.golden[name])
    _save(draft / WEIGHTS_FILE, content.weights)
    for path, data in {**content.engines, **content.texts}.items():
        _write(draft / path, data)
    manifest = Manifest(
        producer=f"keepstep {__version__}",
        model=content.model,
        plans=tuple(content.plans),
        files=_entries(draft),
        tokenizer=content.tokenizer,
    )
    _write(draft / MANIFEST_FILE, manifest_to_json(manifest).encode())
    mode = (draft / MANIFEST_FILE).stat().st_mode
    for arrays in draft.rglob("*.safetensors"):
        arrays.chmod(mode)  # safetensors writes for the owner alone, whatever the umask


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({name: np.asarray(a, order="C") for name, a in arrays.items()}, path)
    except Exception as error:  # safetensors wraps the system's errors in its own type
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code:
            raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
        raise


def _entries(draft: Path) -> dict[str, FileEntry]:
    """Size and SHA-256 of every file written so far."""
    entries = {}
    for path in sorted(p for p in draft.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        entries[path.relative_to(draft).as_posix()] = FileEntry(path.stat().st_size, digest)
    return entries


def _replace(draft: Path, out: Path, aside: Path) -> None:
    """Put `draft` in the place of `out`; an old bundle is moved aside first and then deleted."""
    try:
        if out.exists():
            out.rename(aside)
        draft.rename(out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST_FILE).is_file()
