"""A diffusers folder: its configs, its modules with or without weights, and its tensors one by one.

Compiling needs the shapes of weights, never their numbers, so modules are made without any and
tensors are read when they are written out: a model of gigabytes is exported in little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from keepstep.runtime.folder.tensors import TensorFile

from ..errors import ModelError
from ..folder.hub import brief, quiet
from ..folder.model_folder import ModelFolder
from ..folder.small_json import AGAIN
from .stored import FLOATS, Stored, by_module_names, outline, stored_tensors

__all__ = ["FLOATS", "Checkpoint"]


class Checkpoint:
    """A diffusers folder on this machine; `name` is what the user called it."""

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.name = folder.name
        self._classes: dict[str, Any] = {}
        self._homes: dict[str, dict[str, Stored]] = {}
        self._files: dict[Path, TensorFile] = {}
        self._pickles: dict[str, Mapping[str, Tensor]] = {}

    @property
    def index(self) -> Mapping[str, Any]:
        """The content of model_index.json; raises `ModelError`."""
        return self.folder.index

    def has(self, component: str) -> bool:
        """Whether the pipeline has this component."""
        return component in self.folder.weights

    def config(self, component: str) -> Mapping[str, Any]:
        """The config of a component, without what does not shape it; raises `ModelError`."""
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        return {
            key: value
            for key, value in self.folder.json(f"{component}/{name}").items()
            if not key.startswith("_") and key not in _UNSHAPING
        }

    def weightless(self, cls: Any, component: str, mode: FakeTensorMode) -> Any:
        """The module of a component, its weights fake tensors of `mode` in float32.

        Raises `ModelError`, also where the stored weights are not those of such a module.
        """
        self._check(cls, component)
        try:
            with quiet(), _fake_weights(mode):
                module = self._unloaded(cls, component)
        except Exception as error:  # a config that its own class refuses raises many types
            raise self._refused(component, error) from error
        return module.eval().requires_grad_(False)

    def loaded(self, cls: Any, component: str) -> Any:
        """The module of a component with its weights, in float32; raises `ModelError`."""
        self._check(cls, component)
        # `low_cpu_mem_usage` would ask for `accelerate`.
        how: dict[str, object] = (
            {
                "torch_dtype": torch.float32,
                "low_cpu_mem_usage": False,
                "use_safetensors": not self.folder.weights[component].pickled,
            }
            if hasattr(cls, "load_config")
            else {"dtype": torch.float32}
        )
        try:
            with quiet(), self._alone(component) as folder:
                module = cls.from_pretrained(folder, **how)
        except Exception as error:  # truncated, altered or missing files raise many types
            raise self._refused(component, error) from error
        return module.eval().requires_grad_(False)

    def tokenizer(self, cls: Any, component: str) -> Any:
        """A tokenizer of the folder; raises `ModelError`."""
        try:
            with quiet(), self._alone(component) as folder:
                return cls.from_pretrained(folder)
        except Exception as error:
            raise self._refused(component, error) from error

    def tensor(self, path: str) -> Tensor:
        """A weight by its path, such as `unet.conv_in.weight`, in the dtype in which it is stored.

        It is read anew each time, so that nothing stays in memory. Raises `ModelError`.
        """
        component, _, name = path.partition(".")
        weights = self.folder.weights[component]
        if weights.pickled:
            if component not in self._pickles:
                module = self.loaded(self._classes[component], component)
                self._pickles[component] = dict(module.state_dict())
            return self._pickles[component][name]
        home = self._homes[component][name]
        file = weights.folder / home.file
        try:
            if file not in self._files:
                self._files[file] = TensorFile(file)
            return torch.from_numpy(self._files[file].read(home.name)).view(FLOATS[home.dtype])
        except (OSError, ValueError) as error:
            raise self._refused(component, error) from error

    def _check(self, cls: Any, component: str) -> None:
        """Compare what is stored with what the config makes, once."""
        if component in self._homes:
            return
        where = f"{self.name}/{component}"
        if component not in self.folder.weights:
            raise ModelError(f"{where}: not in model_index.json, but needed. {AGAIN}")
        try:
            stored = stored_tensors(self.folder.weights[component])
            with quiet():
                module = outline(
                    lambda: self._unloaded(cls, component), most=1000 + 2 * len(stored)
                )
        except Exception as error:  # files that are cut, configs that their own class refuses
            raise self._refused(component, error) from error
        self._homes[component] = by_module_names(module, stored, where)
        self._classes[component] = cls

    def _unloaded(self, cls: Any, component: str) -> Any:
        """What the config of a component makes, before any weights are loaded."""
        config = self.folder.json(f"{component}/config.json")
        if hasattr(cls, "load_config"):
            return cls.from_config(config)
        return cls(cls.config_class.from_dict(_in_float32(config)))

    @contextmanager
    def _alone(self, component: str) -> Iterator[Path]:
        """A folder for the libraries' loaders, in which is nothing but what was chosen.

        So they have no choice of their own, and open nothing that has not been looked at.
        """
        with TemporaryDirectory(prefix="keepstep-") as made:
            folder = Path(made)
            for name, text in self.folder.texts_of(component).items():
                (folder / name).write_bytes(text)
            weights = self.folder.weights.get(component)
            if weights is None:
                yield folder
                return
            ending = ".bin" if weights.pickled else ".safetensors"
            plain = f"{weights.stem}{ending}"
            for file in weights.files:
                link = folder / (file if weights.homes else plain)
                link.symlink_to((weights.folder / file).resolve())
            if weights.homes:
                index = {"metadata": {}, "weight_map": dict(weights.homes)}
                (folder / f"{plain}.index.json").write_text(json.dumps(index), encoding="utf-8")
            yield folder

    def _refused(self, component: str, error: Exception) -> ModelError:
        return ModelError(f"{self.name}/{component}: cannot be loaded: {brief(error)}. {AGAIN}")


_UNSHAPING = {"architectures", "dtype", "torch_dtype", "transformers_version", "name_or_path"}


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
