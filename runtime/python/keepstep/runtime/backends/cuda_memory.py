"""The values of a plan in a GPU's memory: one arena, and constants that players share."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from cuda.core import Buffer
from cuda.core.utils import StridedMemoryView

from keepstep.runtime.backends import SupportsDLPack
from keepstep.runtime.backends.cuda import DeviceMemory, Stream
from keepstep.runtime.errors import InputError
from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.folder.tensors import numpy_dtype
from keepstep.runtime.format.plan import Plan
from keepstep.runtime.format.rules_values import type_text
from keepstep.runtime.memory.constants import ConstantPart, constant_parts, host_array
from keepstep.runtime.memory.inputs import device_fault
from keepstep.runtime.quoting import quote, sanitize


class DeviceArray(DeviceMemory):
    """A host array's copy on the device."""

    def __init__(
        self, array: np.ndarray, stream: Stream, axes: tuple[int, ...] | None = None
    ) -> None:
        super().__init__(array.nbytes)
        self.source = array  # its address is what this copy is known by
        stream.upload(self.address, array if axes is None else array.transpose(axes))


# By the host array's address, size and order of axes: plans, players, and bundles that differ by a
# LoRA share what they have in common, for as long as any of them uses it.
_uploaded: WeakValueDictionary[tuple[object, ...], DeviceArray] = WeakValueDictionary()
_uploading = Lock()


def uploaded(array: np.ndarray, stream: Stream, axes: tuple[int, ...] | None = None) -> DeviceArray:
    """The copy of a constant on the device, its axes in another order if that is given.

    Made if no player has one.
    """
    key = (array.ctypes.data, array.nbytes, axes)
    with _uploading:
        copy = _uploaded.get(key)
        if copy is None:
            copy = _uploaded[key] = DeviceArray(array, stream, axes)
        return copy


class DeviceValues:
    """Everything that a plan's calls read and write."""

    def __init__(
        self,
        bundle: BundleFolder,
        plan: Plan,
        stream: Stream,
        layouts: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._plan = plan
        self._stream = stream
        self._arena: DeviceMemory | None = DeviceMemory(plan.arena_bytes)
        stream.zero(self.arena, plan.arena_bytes)
        self._constants = {
            part: uploaded(host_array(bundle, plan, part), stream, layouts.get(part.value))
            for part in constant_parts(plan)
        }

    @property
    def arena(self) -> int:
        """The address of the arena."""
        assert self._arena is not None, "closed"
        return self._arena.address

    @property
    def constants(self) -> Mapping[ConstantPart, int]:
        """The address of every part of a constant that is used."""
        return {part: copy.address for part, copy in self._constants.items()}

    def constant(self, part: ConstantPart) -> SupportsDLPack:
        """A part of a constant itself; bfloat16 as uint16."""
        copy = self._constants[part]
        return _view(copy.address, copy.source, copy)

    @property
    def bytes(self) -> int:
        """Of the arena and the constants."""
        return self._plan.arena_bytes + sum(copy.bytes for copy in self._constants.values())

    def write(self, name: str, array: SupportsDLPack) -> None:
        """Copy an array of the host, checked already, or of the device, checked here."""
        type_ = self._plan.values[name].type
        if isinstance(array, np.ndarray):
            self._stream.upload(self._address(name), array)
            return
        try:
            view = StridedMemoryView.from_dlpack(array, self._stream.handle)
            found, shape, strides = view.dtype, tuple(view.shape), view.strides
        except Exception as error:  # the other library's as well
            raise InputError(
                f"input {quote(name)}: cannot be taken by DLPack: {sanitize(error)}"
            ) from error
        fault = device_fault(str(found), shape, strides, type_)
        if fault is None and view.device_id != 0:
            fault = f"lies on GPU {view.device_id}, and GPU 0 plays"
        if fault:
            raise InputError(f"input {quote(name)}: expected {type_text(type_)}, but it {fault}")
        self._stream.copy(self._address(name), view.ptr, type_.bytes)
        self._stream.wait()  # the caller may free it now

    def read(self, name: str) -> np.ndarray:
        """A copy in host memory."""
        type_ = self._plan.values[name].type
        array = np.empty(type_.shape, numpy_dtype(type_.dtype))
        self._stream.download(array, self._address(name))
        return array

    def view(self, name: str) -> SupportsDLPack:
        """The value itself; bfloat16 as uint16."""
        type_ = self._plan.values[name].type
        like = np.broadcast_to(np.zeros((), numpy_dtype(type_.dtype)), type_.shape)
        return _view(self._address(name), like, self._arena)

    def close(self) -> None:
        """Give back the arena, unless an array that was lent still uses it, and the constants."""
        self._constants = {}
        self._arena = None

    def _address(self, name: str) -> int:
        offset = self._plan.values[name].offset
        assert offset is not None, "constants are neither written nor read by name"
        return self.arena + offset


def _view(address: int, like: np.ndarray, owner: object) -> SupportsDLPack:
    """Device memory with an array's dtype and shape, packed."""
    buffer = Buffer.from_handle(address, like.nbytes, owner=owner)
    view: Any = StridedMemoryView.from_buffer(buffer, shape=like.shape, dtype=like.dtype)
    return view  # type: ignore[no-any-return]
