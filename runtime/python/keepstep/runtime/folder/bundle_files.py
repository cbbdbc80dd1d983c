"""Whether a bundle's files are those that bundle.json lists: rules 3 to 7 as far as it tells."""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from keepstep.runtime.errors import BundleError
from keepstep.runtime.folder.snapshot import Snapshot
from keepstep.runtime.format.paths import path_fault
from keepstep.runtime.format.plan import FileEntry, Manifest
from keepstep.runtime.format.plan_json import manifest_from_json
from keepstep.runtime.format.rules_values import name_fault, plan_name_fault
from keepstep.runtime.format.strict_json import MAX_BYTES
from keepstep.runtime.quoting import escape, quote, quote_names

MANIFEST = "bundle.json"
_LONGEST_PROMPT = 2**20  # ids
_CHUNK = 2**20  # bytes hashed at a time
_LONGEST_PATH = 4096  # bytes, where no system has more


def read_manifest(snapshot: Snapshot, verify_hashes: bool) -> Manifest:
    """The manifest, when all files have been found to be as it says."""
    folder = snapshot.folder
    contained(folder, MANIFEST, MANIFEST)
    with snapshot.note(MANIFEST) or nullcontext() as file:
        if file is None:
            raise BundleError(
                0,
                f"{folder}: no {MANIFEST} in it, or no plain file, so it is no bundle; "
                "make one with `keepstep export`",
            )
        manifest = manifest_from_json(read_json(file))
    _check_manifest(snapshot, manifest, verify_hashes)
    return manifest


def _check_manifest(snapshot: Snapshot, manifest: Manifest, verify_hashes: bool) -> None:
    """Rules 3 to 7, as far as bundle.json tells."""
    used = [(f"files.{escape(path)}", path) for path in manifest.files]
    for name, tokenizer in manifest.tokenizers.items():
        used.append((f"tokenizers.{escape(name)}.file", tokenizer.file))
    for place, path in used:
        if fault := path_fault(path):
            raise BundleError(3, f"{MANIFEST}: {place}: path {quote(path)} {fault}")
        contained(snapshot.folder, path, f"{MANIFEST}: {place}")
    for path, entry in manifest.files.items():
        _check_file(snapshot, path, entry, verify_hashes)
    for i, name in enumerate(manifest.plans):
        used.append((f"plans[{i}]", f"plans/{name}.json"))
    for place, path in used:
        if path not in manifest.files:
            raise BundleError(4, f"{MANIFEST}: {place}: {quote(path)} is not listed in `files`")
    if len(set(manifest.plans)) < len(manifest.plans):
        raise BundleError(
            4, f"{MANIFEST}: plans: a name appears twice: {quote_names(manifest.plans)}"
        )
    for i, name in enumerate(manifest.plans):
        if fault := plan_name_fault(name):
            raise BundleError(5, f"{MANIFEST}: plans[{i}]: {fault}")
    for name in manifest.tokenizers:
        if fault := name_fault(name):
            raise BundleError(5, f"{MANIFEST}: tokenizers: {fault}")
    for name, tokenizer in manifest.tokenizers.items():
        if not 1 <= tokenizer.length <= _LONGEST_PROMPT:
            raise BundleError(
                7,
                f"{MANIFEST}: tokenizers.{name}.length: {tokenizer.length}, expected 1 to 2^20 "
                "ids a prompt",
            )


def contained(folder: Path, path: str, place: str) -> Path:
    """The file that `path` means, symbolic links followed, if it lies in the bundle (rule 3)."""
    if len(path) >= _LONGEST_PATH:  # no system opens it, and to follow its links takes seconds
        raise BundleError(0, f"{place}: {quote(path)} cannot be read: the name is too long")
    root = os.path.realpath(folder)
    real = os.path.realpath(folder / path)
    if not Path(real).is_relative_to(root):
        raise BundleError(
            3, f"{place}: a symbolic link leads {quote(path)} out of the bundle, to {quote(real)}"
        )
    return Path(real)


def _check_file(snapshot: Snapshot, path: str, entry: FileEntry, verify_hashes: bool) -> None:
    """Rule 4 for one file, which is known from then on."""
    place = f"{snapshot.folder / path}"
    with snapshot.note(path) or nullcontext() as file:
        if file is None:
            raise BundleError(4, f"{place}: is missing, or no plain file; copy the bundle again")
        if (size := os.fstat(file.fileno()).st_size) != entry.bytes:
            raise BundleError(
                4,
                f"{place}: {size} bytes, expected {entry.bytes}; cut or altered, copy the bundle "
                "again",
            )
        if verify_hashes and (digest := _sha256(file)) != entry.sha256:
            raise BundleError(
                4,
                f"{place}: SHA-256 {digest}, expected {entry.sha256}; altered, copy the bundle "
                "again",
            )


def read_json(file: BinaryIO) -> bytes:
    """The text of a file, up to one byte more than rule 1 lets through."""
    return file.read(min(os.fstat(file.fileno()).st_size, MAX_BYTES) + 1)


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
