"""Weights as they are written: numbers that are none are never part of a bundle."""

from __future__ import annotations

import math

import pytest
import torch

from keepstep.exporter.errors import ModelError
from keepstep.exporter.stages.weights import make_weight


def damaged(value: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    tensor = torch.zeros(4, 5, dtype=dtype)
    tensor[2, 3] = value
    return tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["unet.a.weight", "unet.a.weight:float16:transpose-1-0"])
def test_a_number_that_is_not_finite_is_refused_by_its_tensor(
    name: str, value: float, dtype: torch.dtype
) -> None:
    with pytest.raises(ModelError, match=r"weight unet\.a\.weight: 1 of 20 numbers are not finite"):
        make_weight(name, lambda path: damaged(value, dtype))


def test_a_number_beyond_the_asked_dtype_is_told_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"1e\+06 is beyond what float16 holds.*--dtype bfloat16"):
        make_weight("unet.a:float16", lambda path: damaged(1e6))
    assert make_weight("unet.a:bfloat16", lambda path: damaged(1e6)).max() > 9e5
    assert make_weight("unet.a", lambda path: torch.zeros(0)).numel() == 0
