"""A bundle's folder: plans, their constants and the engines that they share."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from keepstep.runtime.errors import BundleError, InputError
from keepstep.runtime.folder.bundle_files import MANIFEST, contained, read_json, read_manifest
from keepstep.runtime.folder.snapshot import Snapshot
from keepstep.runtime.folder.tensors import TensorFile
from keepstep.runtime.folder.tokenizer import PromptTokenizer
from keepstep.runtime.format.paths import path_fault
from keepstep.runtime.format.plan import Manifest, Plan, TensorType
from keepstep.runtime.format.plan_json import plan_from_json
from keepstep.runtime.format.rules_values import plan_paths
from keepstep.runtime.format.validate import check_plan
from keepstep.runtime.quoting import did_you_mean, quote, quote_names

_ATTEMPTS = 10  # at opening a folder that is exchanged meanwhile


class BundleFolder:
    """A bundle whose files have been found whole; `Bundle` is one that can be played.

    It stays what it was when it was opened: where its folder is exchanged, or a file of it, what
    has not been read by then is refused as a `BundleError`.
    """

    def __init__(self, snapshot: Snapshot, manifest: Manifest, verify_hashes: bool) -> None:
        self._snapshot = snapshot
        self._manifest = manifest
        self._verify_hashes = verify_hashes
        self._plans: dict[str, Plan] = {}
        self._tensor_files: dict[str, TensorFile] = {}
        self._replaced: dict[tuple[str, str], np.ndarray] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, verify_hashes: bool = True) -> Self:
        """Read bundle.json and check every file that it lists (rules 1 to 7).

        `verify_hashes=False` compares sizes only, for files known to be whole.
        Raises `BundleError`.
        """
        folder = Path(path)
        try:
            for _ in range(_ATTEMPTS):
                if not folder.is_dir():
                    raise BundleError(0, f"{folder}: there is no such folder; expected a bundle")
                snapshot = Snapshot(folder)
                try:
                    return cls(snapshot, read_manifest(snapshot, verify_hashes), verify_hashes)
                except (BundleError, OSError):
                    if snapshot.is_in_place:
                        raise
        except OSError as error:
            raise BundleError(0, f"{folder}: cannot be read: {error}") from error
        raise BundleError(
            0,
            f"{folder}: was exchanged {_ATTEMPTS} times while it was opened; open it again when "
            "that has come to an end",
        )

    @property
    def path(self) -> Path:
        """The folder."""
        return self._snapshot.folder

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
                    f"bundle {self.path} has no plan {quote(name)}{hint}; "
                    f"its plans: {quote_names(self.plans)}"
                )
            self._plans[name] = self._read_plan(name)
        return self._plans[name]

    def array(self, file: str, tensor: str) -> np.ndarray:
        """Give a tensor of a safetensors file of the bundle, read-only; bfloat16 as uint16.

        It is mapped once and shared by all plans and players. Raises `BundleError`.
        """
        if (file, tensor) in self._replaced:
            return self._replaced[file, tensor]
        place = f"{self.path / file}"
        tensors = self._tensors(file)
        try:
            return tensors.array(tensor)
        except KeyError:
            raise BundleError(10, f"{place}: holds no tensor {quote(tensor)}") from None
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
                f"bundle {self.path} has no golden values {quote(file)}; it has "
                f"{quote_names(known)}"
            )
        return {tensor: self.array(file, tensor) for tensor in self._tensors(file).names}

    @cached_property
    def tokenizers(self) -> Mapping[str, PromptTokenizer]:
        """What turns prompts into token ids, by the input that takes them; empty without text."""
        return {
            name: PromptTokenizer(
                f"{self.path / entry.file}", self.read(entry.file), entry.length, entry.pad
            )
            for name, entry in self._manifest.tokenizers.items()
        }

    def file(self, path: str) -> Path:
        """Where on this machine a file of the bundle lies.

        It is the one that was opened, now; what is read from it should come from `read`.
        Raises `BundleError` (rules 3, 4).
        """
        self._check_listed(path)
        file = contained(self.path, path, MANIFEST)
        self._snapshot.check_name(path, file)
        return file

    def read(self, path: str) -> bytes:
        """The bytes of a file of the bundle, the ones that were found whole. Raises `BundleError`.

        Their SHA-256 is compared once more, unless the bundle was opened without that.
        """
        self._check_listed(path)
        try:
            with self._snapshot.open(path) as file:
                data = file.read()
        except OSError as error:
            raise BundleError(0, f"{self.path / path}: cannot be read: {error}") from error
        expected = self._manifest.files[path].sha256
        if self._verify_hashes and hashlib.sha256(data).hexdigest() != expected:
            raise self._snapshot.replaced(path)
        return data

    def with_arrays(self, arrays: Mapping[tuple[str, str], np.ndarray]) -> Self:
        """Give a bundle with these arrays, by file and tensor; all else is shared with this one."""
        other = copy.copy(self)
        other._replaced = {**self._replaced, **arrays}
        return other

    def _check_listed(self, path: str) -> None:
        if path not in self._manifest.files:
            raise BundleError(4, f"{self.path}: {quote(path)} is not listed in {MANIFEST}")

    def _read_plan(self, name: str) -> Plan:
        where = f"plans/{name}.json"
        try:
            self._check_listed(where)
            with self._snapshot.open(where) as file:
                plan = plan_from_json(read_json(file), where)
            for place, path in plan_paths(plan):
                if fault := path_fault(path):
                    raise BundleError(3, f"{where}: {place}: path {quote(path)} {fault}")
                contained(self.path, path, f"{where}: {place}")
            for place, path in plan_paths(plan):
                if path not in self._manifest.files:
                    raise BundleError(
                        4, f"{where}: {place}: {quote(path)} is not listed in {MANIFEST}"
                    )
            if plan.name != name:
                raise BundleError(4, f"{where}: name: expected {name!r}, found {quote(plan.name)}")
        except OSError as error:
            raise BundleError(0, f"{self.path / where}: cannot be read: {error}") from error
        check_plan(plan, self._tensor_type, where=where)
        return plan

    def _tensor_type(self, file: str, tensor: str) -> TensorType | None:
        return self._tensors(file).type(tensor)

    def _tensors(self, file: str) -> TensorFile:
        if file not in self._tensor_files:
            try:
                self._check_listed(file)
                opened = self._snapshot.open(file)
                self._tensor_files[file] = TensorFile(self.path / file, opened)
            except (ValueError, OSError) as error:
                raise BundleError(10, f"{self.path / file}: {error}") from error
        return self._tensor_files[file]
