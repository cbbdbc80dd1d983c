"""A decoded picture that is none is told by the latents beside it, in every kind of engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from exporter.small_stages import RTX
from torch import Tensor

from keepstep.exporter.engines import BuildOptions, builder
from keepstep.exporter.graph.extract import Subgraph
from keepstep.exporter.graph.precision import lower_precision
from keepstep.exporter.models import Model
from keepstep.exporter.models.autoencoder import Autoencoder, LatentScale
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.networks import Decoder, combine
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph
from keepstep.exporter.stages.weights import make_weight

WINDOW = 2
SCALE = LatentScale(0.5)
BIAS = "vae.decoder.conv_out.bias"


class Drawn:
    """A VAE whose pictures are given."""

    def __init__(self, pictures: Tensor) -> None:
        self._pictures = pictures

    def decode(self, latents: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (self._pictures,)


def decoder(pictures: Tensor) -> Decoder:
    return Decoder(Autoencoder(Drawn(pictures), SCALE))  # type: ignore[arg-type]


def arguments(batch: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    made = torch.Generator().manual_seed(5)
    noise = torch.randn((batch, *shape), generator=made)
    history = torch.randn((WINDOW, 2, batch, *shape), generator=made)
    return noise, history, torch.randn((1, 1 + WINDOW), generator=made), torch.tensor(5.0)


@pytest.mark.parametrize(
    "bad", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, np.inf]]
)
def test_of_a_batch_the_picture_that_is_none_is_told_alone(bad: list[float]) -> None:
    pictures = torch.rand(3, 3, 8, 8) * 2 - 1
    pictures[1].view(-1)[: len(bad)] = torch.tensor(bad)
    given = arguments(3, (4, 2, 2))
    latents, picture = decoder(pictures)(*given)
    expected = combine(*given)
    assert torch.isnan(latents[1]).all()
    assert torch.equal(latents[[0, 2]], expected[[0, 2]])
    assert picture.dtype == torch.uint8


def test_a_picture_far_beyond_its_range_is_still_one() -> None:
    given = arguments(1, (4, 2, 2))
    far = torch.full((1, 3, 64, 64), -1e30)
    latents, _ = decoder(far)(*given)
    assert torch.equal(latents, combine(*given))


def decoders(factory: StageFactory) -> dict[str, Subgraph]:
    subgraph = factory.decode(WINDOW).subgraph
    return {
        "float32": subgraph,
        "float16": lower_precision(subgraph, torch.float16, (), ()),
        "bfloat16": lower_precision(subgraph, torch.bfloat16, (), ()),
    }


def played(model: Model, subgraph: Subgraph, broken: float | None) -> dict[str, Any]:
    """By ONNX Runtime, with one weight broken."""
    stage = onnx_from_subgraph("decode", subgraph)
    weights = {n: make_weight(n, model.checkpoint.tensor).numpy() for n in stage.weights}
    (bias,) = (name for name in weights if name.partition(":")[0] == BIAS)
    if broken is not None:
        weights[bias] = np.full_like(weights[bias], broken)
    options = ort.SessionOptions()
    options.add_external_initializers(
        list(weights), [ort.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
    )
    code = builder("onnxruntime", BuildOptions()).build(stage, None)
    session = ort.InferenceSession(code, options, providers=["CPUExecutionProvider"])
    names = ("noise", "history", "coef", "guidance_scale")
    given = arguments(1, tuple(subgraph.inputs["noise"].shape[1:]))
    feeds = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
    return dict(zip(subgraph.outputs, session.run(list(subgraph.outputs), feeds), strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float16"])  # it has no convolution in bfloat16
def test_onnx_runtime_tells_it(model: Model, factory: StageFactory, dtype: str) -> None:
    subgraph = decoders(factory)[dtype]
    good = played(model, subgraph, None)
    expected = combine(*arguments(1, tuple(subgraph.inputs["noise"].shape[1:]))).numpy()
    np.testing.assert_allclose(good["latents"], expected, rtol=1e-5, atol=1e-5)  # rounding
    assert good["image"].any()
    for broken in (np.nan, np.inf, -np.inf):
        assert np.isnan(played(model, subgraph, broken)["latents"]).all()


@RTX
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensorrt_rtx_builds_it(factory: StageFactory, dtype: str) -> None:
    stage = onnx_from_subgraph("decode", decoders(factory)[dtype])
    assert builder("tensorrt-rtx", BuildOptions()).build(stage, None)
