"""A pruned UNet: its attention against a plain oracle, its scores, and how it is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from checkpoints import ARCHITECTURES
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from exporter.dato_oracle import attention, choose

from keepstep.exporter.methods import attach
from keepstep.exporter.methods.attach import CallContext
from keepstep.exporter.methods.dato import count_tokens
from keepstep.exporter.methods.token_pruning import TokenPruning, score_weights
from keepstep.exporter.models import Model
from keepstep.exporter.models.denoiser import TokenGrid
from keepstep.exporter.models.unet import UNet
from keepstep.exporter.schedule.schema import Call
from keepstep.exporter.schedule.settings import Prune
from keepstep.exporter.stages.networks import NetworkCall

# The UNet computes in float32, the oracle in float64; its attention sums 10² to 10³ products of
# the order of 1, so 1e-5 of the largest is what rounding leaves.
ROUNDING = 2e-5


@dataclass
class Seen:
    """What went through one transformer block."""

    block_input: list[np.ndarray] = field(default_factory=list)
    normed: list[np.ndarray] = field(default_factory=list)
    attended: list[np.ndarray] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    cross_queries: list[int] = field(default_factory=list)


@contextmanager
def watched(blocks: list[BasicTransformerBlock]) -> Iterator[list[Seen]]:
    seen = [Seen() for _ in blocks]
    hooks = []
    for block, s in zip(blocks, seen, strict=True):

        def norm(_m: object, args: tuple[torch.Tensor], out: torch.Tensor, s: Seen = s) -> None:
            s.block_input.append(args[0].numpy().copy())
            s.normed.append(out.numpy().copy())

        def attended(_m: object, _a: object, out: torch.Tensor, s: Seen = s) -> None:
            s.attended.append(out.numpy().copy())

        def queries(_m: object, args: tuple[torch.Tensor], s: Seen = s) -> None:
            s.queries.append(args[0].shape[1])

        def cross_queries(_m: object, args: tuple[torch.Tensor], s: Seen = s) -> None:
            s.cross_queries.append(args[0].shape[1])

        hooks += [
            block.norm1.register_forward_hook(norm),
            block.attn1.register_forward_hook(attended),
            block.attn1.to_q.register_forward_pre_hook(queries),
            block.attn2.to_q.register_forward_pre_hook(cross_queries),
        ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def weights_of(block: BasicTransformerBlock) -> dict[str, np.ndarray]:
    attn = block.attn1
    return {
        "to_q": attn.to_q.weight.numpy(),
        "to_k": attn.to_k.weight.numpy(),
        "to_v": attn.to_v.weight.numpy(),
        "to_out": attn.to_out[0].weight.numpy(),
        "bias": attn.to_out[0].bias.numpy(),
        "heads": np.array(attn.heads),
    }


def unet_arguments(model: Model, seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, *model.latent_shape, generator=g)
    prompt = torch.randn(2, *model.denoiser.conditions["prompt_embeds"], generator=g)
    return sample, torch.tensor(500.0), prompt


def tokens(model: Model) -> TokenGrid:
    found = model.denoiser.tokens(*model.latent_shape[1:])
    assert found
    return found


def grid(model: Model) -> tuple[int, int]:
    """Rows and columns of the tokens that can be pruned."""
    return tokens(model).rows, tokens(model).columns


def pruned_blocks(model: Model) -> list[BasicTransformerBlock]:
    blocks = [model.denoiser.module.get_submodule(path) for path in tokens(model).blocks]
    assert all(isinstance(block, BasicTransformerBlock) for block in blocks)
    return blocks  # type: ignore[return-value]


def pruned(model: Model, context: CallContext | None) -> AbstractContextManager[None]:
    return attach.pruned(model.denoiser.module, tokens(model).blocks, context)


def begun(model: Model, prune: Prune, score: torch.Tensor) -> CallContext:
    context = CallContext(prune, count_tokens(prune, *grid(model), "test"))
    context.begin(score)
    return context


def random_score(model: Model) -> torch.Tensor:
    h, w = grid(model)
    return torch.randn(1, h * w, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", ["wide_model", "plain_top_model"])
@pytest.mark.parametrize("similarity", ["block", "call"])
@pytest.mark.parametrize(("recover", "ratio"), [("base", 0.4), ("kept", 0.4), ("base", 0.7)])
@torch.no_grad()
def test_every_pruned_block_attends_as_the_definition_says(
    request: pytest.FixtureRequest, name: str, similarity: str, recover: str, ratio: float
) -> None:
    model: Model = request.getfixturevalue(name)
    prune = Prune(ratio=ratio, recover=recover, similarity=similarity)  # type: ignore[arg-type]
    score = random_score(model)
    blocks = pruned_blocks(model)
    with pruned(model, begun(model, prune, score)), watched(blocks) as seen:
        model.denoiser.module(*unet_arguments(model))
    _, width = grid(model)
    chosen = []
    for block, s in zip(blocks, seen, strict=True):
        for half in range(2):
            selecting = seen[0] if similarity == "call" else s
            kept, copies = choose(
                selecting.block_input[0][half], score[0].numpy(), width, 2, ratio, recover
            )
            found = s.attended[0][half]
            expected = attention(s.normed[0][half], kept, weights_of(block))
            tolerance = ROUNDING * np.nanmax(np.abs(expected))
            assert np.abs(found - expected)[kept].max() <= tolerance
            for token, sources in copies.items():
                assert np.abs(expected[sources] - found[token]).max(axis=1).min() <= tolerance
            chosen.append(kept)
    differ = any(kept != chosen[half % 2] for half, kept in enumerate(chosen))
    assert differ == (similarity == "block"), "the blocks of this model would not tell them apart"
    assert chosen[0] != chosen[1], "the halves share base tokens, not what is pruned"


@pytest.mark.parametrize(("name", "tokens"), [("model", 16 * 16), ("plain_top_model", 8 * 8)])
@torch.no_grad()
def test_only_self_attention_at_the_highest_resolution_that_has_any_sees_fewer_tokens(
    request: pytest.FixtureRequest, name: str, tokens: int
) -> None:
    model: Model = request.getfixturevalue(name)
    blocks = [m for m in model.denoiser.module.modules() if isinstance(m, BasicTransformerBlock)]
    top = pruned_blocks(model)
    assert len(top) == 3, "one on the way down and two on the way up"
    assert len(blocks) > len(top)
    context = begun(model, Prune(ratio=0.5), random_score(model))
    with pruned(model, context), watched(blocks) as seen:
        model.denoiser.module(*unet_arguments(model))
    for block, s in zip(blocks, seen, strict=True):
        all_of_it = s.block_input[0].shape[1]
        assert (all_of_it == tokens) == (block in top)
        assert s.queries == [tokens // 2 if block in top else all_of_it]
        assert s.cross_queries == [all_of_it]
        assert s.attended[0].shape[1] == all_of_it


def state_of(unet: UNet2DConditionModel) -> list[object]:
    return [
        (id(m.attn1.processor), id(m.attn2.processor), len(m.norm1._forward_pre_hooks))
        for m in unet.modules()
        if isinstance(m, BasicTransformerBlock)
    ]


class _StopError(Exception):
    pass


@pytest.mark.parametrize("fails", ["not", "before the call", "inside of a block"])
@torch.no_grad()
def test_the_unet_is_restored_even_after_an_exception(model: Model, fails: str) -> None:
    arguments = unet_arguments(model)
    before, expected = state_of(model.denoiser.module), model.denoiser.module(*arguments)[0]
    context = begun(model, Prune(ratio=0.5), random_score(model))

    def stop(*_: object) -> None:
        raise _StopError

    try:
        with pruned(model, context):
            assert state_of(model.denoiser.module) != before
            if fails == "before the call":
                raise _StopError
            block = pruned_blocks(model)[-1]
            hook = block.attn2.register_forward_pre_hook(stop) if fails != "not" else None
            try:
                assert not torch.equal(model.denoiser.module(*arguments)[0], expected)
            finally:
                if hook:
                    hook.remove()
    except _StopError:
        assert fails != "not"
    assert state_of(model.denoiser.module) == before
    assert torch.equal(model.denoiser.module(*arguments)[0], expected)


@torch.no_grad()
def test_without_a_context_nothing_is_pruned(model: Model) -> None:
    before = state_of(model.denoiser.module)
    with pruned(model, None):
        assert state_of(model.denoiser.module) == before


def test_sdxl_is_pruned_at_half_of_the_latents_height_and_width() -> None:
    """Its levels are 128², 64² and 32², and the first of them has no attention."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(dict(ARCHITECTURES["sdxl"]["unet"]))
    denoiser = UNet(unet, {})
    grid = denoiser.tokens(128, 128)
    assert grid
    assert (grid.rows, grid.columns) == (64, 64)
    # Skips 0 to 3 come from the first convolution and from level 0; 4 and 5 from these two.
    first_branch = {
        path.partition(".transformer_blocks")[0]: next(
            branch for branch, cut in enumerate(denoiser.cuts) if not cut.leaves_out(path)
        )
        for path in grid.blocks
    }
    assert first_branch == {
        "down_blocks.1.attentions.0": 4,
        "down_blocks.1.attentions.1": 5,
        "up_blocks.1.attentions.0": 5,
        "up_blocks.1.attentions.1": 4,
        "up_blocks.1.attentions.2": 3,
    }
    assert len(grid.blocks) == 2 * len(first_branch), "two blocks a transformer"


