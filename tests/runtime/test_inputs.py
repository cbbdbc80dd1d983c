from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from keepstep.runtime.errors import InputError
from keepstep.runtime.format.plan import TensorType
from keepstep.runtime.memory.inputs import checked_input, device_fault


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("float32", 7.5, 7.5),
        ("float32", 7, 7),
        ("float32", np.float64(0.1), np.float32(0.1)),
        ("float32", np.array(2.5, np.float16), 2.5),
        ("float16", 0.1, np.float16(0.1)),
        ("int64", 3, 3),
        ("int32", np.int64(-3), -3),
        ("uint8", 255, 255),
        ("bool", True, True),
    ],
)
def test_one_number_may_be_given_as_a_scalar(
    shape: tuple[int, ...], dtype: str, given: Any, expected: Any
) -> None:
    found = checked_input("x", given, TensorType(dtype, shape))
    assert found.shape == shape
    assert found.dtype == dtype
    assert found.item() == expected


@pytest.mark.parametrize(
    ("dtype", "given", "message"),
    [
        ("int64", 3.0, "found dtype float64"),
        ("int32", 2**31, "2147483648 does not fit int32"),
        ("uint8", -1, "-1 does not fit uint8"),
        ("uint8", 256, "does not fit"),
        ("float32", 2**24 + 1, "16777217 does not fit float32"),
        ("float16", 2**16, "does not fit float16"),
        ("float32", 10**400, "found dtype object"),
        ("float32", True, "found dtype bool"),
        ("bool", 1, "found dtype int64"),
        ("float32", "7", "found dtype <U1"),
        ("float32", float("nan"), "NaN or infinite"),
        ("float32", 1e39, "NaN or infinite"),
        ("float16", 1e6, "NaN or infinite"),
        ("float32", 1j, "found dtype complex128"),
        ("bfloat16", 1.0, "dtype='uint16'"),
    ],
)
def test_a_scalar_that_would_change_is_refused(dtype: str, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_input("x", given, TensorType(dtype, ()))


def test_a_scalar_does_not_fill_an_array() -> None:
    with pytest.raises(InputError, match=r"found shape \[\]"):
        checked_input("x", np.float32(0), TensorType("float32", (2,)))


def test_bfloat16_is_given_as_bits() -> None:
    type_ = TensorType("bfloat16", (2,))
    bits = np.array([0x3F80, 0xC000], np.uint16)
    assert checked_input("x", bits, type_).tolist() == bits.tolist()
    with pytest.raises(InputError, match="1 of 2 elements"):
        checked_input("x", np.array([0x3F80, 0x7F80], np.uint16), type_)


def test_bfloat16_of_another_package_is_taken_by_its_bits() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    given = np.array([1, -2], ml_dtypes.bfloat16)
    found = checked_input("x", given, TensorType("bfloat16", (2,)))
    assert found.tolist() == [0x3F80, 0xC000]


def test_arrays_need_not_be_contiguous() -> None:
    given = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(checked_input("x", given, TensorType("float32", (4, 3))), given)


def test_lists_of_the_right_dtype_are_arrays() -> None:
    assert checked_input("x", [[1, 2]], TensorType("int64", (1, 2))).tolist() == [[1, 2]]


def test_what_refuses_to_be_an_array_is_refused() -> None:
    class OnAGpu:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise TypeError("copy the tensor to host memory first")

    with pytest.raises(InputError, match="copy the tensor to host memory first"):
        checked_input("x", OnAGpu(), TensorType("float32", (1,)))


LATENTS = TensorType("float32", (1, 4, 8, 8))


@pytest.mark.parametrize(
    ("dtype", "shape", "strides", "fault"),
    [
        ("float32", (1, 4, 8, 8), None, None),
        ("float32", (1, 4, 8, 8), (256, 64, 8, 1), None),
        ("float32", (1, 4, 8, 8), (7, 64, 8, 1), None),  # the stride of one row means nothing
        ("float16", (1, 4, 8, 8), None, "dtype float16"),
        ("float32", (4, 8, 8), None, r"shape [4, 8, 8]"),
        ("float32", (1, 4, 8, 8), (256, 1, 32, 4), "not contiguous"),
    ],
)
def test_an_array_on_a_gpu_is_to_be_packed_and_of_the_very_type(
    dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None, fault: str | None
) -> None:
    said = device_fault(dtype, shape, strides, LATENTS)
    assert said is None if fault is None else fault in str(said)


def test_strides_are_those_that_numpy_gives_a_packed_array() -> None:
    array = np.zeros(LATENTS.shape, np.float32)
    strides = tuple(n // array.itemsize for n in array.strides)
    assert device_fault("float32", array.shape, strides, LATENTS) is None
    turned = array.transpose(0, 1, 3, 2)
    strides = tuple(n // array.itemsize for n in turned.strides)
    assert "contiguous" in str(device_fault("float32", turned.shape, strides, LATENTS))


def test_bfloat16_on_a_gpu_may_be_seen_as_its_bits() -> None:
    expected = TensorType("bfloat16", (2, 4))
    assert device_fault("uint16", (2, 4), None, expected) is None
    assert device_fault("bfloat16", (2, 4), None, expected) is None
    assert "dtype uint16" in str(
        device_fault("uint16", (2, 4), None, TensorType("float16", (2, 4)))
    )


@pytest.mark.parametrize(
    ("dtype", "range_", "good", "bad"),
    [
        ("int64", (0.0, 6.0), [0, 6], [-1, 7, 2**62, -(2**62)]),
        ("int64", (-(2.0**53), 2.0**53), [2**53], [2**53 + 1, -(2**53) - 1]),
        ("int32", (-3.0, -3.0), [-3], [-2, 2**31 - 1]),
        ("uint8", (1.0, 254.0), [1, 254], [0, 255]),
        (
            "float32",
            (0.1, 2.0),
            [np.float32(0.1), 2],
            [np.nextafter(np.float32(0.1), np.float32(0))],
        ),
        ("float16", (-1.0, 1.0), [-1, 0.5], [1.001, -60000]),
    ],
)
def test_numbers_lie_within_the_range_of_their_input(
    dtype: str, range_: tuple[float, float], good: list[Any], bad: list[Any]
) -> None:
    for number in good:
        given = np.array([[number]], dtype)
        assert checked_input("x", given, TensorType(dtype, (1, 1)), range_).item() == given.item()
    for number in bad:
        with pytest.raises(InputError, match=r"'x': .* at \[0, 0\] lies outside of the range"):
            checked_input("x", np.array([[number]], dtype), TensorType(dtype, (1, 1)), range_)


def test_what_is_out_of_range_is_said_with_its_place_and_the_way_out() -> None:
    given = np.array([[5, 49408, -1]])
    with pytest.raises(InputError) as caught:
        checked_input("token_ids", given, TensorType("int64", (1, 3)), (0.0, 49407.0))
    assert str(caught.value) == (
        "input 'token_ids': 49408 at [0, 1] lies outside of the range 0 to 49407, and so do 2 of 3 "
        "elements; the model knows no others: give what its own tokenizer, or the like, makes"
    )


def test_bits_of_bfloat16_are_compared_as_numbers() -> None:
    type_ = TensorType("bfloat16", (2,))
    bits = np.array([0x3F80, 0xC000], np.uint16)  # 1 and -2
    assert checked_input("x", bits, type_, (-2.0, 1.0)).tolist() == bits.tolist()
    with pytest.raises(InputError, match=r"-2.0 at \[1\] .* 1 of 2 elements"):
        checked_input("x", bits, type_, (-1.5, 1.0))


def test_a_scalar_is_compared_too() -> None:
    with pytest.raises(InputError, match=r"8.5 at \[\] lies outside"):
        checked_input("x", 8.5, TensorType("float32", ()), (0.0, 8.0))
