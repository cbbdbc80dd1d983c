"""A diffusers folder: its configs, its modules with or without weights, and its tensors one by one.

Compiling needs the shapes of weights, never their numbers, so modules are made without any and
tensors are read when they are written out: a model of gigabytes is exported in little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.utils import logging as transformers_logging

from keepstep.runtime.tensors import TensorFile

from ..errors import ModelError

FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Checkpoint:
    """A diffusers folder on this machine; `name` is what the user called it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._modules: dict[str, nn.Module] = {}
        self._sources: dict[str, Mapping[str, Tensor] | _Files] = {}

    @staticmethod
    def find(model: str) -> Checkpoint:
        """The folder that `model` (a path, or a hub id) means; raises `ModelError`."""
        path = Path(model)
        if path.exists():
            if not (path / "model_index.json").is_file():
                raise ModelError(
                    f"{model}: no model_index.json there: give a diffusers folder, as made by "
                    "`pipeline.save_pretrained(…)`"
                )
            return Checkpoint(path, path.resolve().name)
        try:
            with quiet():
                return Checkpoint(Path(DiffusionPipeline.download(model)), model)
        except Exception as error:
            raise ModelError(
                f"{model}: is neither a folder nor a hub id within reach: {brief(error)}"
            ) from error

    @property
    def index(self) -> Mapping[str, Any]:
        """The content of model_index.json; raises `ModelError`."""
        return self._json("model_index.json")

    def config(self, component: str) -> Mapping[str, Any]:
        """The config of a component, without what does not shape it; raises `ModelError`."""
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        return {
            key: value
            for key, value in self._json(f"{component}/{name}").items()
            if not key.startswith("_") and key not in _UNSHAPING
        }

    def weightless(self, cls: Any, component: str, mode: FakeTensorMode) -> Any:
        """The module of a component, its weights fake tensors of `mode` in float32."""
        config = self._json(f"{component}/config.json")
        try:
            with quiet(), _fake_weights(mode):
                if hasattr(cls, "load_config"):
                    module = cls.from_config(dict(config))
                else:
                    module = cls(cls.config_class.from_dict(_in_float32(config)))
        except Exception as error:  # a config that its own class refuses raises many types
            raise self._refused(component, error) from error
        self._modules[component] = module
        return module.eval().requires_grad_(False)

    def loaded(self, cls: Any, component: str) -> Any:
        """The module of a component with its weights, in float32; raises `ModelError`."""
        # `low_cpu_mem_usage` would ask for `accelerate`.
        diffusers = hasattr(cls, "load_config")
        how: dict[str, object] = (
            {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
            if diffusers
            else {"dtype": torch.float32}
        )
        if diffusers and not any((self.folder / component).glob("*.safetensors")):
            how["use_safetensors"] = False  # else diffusers complains before it looks further
        if variant := _variant(self.folder / component):
            how["variant"] = variant
        try:
            with quiet():
                module = cls.from_pretrained(self.folder, subfolder=component, **how)
        except Exception as error:  # truncated, altered or missing files raise many types
            raise self._refused(component, error) from error
        self._modules[component] = module
        return module.eval().requires_grad_(False)

    def tokenizer(self, cls: Any, component: str) -> Any:
        """A tokenizer of the folder; raises `ModelError`."""
        try:
            with quiet():
                return cls.from_pretrained(self.folder, subfolder=component)
        except Exception as error:
            raise self._refused(component, error) from error

    def tensor(self, path: str) -> Tensor:
        """A weight by its path, such as `unet.conv_in.weight`, in the dtype in which it is stored.

        It is read anew each time, so that nothing stays in memory. Raises `ModelError`.
        """
        component, _, name = path.partition(".")
        if component not in self._sources:
            self._sources[component] = self._open(component)
        source = self._sources[component]
        try:
            return source[name] if isinstance(source, Mapping) else source.read(name)
        except (OSError, ValueError) as error:
            raise self._refused(component, error) from error

    def _open(self, component: str) -> Mapping[str, Tensor] | _Files:
        """The component's safetensors files where they name what the module does.

        Older files have other names (and other formats), which only its own loader knows.
        """
        module = self._modules[component]
        wanted = [name for name, _ in module.named_parameters()]
        try:
            files = _Files(self.folder / component, wanted)
        except (OSError, ValueError) as error:
            raise self._refused(component, error) from error
        if files.complete:
            return files
        loaded = self.loaded(type(module), component)
        self._modules[component] = module
        return dict(loaded.state_dict())

    def _json(self, path: str) -> dict[str, Any]:
        try:
            data = json.loads((self.folder / path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else brief(error)
            raise ModelError(
                f"{self.name}/{path}: cannot be read: {why}. Fetch or save the model again"
            ) from error
        if not isinstance(data, dict):
            raise ModelError(f"{self.name}/{path}: expected an object, found {type(data).__name__}")
        return data

    def _refused(self, component: str, error: Exception) -> ModelError:
        return ModelError(
            f"{self.name}/{component}: cannot be loaded: {brief(error)}. "
            "Fetch or save the model again"
        )


_UNSHAPING = {"architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path"}


class _Files:
    """The safetensors files of a component, looked up by the names of its module."""

    def __init__(self, folder: Path, wanted: list[str]) -> None:
        files = [TensorFile(path) for path in _weight_files(folder)]
        homes = {name: file for file in files for name in file.names}
        self._homes: dict[str, tuple[TensorFile, str]] = {}
        for name in wanted:
            for stored in (name, f"text_model.{name}", name.removeprefix("text_model.")):
                if stored in homes:
                    self._homes[name] = (homes[stored], stored)
                    break
        self.complete = len(self._homes) == len(wanted)

    def read(self, name: str) -> Tensor:
        """Read a tensor; raises `OSError` or `ValueError`."""
        file, stored = self._homes[name]
        kind = file.type(stored)
        if kind is None or kind.dtype not in FLOATS:
            raise ValueError(f"{stored} has dtype {kind and kind.dtype}, expected a float")
        return torch.from_numpy(file.read(stored)).view(FLOATS[kind.dtype])


def _weight_files(folder: Path) -> list[Path]:
    """The files of one variant of the weights: one file, or the shards of one."""
    variant = _variant(folder)
    files = sorted(folder.glob("*.safetensors"))
    return [file for file in files if (f".{variant}" in file.name) == bool(variant)]


def _variant(folder: Path) -> str | None:
    """`fp16` where only half of the precision is there."""
    names = [file.name for file in folder.glob("*.safetensors")]
    return "fp16" if names and all(".fp16" in name for name in names) else None


def _in_float32(config: dict[str, Any]) -> dict[str, Any]:
    """A transformers config that makes float32 modules, whatever is stored."""
    return {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}


@contextmanager
def _fake_weights(mode: FakeTensorMode) -> Iterator[None]:
    """While active, each parameter of a new module becomes fake as soon as it is there.

    Buffers stay real: they are computed, not loaded, and their numbers go into the graph.
    """
    register = nn.Module.register_parameter

    def fake(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            with mode:
                shape = torch.empty(parameter.shape, dtype=torch.float32)
            parameter = nn.Parameter(shape, requires_grad=False)
        register(self, name, parameter)

    nn.Module.register_parameter = fake  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and advice from the loaders: a command has its own progress."""
    libraries = (diffusers_logging, transformers_logging)
    levels = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()


def brief(error: BaseException) -> str:
    """The first line of an error's text, which for hub libraries can be a page long."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
