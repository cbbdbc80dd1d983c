"""A bundle: a folder of plans, their constants and the engines that they share."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keepstep.runtime.errors import BundleError, InputError
from keepstep.runtime.files import open_regular
from keepstep.runtime.lora import merged_weights
from keepstep.runtime.lora_file import Source
from keepstep.runtime.paths import path_fault
from keepstep.runtime.plan import FileEntry, Manifest, Plan, TensorType
from keepstep.runtime.plan_json import manifest_from_json, plan_from_json
from keepstep.runtime.rules_values import name_fault, plan_name_fault, plan_paths
from keepstep.runtime.strict_json import MAX_BYTES
from keepstep.runtime.tensors import TensorFile
from keepstep.runtime.tokenizer import PromptTokenizer
from keepstep.runtime.validate import check_plan
from keepstep.runtime.wording import bare, did_you_mean, listed, shown

if TYPE_CHECKING:
    from keepstep.runtime.player import Player

_MANIFEST = "bundle.json"
_CHUNK = 2**20  # bytes hashed at a time
_LONGEST_PATH = 4096  # bytes, where no system has more


class Bundle:
    """A bundle whose files have been found whole; make one with `Bundle.open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._plans: dict[str, Plan] = {}
        self._tensor_files: dict[str, TensorFile] = {}
        self._merged: dict[tuple[str, str], np.ndarray] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify_hashes: bool = True) -> Bundle:
        """Read bundle.json and check every file that it lists (rules 1 to 5).

        `verify_hashes=False` compares sizes only, for files known to be whole.
        Raises `BundleError`.
        """
        folder = Path(path)
        try:
            if not folder.is_dir():
                raise BundleError(0, f"{folder}: there is no such folder; expected a bundle")
            if not (folder / _MANIFEST).is_file():
                raise BundleError(
                    0,
                    f"{folder}: no {_MANIFEST} in it, or no plain file, so it is no bundle; "
                    "make one with `keepstep export`",
                )
            manifest = manifest_from_json(_read_json(_contained(folder, _MANIFEST, _MANIFEST)))
            _check_manifest(folder, manifest, verify_hashes)
        except OSError as error:
            raise BundleError(0, f"{folder}: cannot be read: {error}") from error
        return cls(folder.absolute(), manifest)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """The content of bundle.json."""
        return self._manifest

    @property
    def plans(self) -> tuple[str, ...]:
        """The names of the plans."""
        return self._manifest.plans

    def plan(self, name: str) -> Plan:
        """Give a plan, parsed and checked when it is first asked for.

        Raises `InputError` for an unknown name and `BundleError` for a plan that breaks a rule.
        """
        if name not in self._plans:
            if name not in self.plans:
                hint = did_you_mean(str(name), self.plans)
                raise InputError(
                    f"bundle {self._path} has no plan {shown(name)}{hint}; "
                    f"its plans: {listed(self.plans)}"
                )
            self._plans[name] = self._read_plan(name)
        return self._plans[name]

    def array(self, file: str, tensor: str) -> np.ndarray:
        """Give a tensor of a safetensors file of the bundle, read-only; bfloat16 as uint16.

        It is mapped once and shared by all plans and players. Raises `BundleError`.
        """
        if (file, tensor) in self._merged:
            return self._merged[file, tensor]
        place = f"{self._path / file}"
        tensors = self._tensors(file)
        try:
            return tensors.array(tensor)
        except KeyError:
            raise BundleError(10, f"{place}: holds no tensor {shown(tensor)}") from None
        except ValueError as error:
            raise BundleError(10, f"{place}: {error}, which plans do not know") from error

    def golden(self, name: str) -> Mapping[str, np.ndarray]:
        """Give the inputs of plan `name` and the outputs that they must give.

        Raises `InputError` when the bundle has none.
        """
        file = f"golden/{name}.safetensors"
        if file not in self._manifest.files:
            known = [path for path in self._manifest.files if path.startswith("golden/")]
            raise InputError(
                f"bundle {self._path} has no golden values {shown(file)}; it has {listed(known)}"
            )
        return {tensor: self.array(file, tensor) for tensor in self._tensors(file).names}

    @cached_property
    def tokenizers(self) -> Mapping[str, PromptTokenizer]:
        """What turns prompts into token ids, by the input that takes them; empty without text."""
        return {
            name: PromptTokenizer(self.file(entry.file), entry.length, entry.pad)
            for name, entry in self._manifest.tokenizers.items()
        }

    def file(self, path: str) -> Path:
        """Where on this machine a file of the bundle lies. Raises `BundleError` (rules 3, 4)."""
        if path not in self._manifest.files:
            raise BundleError(4, f"{self._path}: {shown(path)} is not listed in {_MANIFEST}")
        return _contained(self._path, path, _MANIFEST)

    def player(
        self, plan: str, backend: str = "onnxruntime", *, threads: int | None = None
    ) -> Player:
        """Load a plan for playing.

        `threads` is how many CPU threads one launch may use; the backend chooses when it is None.
        Raises `InputError`, `BundleError` or `BackendError`.
        """
        from keepstep.runtime.player import Player

        return Player(self, self.plan(plan), backend, threads=threads)

    def with_loras(self, loras: Iterable[tuple[Source, float]]) -> Bundle:
        """Give a bundle whose weights have these LoRAs added; all else is shared with this one.

        Each LoRA is a safetensors file, or its tensors by name, with its scale:
        `bundle.with_loras([("style.safetensors", 0.8)])`. Several add up. Nothing is built and
        nothing is written. Raises `InputError` for what is no LoRA, or not one for this model.
        """
        other = copy.copy(self)
        other._merged = {**self._merged, **merged_weights(self, loras)}
        return other

    def _read_plan(self, name: str) -> Plan:
        where = f"plans/{name}.json"
        try:
            plan = plan_from_json(_read_json(self.file(where)), where)
            for place, path in plan_paths(plan):
                if fault := path_fault(path):
                    raise BundleError(3, f"{where}: {place}: path {shown(path)} {fault}")
                _contained(self._path, path, f"{where}: {place}")
            for place, path in plan_paths(plan):
                if path not in self._manifest.files:
                    raise BundleError(
                        4, f"{where}: {place}: {shown(path)} is not listed in {_MANIFEST}"
                    )
            if plan.name != name:
                raise BundleError(4, f"{where}: name: expected {name!r}, found {shown(plan.name)}")
        except OSError as error:
            raise BundleError(0, f"{self._path / where}: cannot be read: {error}") from error
        check_plan(plan, self._tensor_type, where=where)
        return plan

    def _tensor_type(self, file: str, tensor: str) -> TensorType | None:
        return self._tensors(file).type(tensor)

    def _tensors(self, file: str) -> TensorFile:
        if file not in self._tensor_files:
            try:
                self._tensor_files[file] = TensorFile(self.file(file))
            except (ValueError, OSError) as error:
                raise BundleError(10, f"{self._path / file}: {error}") from error
        return self._tensor_files[file]


def _check_manifest(folder: Path, manifest: Manifest, verify_hashes: bool) -> None:
    """Rules 3 to 5, as far as bundle.json tells."""
    used = [(f"files.{bare(path)}", path) for path in manifest.files]
    for name, tokenizer in manifest.tokenizers.items():
        used.append((f"tokenizers.{bare(name)}.file", tokenizer.file))
    for place, path in used:
        if fault := path_fault(path):
            raise BundleError(3, f"{_MANIFEST}: {place}: path {shown(path)} {fault}")
        _contained(folder, path, f"{_MANIFEST}: {place}")
    for path, entry in manifest.files.items():
        _check_file(folder, path, entry, verify_hashes)
    for i, name in enumerate(manifest.plans):
        used.append((f"plans[{i}]", f"plans/{name}.json"))
    for place, path in used:
        if path not in manifest.files:
            raise BundleError(4, f"{_MANIFEST}: {place}: {shown(path)} is not listed in `files`")
    if len(set(manifest.plans)) < len(manifest.plans):
        raise BundleError(4, f"{_MANIFEST}: plans: a name appears twice: {listed(manifest.plans)}")
    for i, name in enumerate(manifest.plans):
        if fault := plan_name_fault(name):
            raise BundleError(5, f"{_MANIFEST}: plans[{i}]: {fault}")
    for name in manifest.tokenizers:
        if fault := name_fault(name):
            raise BundleError(5, f"{_MANIFEST}: tokenizers: {fault}")


def _contained(folder: Path, path: str, place: str) -> Path:
    """The file that `path` means, symbolic links followed, if it lies in the bundle (rule 3)."""
    if len(path) >= _LONGEST_PATH:  # no system opens it, and to follow its links takes seconds
        raise BundleError(0, f"{place}: {shown(path)} cannot be read: the name is too long")
    root = os.path.realpath(folder)
    real = os.path.realpath(folder / path)
    if not Path(real).is_relative_to(root):
        raise BundleError(
            3, f"{place}: a symbolic link leads {shown(path)} out of the bundle, to {shown(real)}"
        )
    return Path(real)


def _check_file(folder: Path, path: str, entry: FileEntry, verify_hashes: bool) -> None:
    """Rule 4 for one file."""
    file = folder / path
    if not file.is_file():
        raise BundleError(4, f"{file}: is missing, or no plain file; copy the bundle again")
    if (size := file.stat().st_size) != entry.bytes:
        raise BundleError(
            4,
            f"{file}: {size} bytes, expected {entry.bytes}; cut or altered, copy the bundle again",
        )
    if verify_hashes and (digest := _sha256(file)) != entry.sha256:
        raise BundleError(
            4, f"{file}: SHA-256 {digest}, expected {entry.sha256}; altered, copy the bundle again"
        )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(file) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read_json(file: Path) -> bytes:
    """The text of a file, up to one byte more than rule 1 lets through."""
    with open_regular(file) as stream:
        return stream.read(MAX_BYTES + 1)
