"""The tensors of a component as its files hold them, under the names that its module has.

Names, shapes and dtypes are compared with the module before anything slow happens: a config and
weights that do not belong together are told in one line that names the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from keepstep.runtime.folder.tensors import TensorFile
from keepstep.runtime.quoting import quote, quote_names

from ..errors import ModelError
from ..folder.small_json import AGAIN
from ..folder.weight_files import Weights

FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Stored:
    """One tensor: the file it is in, its name there, its dtype and shape."""

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]


def stored_tensors(weights: Weights) -> dict[str, Stored]:
    """All tensors of a component by the names in its files, of which only headers are read.

    Raises `ValueError` and `OSError` for files that are none, and what PyTorch raises for pickles.
    """
    found: dict[str, Stored] = {}
    read = _pickled if weights.pickled else _header
    for path in weights.paths:
        for name, (dtype, shape) in read(path).items():
            if weights.homes is not None and weights.homes.get(name, path.name) != path.name:
                raise ValueError(
                    f"{quote(name)} is in {path.name}, but the index says {weights.homes[name]}"
                )
            found[name] = Stored(path.name, name, dtype, shape)
    if weights.homes is not None:
        missing = [name for name in weights.homes if name not in found]
        if missing:
            raise ValueError(f"{quote_names(missing)} not in the files that the index names")
        found = {name: found[name] for name in weights.homes}  # the index alone says what is there
    return found


def by_module_names(
    module: nn.Module, stored: Mapping[str, Stored], where: str
) -> dict[str, Stored]:
    """What the module's parameters are read from, by their names; all fit.

    Older files have other names, which the libraries' own loaders know. Raises `ModelError` for
    tensors that are not there, or are of another shape or dtype than the module's.
    """
    named = {name: name for name in stored}
    if rename := getattr(module, "_fix_state_dict_keys_on_load", None):
        rename(named)  # diffusers' own, for attention of old VAEs: it only moves values
    found = {}
    parameters = module.named_parameters(remove_duplicate=False)
    for name, parameter in (*parameters, *_stored_buffers(module)):
        # Versions of transformers differ in whether text encoders have this prefix; T5's embedding
        # is a parameter of two names.
        names: tuple[str, ...] = (name, f"text_model.{name}", name.removeprefix("text_model."))
        names += _T5_EMBEDDING if name in _T5_EMBEDDING else ()
        home = next((stored[named[each]] for each in names if each in named), None)
        wanted = list(parameter.shape)
        if home is None:
            files = quote_names(sorted({each.file for each in stored.values()}))
            raise ModelError(
                f"{where}: cannot be loaded: config.json needs a tensor {quote(name)} of shape "
                f"{wanted}, which is not in {files}. {AGAIN}"
            )
        if list(home.shape) != wanted:
            raise ModelError(
                f"{where}: cannot be loaded: {quote(home.name)} has shape {_shape(home.shape)} in "
                f"{home.file}, but config.json makes it {wanted}. {AGAIN}"
            )
        if home.dtype not in FLOATS:
            raise ModelError(
                f"{where}: cannot be loaded: {quote(home.name)} has dtype {quote(home.dtype)} in "
                f"{home.file}, expected one of {', '.join(FLOATS)}: save the model in one of them"
            )
        found[name] = home
    return found


_T5_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")


def _stored_buffers(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Those that files have, such as the positions of Stable Diffusion 3; no counters and ids."""
    stored = module.state_dict().keys()
    return [(n, b) for n, b in module.named_buffers() if n in stored and b.is_floating_point()]


def outline(make: Callable[[], nn.Module], most: int) -> nn.Module:
    """The module that `make` makes, of shapes alone, however large its config says it is.

    Raises `ValueError` as soon as it has more than `most` parameters.
    """
    register = nn.Module.register_parameter
    count = 0

    def counted(self: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal count
        count += parameter is not None
        if count > most:
            raise ValueError(
                f"config.json makes more than {most} tensors, far more than are stored"
            )
        register(self, name, parameter)

    nn.Module.register_parameter = counted  # type: ignore[method-assign, assignment]
    try:
        with torch.device("meta"):
            return make()
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _header(path: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    file = TensorFile(path)
    kinds = {name: file.type(name) for name in file.names}
    return {name: (kind.dtype, kind.shape) for name, kind in kinds.items() if kind}


def _pickled(path: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Without its numbers, and without running any code of the file."""
    data = torch.load(path, map_location="meta", weights_only=True)
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} holds a {type(data).__name__}, expected tensors by name")
    return {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in data.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


def _shape(shape: tuple[int, ...]) -> str:
    return quote(list(shape)).replace("'", "")