@pytest.mark.parametrize("name", ["model", "plain_top_model"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@torch.no_grad()
def test_the_score_is_the_change_of_the_unconditional_prediction_and_weighted_noise(
    request: pytest.FixtureRequest, name: str, alpha: float
) -> None:
    """A token that stands for a square of latents has their mean change."""
    model: Model = request.getfixturevalue(name)
    rng = np.random.default_rng(3)
    c, h, w = model.latent_shape
    rows, columns = grid(model)
    side = h // rows
    batch, gamma = 2, 1.5
    history = rng.normal(size=(4, 2, batch, c, h, w)).astype(np.float32)
    noise = rng.normal(size=(1, batch, rows * columns)).astype(np.float32)
    scores: list[torch.Tensor] = []

    class Recorder(CallContext):
        def begin(self, score: torch.Tensor) -> None:
            scores.append(score)
            super().begin(score)

    prune = Prune(ratio=0.4, gamma=gamma, alpha=alpha)
    context = Recorder(prune, count_tokens(prune, rows, columns, "test"))
    prompt = torch.zeros(batch, *model.denoiser.conditions["prompt_embeds"])
    method = TokenPruning(context, tokens(model), batch)
    with torch.no_grad():
        NetworkCall(model.denoiser, [method])(
            noise=torch.randn(batch, c, h, w),
            history=torch.from_numpy(history),
            coef=torch.zeros(1, 5),
            guidance_scale=torch.tensor(3.0),
            timestep=torch.tensor([1.0]),
            prompt_embeds=prompt,
            negative_prompt_embeds=prompt,
            score_weights=torch.tensor([[gamma, alpha]]),
            selection_noise=torch.from_numpy(noise) if alpha else None,
        )
    newest, older = history[0, 0], history[1, 0]  # guidance axis: 0 is unconditional
    change = np.abs(newest - older).mean(axis=1)
    expected = alpha * noise[0]
    for token in range(rows * columns):
        top, left = side * (token // columns), side * (token % columns)
        square = change[:, top : top + side, left : left + side]
        expected[:, token] += gamma * square.mean(axis=(1, 2))
    # Means of a few float32 numbers of the order of 1.
    np.testing.assert_allclose(scores[0].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_change_counts_only_when_two_predictions_exist_but_noise_does_from_the_start() -> None:
    call = Call(kind="full", prune=Prune(ratio=0.4, gamma=2.0, alpha=0.5))
    assert [score_weights(call, run) for run in range(4)] == [
        (0.0, 0.5),
        (0.0, 0.5),
        (2.0, 0.5),
        (2.0, 0.5),
    ]
    assert score_weights(Call(kind="full"), 5) is None
