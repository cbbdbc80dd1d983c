from __future__ import annotations

import struct
from pathlib import Path

import pytest
from runtime.safetensors_by_hand import write_safetensors

from keepstep.runtime.folder.tensors import TensorFile, numpy_dtype
from keepstep.runtime.format.plan import ITEM_BYTES, TensorType, Value
from keepstep.runtime.memory.arena import Arena


def test_bfloat16_is_seen_as_its_bits(tmp_path: Path) -> None:
    file = TensorFile(write_safetensors(tmp_path / "x", {"a": ("BF16", [2], b"\x80\x3f\x00\xc0")}))
    assert file.type("a") == TensorType("bfloat16", (2,))
    assert file.array("a").tolist() == [0x3F80, 0xC000]


def test_foreign_dtypes_have_a_type_but_no_array(tmp_path: Path) -> None:
    file = TensorFile(write_safetensors(tmp_path / "x", {"a": ("F64", [1], bytes(8))}))
    assert file.type("a") == TensorType("F64", (1,))
    with pytest.raises(ValueError, match="dtype F64"):
        file.array("a")


@pytest.mark.parametrize("pad", range(4))
def test_tensors_at_odd_addresses_are_aligned(tmp_path: Path, pad: int) -> None:
    tensors = {"a": ("U8", [1], b"\1"), "b": ("F32", [2], struct.pack("<2f", 1, 2))}
    file = TensorFile(write_safetensors(tmp_path / "x", tensors, pad))
    array = file.array("b")
    assert array.tolist() == [1, 2]
    assert array.flags.aligned
    assert not array.flags.writeable


def test_scalars_have_no_axes(tmp_path: Path) -> None:
    file = TensorFile(write_safetensors(tmp_path / "x", {"a": ("F32", [], struct.pack("<f", 3))}))
    assert file.type("a") == TensorType("float32", ())
    assert file.array("a").shape == ()
    assert file.type("b") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [("", {}), ('"__metadata__": null, ', {}), ('"__metadata__": {"x": "y"}, ', {"x": "y"})],
)
def test_what_a_writer_notes_beside_the_tensors_is_given(
    header: str, expected: dict[str, str], tmp_path: Path
) -> None:
    text = f'{{{header}"a": {{"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}}}'.encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + b"\1")
    assert TensorFile(tmp_path / "x").metadata == expected


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_a_view_of_the_arena_is_its_memory(dtype: str) -> None:
    arena = Arena(1024)
    value = Value("scratch", TensorType(dtype, (4, 2)), offset=256)
    whole = arena.view(value)
    assert whole.dtype == numpy_dtype(dtype)
    assert not whole.any()
    assert arena.address % 256 == 0
    assert whole.ctypes.data == arena.address + 256
    whole[1] = 1
    assert arena.view(value).tolist() == [[0, 0], [1, 1], [0, 0], [0, 0]]
