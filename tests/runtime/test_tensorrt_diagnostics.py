"""What the TensorRT backends say of engines that they cannot play; no library is needed for it."""

from __future__ import annotations

import pytest

from keepstep.runtime.backends.session import interface_fault
from keepstep.runtime.backends.tensorrt_diagnostics import alias_fault, refusal
from keepstep.runtime.format.plan import TensorType

NAMES = {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4, "MALFORMED_ENGINE": 32}
GPU = "NVIDIA H100 (compute capability 9.0)"
X = TensorType("float32", (1, 4))


def test_a_gpu_that_the_library_does_not_know_is_told_with_the_other_backend() -> None:
    said = refusal(2, NAMES, GPU, [])
    assert GPU in said
    assert "UNSUPPORTED_CC" in said
    assert said.endswith("play with onnxruntime-cuda")


@pytest.mark.parametrize(
    ("bits", "way_out"),
    [(1, "export the bundle again"), (4, "newer driver"), (32, "export the bundle again")],
)
def test_every_diagnosis_has_its_way_out(bits: int, way_out: str) -> None:
    assert way_out in refusal(bits, NAMES, GPU, [])


def test_several_reasons_and_the_librarys_own_words_are_all_told() -> None:
    said = refusal(3, NAMES, GPU, ["cudaError 35"])
    assert "VERSION_MISMATCH; UNSUPPORTED_CC; cudaError 35" in said


def test_a_library_that_says_nothing_is_not_made_to_say_something() -> None:
    assert "no reason was given" in refusal(0, {}, GPU, [])


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({"x": X}, None),
        ({}, "has no 'x'"),
        ({"x": X, "w": X}, "has 'w', which the plan does not know"),
        ({"x": TensorType("float16", (1, 4))}, r"the plan has float32[1, 4], the engine float16"),
        ({"x": TensorType("float32", (2, 4))}, r"the engine float32[2, 4]"),
    ],
)
def test_an_engine_with_other_tensors_than_the_plan_binds_is_told(
    found: dict[str, TensorType], fault: str | None
) -> None:
    said = interface_fault({"x": X}, found)
    assert said is None if fault is None else fault in str(said)


@pytest.mark.parametrize(
    ("promised", "wanted", "fault"),
    [
        ({"k_new": "k"}, {"k_new": "k"}, None),
        ({"k_new": "k"}, {}, None),
        ({}, {}, None),
        ({}, {"k_new": "k"}, "wants 'k_new' in the memory of 'k'"),
        ({"k_new": "k"}, {"k_new": "v"}, "wants 'k_new' in the memory of 'v'"),
    ],
)
def test_what_an_engine_wants_in_place_is_promised_by_its_stage(
    promised: dict[str, str], wanted: dict[str, str], fault: str | None
) -> None:
    said = alias_fault(promised, wanted)
    assert said is None if fault is None else fault in str(said)
