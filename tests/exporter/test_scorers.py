"""Choices of kept tokens: the papers' in numpy, exactly K, and none that waits for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from exporter.cat_oracle import cat, ras
from torch import Tensor, nn

from keepstep.exporter.errors import ScheduleError
from keepstep.exporter.graph.extract import extract
from keepstep.exporter.graph.trace import trace
from keepstep.exporter.methods.clusters import Clusters
from keepstep.exporter.methods.scorers import Chooser, Seen
from keepstep.exporter.methods.token_rows import tokens_of
from keepstep.exporter.models.denoiser import TokenStream
from keepstep.exporter.schedule.settings import Keep
from keepstep.exporter.stages.onnx_from_trace import onnx_from_subgraph

CALLS, BATCH = 10, 2
SIDE, CHANNELS = 2, 4


def stream(rows: int, columns: int) -> TokenStream:
    return TokenStream(rows, columns, SIDE, "in", "out", ())


def chooser(scorer: str, rows: int = 16, columns: int = 20, ratio: float = 0.3) -> Chooser:
    keep = Keep.model_validate({"ratio": ratio, "scorer": scorer})
    return Chooser(keep, stream(rows, columns))


def predictions(rows: int, columns: int, coarse: bool = True) -> list[np.ndarray]:
    """Coarse numbers: then many tokens are equal, and sums are exact whatever their order."""
    random = np.random.default_rng(0)
    shape = (BATCH, CHANNELS, SIDE * rows, SIDE * columns)
    if not coarse:
        return [random.standard_normal(shape, dtype=np.float32) for _ in range(CALLS + 1)]
    return [random.integers(-2, 3, shape).astype(np.float32) for _ in range(CALLS + 1)]


class Choose(nn.Module):
    """A choice as a network of its own."""

    def __init__(self, chooser: Chooser) -> None:
        super().__init__()
        self.chooser = chooser

    def forward(
        self, newest: Tensor, reference: Tensor, counts: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        chosen = self.chooser.choose(Seen(newest, reference, counts, labels))
        return chosen.index, chosen.counts


@pytest.mark.parametrize("scorer", ["cat", "ras"])
@pytest.mark.parametrize("grid", [(16, 20), (9, 32)])
def test_the_tokens_of_ten_calls_are_those_of_the_papers_ties_included(
    scorer: str, grid: tuple[int, int], tmp_path: Path
) -> None:
    made = chooser(scorer, *grid)
    # A standard deviation is rounded, whatever the numbers.
    reference, *newest = predictions(*grid, coarse=scorer == "cat")
    labels = made.clusters.labels(torch.from_numpy(newest[0])).numpy()
    counts = np.zeros((BATCH, made.stream.tokens), np.float32)
    examples = {"newest": newest[0], "reference": reference, "counts": counts, "labels": labels}
    session = compiled(Choose(made), examples)
    ours, theirs = counts, [row.copy() for row in counts]
    for prediction in newest:
        told = {**examples, "newest": prediction, "counts": ours}
        given = {each.name: told[each.name] for each in session.get_inputs()}
        index, ours = session.run(["index", "new"], given)
        eager = Choose(made)(*(torch.from_numpy(told[name]) for name in examples))
        for b in range(BATCH):
            if scorer == "cat":
                expected, theirs[b] = cat(
                    prediction[b], reference[b], theirs[b], labels[b], SIDE, made.k
                )
            else:
                expected, theirs[b] = ras(prediction[b], theirs[b], SIDE, made.k)
            assert set(index[b]) == expected
            assert set(eager[0][b].tolist()) == expected
            assert len(expected) == made.k
        np.testing.assert_array_equal(ours, np.array(theirs))


def compiled(module: nn.Module, examples: dict[str, np.ndarray]) -> onnxruntime.InferenceSession:
    """The module as ONNX Runtime plays it."""
    traced = trace(module, {name: torch.from_numpy(x) for name, x in examples.items()})
    inputs = {node: name for name, node in traced.inputs.items() if node.users}
    outputs = dict(zip(traced.outputs, ("index", "new"), strict=True))
    stage = onnx_from_subgraph("choose", extract(traced, inputs, outputs))
    return onnxruntime.InferenceSession(stage.onnx, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("scorer", ["cat", "ras", "stale-only"])
def test_no_token_waits_long(scorer: str) -> None:
    """Of 30 %, every token has its turn within five calls, whatever the predictions are."""
    made = chooser(scorer)
    reference, *newest = (torch.from_numpy(x) for x in predictions(16, 20))
    labels = made.clusters.labels(newest[0])
    counts, waited = torch.zeros(labels.shape), np.zeros(labels.shape)
    table = made.table(CALLS)
    longest = 0
    for call, prediction in enumerate(newest):
        index = table[call][None].repeat(BATCH, 0)
        if made.looks:
            chosen = made.choose(Seen(prediction, reference, counts, labels))
            index, counts = chosen.index.numpy(), chosen.counts
        waited += 1
        np.put_along_axis(waited, index, 0, 1)
        longest = max(longest, int(waited.max()))
    bound = {"cat": 5, "ras": CALLS, "stale-only": 4}
    assert longest <= bound[scorer]


@pytest.mark.parametrize("scorer", ["stale-only", "random"])
def test_what_looks_at_nothing_is_a_table(scorer: str) -> None:
    made = chooser(scorer)
    assert not made.looks
    table = made.table(CALLS)
    assert table.shape == (CALLS, made.k)
    assert all(len(set(row)) == made.k for row in table.tolist())
    np.testing.assert_array_equal(table, made.table(CALLS))
    assert len({tuple(row) for row in table.tolist()}) > 1


@pytest.mark.parametrize("kind", ["lloyd", "grid"])
def test_clusters_cover_the_picture_and_lie_together(kind: str) -> None:
    made = Clusters(kind, stream(16, 20))
    prediction = torch.randn(1, CHANNELS, 32, 40, generator=torch.Generator().manual_seed(1))
    labels = made.labels(prediction)[0].reshape(16, 20)
    assert set(labels.flatten().tolist()) <= set(range(made.count))
    assert len(labels.unique()) >= made.count - 2
    beside = torch.cat(
        [(labels[1:] == labels[:-1]).flatten(), (labels[:, 1:] == labels[:, :-1]).flatten()]
    )
    assert beside.float().mean() > 0.5


def test_lloyds_steps_bring_tokens_nearer_to_their_centres() -> None:
    """The sum of squares within clusters is smaller than that of the grid which they begin with."""
    prediction = 20 * torch.randn(1, CHANNELS, 32, 40, generator=torch.Generator().manual_seed(2))
    places = torch.cartesian_prod(torch.arange(16) / 16, torch.arange(20) / 20)
    half = SIDE * SIDE * CHANNELS // 2
    features = 0.05 * tokens_of(prediction, SIDE)[0] + places.repeat_interleave(half, 1)

    def spread(labels: Tensor) -> float:
        parts = (features[labels == c] for c in labels.unique())
        return float(sum((part - part.mean(0)).square().sum() for part in parts))

    y, x = torch.arange(16)[:, None] * 4 // 16, torch.arange(20) * 5 // 20
    labels = Clusters("lloyd", stream(16, 20)).labels(prediction)[0]
    assert spread(labels) < 0.9 * spread((y * 5 + x).flatten())


@pytest.mark.parametrize(
    ("ratio", "size", "words"),
    [(0.1, (4, 4), "are 1: keep at least 4"), (0.5, (128, 128), "above the 3840 that TensorRT")],
)
def test_too_few_and_too_many_are_refused(ratio: float, size: tuple[int, int], words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        chooser("cat", *size, ratio).check("mine")
