"""The multiply–accumulates of CAT's schedules are the paper's, for models of published sizes.

The paper (arXiv 2502.00433, tables 2 and 3) counts linear layers, not attention's products, both
halves of guidance, and nothing of the text encoders. Of calls that keep tokens it leaves out what
depends on the prompt alone; here that is computed once a picture. Traced without weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from checkpoints import ARCHITECTURES, write_checkpoint
from torch import fx, nn

from keepstep.exporter import models
from keepstep.exporter.graph.extract import Subgraph
from keepstep.exporter.graph.macs import count_macs
from keepstep.exporter.schedule.schema import Call
from keepstep.exporter.schedule.settings import Keep
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.variant import WINDOW_STEP, NetworkVariant

SIDE = 1024
KEPT = 1228  # 30 % of 4,096 tokens
# Tera-MACs by steps: with every call full, and with 8 full calls and then 30 % of the tokens.
PAPER = {
    "sd3": {28: (168.28, 90.28), 50: (300.50, 136.70)},
    "pixart-sigma": {28: (120.68, 60.08), 50: (215.40, 88.24)},
}
CLOSE = 0.002


@pytest.fixture(scope="module", params=PAPER)
def macs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, float, float]]:
    """The model, and the tera-MACs of a full call and of one that keeps tokens."""
    place = tmp_path_factory.mktemp("real") / request.param
    folder = write_checkpoint(ARCHITECTURES[request.param], place)
    model = models.load(str(folder), SIDE, SIDE, weights=False)
    factory = StageFactory(model, 1)
    whole = factory._network_trace(Call(kind="full"), WINDOW_STEP, None)
    keep = Keep(ratio=0.3)
    tokens = factory.network(NetworkVariant("tokens", None, None, WINDOW_STEP, keep))
    assert tokens.subgraph.outputs["kept_tokens"].shape == (1, 4096)
    graph = fx.GraphModule(nn.Module(), whole.trace.graph)
    full = Subgraph(graph, {}, {}, {})
    yield request.param, linear_macs(full) / 1e12, linear_macs(tokens.subgraph) / 1e12


def linear_macs(subgraph: Subgraph) -> int:
    """Without attention's products."""
    attention = torch.ops.aten.scaled_dot_product_attention.default
    products = 0
    for node in subgraph.module.graph.nodes:
        if node.target is attention:
            query, key, value = (node.args[i].meta["val"].shape for i in range(3))
            products += query[0] * query[1] * query[2] * key[2] * (query[3] + value[3])
    return count_macs(subgraph) - int(products)


def test_macs_are_those_of_the_papers_tables(macs: tuple[str, float, float]) -> None:
    name, full, tokens = macs
    for steps, (base, cat) in PAPER[name].items():
        assert steps * full == pytest.approx(base, rel=CLOSE)
        assert 8 * full + (steps - 8) * tokens == pytest.approx(cat, rel=CLOSE)
