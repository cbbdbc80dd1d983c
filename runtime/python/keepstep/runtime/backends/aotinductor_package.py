"""Packages of AOTInductor: what they say of themselves, and how they are loaded and compared."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepstep.runtime.backends.session import interface_fault
from keepstep.runtime.errors import BackendError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.format.plan import Plan, TensorType
from keepstep.runtime.format.signature import signature_data, signature_from_data
from keepstep.runtime.memory.addresses import weight_addresses
from keepstep.runtime.memory.constants import ConstantPart
from keepstep.runtime.quoting import quote, sanitize

METADATA_KEY = "keepstep"  # of the package's metadata, beside those of PyTorch
_CPU_LEVELS = ("DEFAULT", "AVX2", "AVX512")  # each can do what those before it can


@dataclass(frozen=True)
class Interface:
    """What a package's function takes, in this order: a package knows no names.

    outputs   are overwritten
    layouts   weight → the order in which its axes lie in memory, where that is not the plan's
    """

    inputs: Mapping[str, TensorType]
    weights: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    layouts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def arguments(self) -> dict[str, TensorType]:
        """All of them in order, as they lie in memory."""
        weights = {name: self._laid_out(name, type_) for name, type_ in self.weights.items()}
        return {**self.inputs, **weights, **self.outputs}

    def _laid_out(self, name: str, type_: TensorType) -> TensorType:
        axes = self.layouts.get(name, range(len(type_.shape)))
        return TensorType(type_.dtype, tuple(type_.shape[axis] for axis in axes))


@dataclass(frozen=True, eq=False)
class Package:
    """A loaded package; `run` takes tensors in the order of the interface."""

    interface: Interface
    loader: Any

    def run(self, tensors: Sequence[Any]) -> None:
        """Compute the outputs; on a GPU it is only enqueued, on PyTorch's current stream."""
        self.loader.run(tensors)


def interface_text(interface: Interface) -> str:
    """An interface as what a package's metadata can hold."""
    return json.dumps(
        {
            "inputs": signature_data(interface.inputs),
            "weights": signature_data(interface.weights),
            "outputs": signature_data(interface.outputs),
            "layouts": interface.layouts,
        }
    )


def interface_from_text(text: str) -> Interface:
    """The interface of which this is the text. Raises `ValueError`, `KeyError` or `TypeError`."""
    data = json.loads(text)
    return Interface(
        inputs=signature_from_data(data["inputs"]),
        weights=signature_from_data(data["weights"]),
        outputs=signature_from_data(data["outputs"]),
        layouts={name: tuple(axes) for name, axes in data["layouts"].items()},
    )


def load_package(bundle: BundleFolder, plan: Plan, name: str, path: str, device: str) -> Package:
    """The package of the stage `name`, for `device`: cpu or cuda.

    Raises `BackendError` for one that was made for another machine, or is not the stage's.
    """
    place = f"bundle {bundle.path}: stage {quote(name)} ({path})"
    data = bundle.read(path)
    try:
        said = _metadata(data)
        interface = interface_from_text(said[METADATA_KEY])
    except (ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise BackendError(
            f"{place} does not say what it takes ({error!r}): keepstep did not make it; export "
            "the bundle again"
        ) from error
    if fault := machine_fault(said, device):  # before any of its code is loaded
        raise BackendError(f"{place} {fault}")
    stage = plan.stages[name]
    weights = {tensor: plan.values[value].type for tensor, value in stage.weights.items()}
    taken = {tensor: weights[tensor] for tensor in interface.weights if tensor in weights}
    for what, expected, found in (
        ("inputs", stage.inputs, interface.inputs),
        ("weights", taken, interface.weights),
        ("outputs", stage.outputs, interface.outputs),
    ):
        if fault := interface_fault(expected, found):
            raise BackendError(f"{place}: {what}: {fault}; export the bundle again")
    return Package(interface, _loaded(data, place))


def launches(
    plan: Plan,
    packages: Mapping[str, Package],
    addresses: Sequence[Mapping[str, int]],
    constants: Mapping[ConstantPart, int],
    tensor_at: Callable[[int, TensorType], Any],
) -> list[list[Any]]:
    """What each call hands to its stage's package; a stage's weights are the same in all of them.

    addresses   of every tensor of every call
    constants   the address of each part
    tensor_at   PyTorch's tensor over memory that it does not own
    """
    arguments = {name: package.interface.arguments for name, package in packages.items()}
    weights = {
        name: {
            tensor: tensor_at(address, arguments[name][tensor])
            for tensor, address in weight_addresses(plan, name, constants).items()
            if tensor in package.interface.weights
        }
        for name, package in packages.items()
    }
    made = []
    for call, bound in zip(plan.calls, addresses, strict=True):
        types, shared = arguments[call.stage], weights[call.stage]
        own = {tensor: tensor_at(address, types[tensor]) for tensor, address in bound.items()}
        made.append([{**shared, **own}[name] for name in types])
    return made


def machine_fault(said: Mapping[str, str], device: str) -> str | None:
    """Why a package cannot run on this machine, by what it says of the one that made it."""
    import torch
    from torch.backends.cpu import get_cpu_capability

    made_for = said.get("AOTI_DEVICE_KEY")
    if made_for != device:
        return f"was compiled for {made_for}, and {device} plays; export the bundle again"
    if device == "cuda":
        own = "{}{}".format(*torch.cuda.get_device_capability(0))
        built = said.get("AOTI_COMPUTE_CAPABILITY") or own
        if built != own:
            return (
                f"was compiled for a GPU of compute capability {_dotted(built)}, and "
                f"{torch.cuda.get_device_name(0)} has {_dotted(own)}; export the bundle here"
            )
        return None
    built, own = _level(said.get("AOTI_CPU_ISA", "")), get_cpu_capability()
    if own in _CPU_LEVELS and _CPU_LEVELS.index(built) > _CPU_LEVELS.index(own):
        return f"was compiled for CPUs with {built}, and this one has {own}; export the bundle here"
    return None


def open_package(file: str) -> Any:
    """PyTorch's loader of a package. Raises `RuntimeError`."""
    from torch._C._aoti import AOTIModelPackageLoader

    # Single-threaded: a session launches one call at a time, and no event or lock of the loader is
    # to get between the launches that a graph captures.
    return AOTIModelPackageLoader(file, "model", True, 1, -1)


def _metadata(data: bytes) -> Mapping[str, str]:
    """What a package says of itself. Raises `BadZipFile`, `KeyError` or `ValueError`."""
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        files = [name for name in package.namelist() if name.endswith("_metadata.json")]
        if not files:
            raise KeyError("metadata")
        return dict(json.loads(package.read(files[0])))


def _loaded(data: bytes, place: str) -> Any:
    """What PyTorch makes of the bytes that were checked; it reads files only."""
    with tempfile.TemporaryDirectory(prefix="keepstep-") as folder:
        file = Path(folder) / "stage.pt2"
        file.write_bytes(data)
        try:
            return open_package(str(file))
        except (RuntimeError, OSError) as error:
            raise BackendError(
                f"{place} cannot be loaded by PyTorch: {sanitize(error)}; export the bundle again"
            ) from error


def _level(isa: str) -> str:
    """The class of an instruction set such as "AVX512 AVX512_VNNI"."""
    words = isa.upper().split()
    return next((level for level in reversed(_CPU_LEVELS) if level in words), "DEFAULT")


def _dotted(capability: str) -> str:
    return f"{capability[:-1]}.{capability[-1:]}"
