"""Dependencies, hoisting, cutting and extracting, on the tiny model's network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from exporter.played import call_inputs, hoisted, run_stage, schedule, variants_of
from torch import fx

from keepstep.exporter.errors import ScheduleError
from keepstep.exporter.graph.batch import batched
from keepstep.exporter.graph.dependencies import dependencies
from keepstep.exporter.graph.extract import extract
from keepstep.exporter.graph.hoist import frontier, hoist
from keepstep.exporter.graph.macs import count_macs
from keepstep.exporter.graph.precision import lower_precision
from keepstep.exporter.graph.trace import Trace, trace
from keepstep.exporter.models import Model
from keepstep.exporter.plan.lowering import lower_schedule
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.networks import NetworkCall
from keepstep.exporter.stages.variant import NetworkVariant

# The same float32 operations, but for convolutions and products that torch may block otherwise
# when it is given their inputs at once: a few units in the last place of numbers of the order of 1.
ROUNDING = 1e-6

CUTS = ["branch: 0", "branch: 1", "branch: 2", "module: up_blocks.0.resnets.0", "module: mid_block"]


def full_and_shallow(factory: StageFactory, cut: str) -> tuple[NetworkVariant, NetworkVariant]:
    full, shallow = variants_of(factory, schedule("Fs", cache=cut))
    return full, shallow


class Toy(torch.nn.Module):
    """y depends on both inputs; a·weight on one of them; the weight's square on none."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(3.0))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        left = torch.sin(a * self.weight)
        right = torch.cos(b)
        return left + right * (self.weight**2) + torch.arange(3.0)


def test_a_node_depends_on_all_inputs_that_it_depends_on() -> None:
    traced = trace(Toy(), {"a": torch.ones(3), "b": torch.ones(3)})
    depends_on = dependencies(traced)
    by_operation = {str(node.target): depends_on[node] for node in traced.graph.nodes}
    assert by_operation["aten.sin.default"] == {"a"}
    assert by_operation["aten.cos.default"] == {"b"}
    assert by_operation["aten.pow.Tensor_Scalar"] == frozenset()
    assert depends_on[traced.outputs[0]] == {"a", "b"}
    for node in traced.weights:
        assert depends_on[node] == frozenset()


def depending_on(traced: Trace, inputs: set[str]) -> set[fx.Node]:
    return {node for node, told in dependencies(traced).items() if told and told <= inputs}


def test_the_frontier_is_what_others_need_of_what_is_inside() -> None:
    traced = trace(Toy(), {"a": torch.ones(3), "b": torch.ones(3)})
    (node,) = frontier(traced, depending_on(traced, {"a"}), "early")
    assert str(node.target) == "aten.sin.default"


class Modulated(torch.nn.Module):
    """What a block takes of timestep and prompt, as transformers do, and a range of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.of_time = torch.nn.Linear(1, 4)
        self.of_prompt = torch.nn.Linear(3, 4)
        self.modulation = torch.nn.Linear(4, 8)

    def forward(self, x: torch.Tensor, t: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        told = self.of_time(t[:, None]) + self.of_prompt(prompt)
        shift, scale = self.modulation(torch.nn.functional.silu(told)).chunk(2, dim=1)
        return x * scale + shift + torch.arange(4.0) * scale.square() + prompt[:, :1]


def test_what_depends_on_timestep_and_prompt_leaves_the_loop_and_runs_for_all_calls_at_once() -> (
    None
):
    network = Modulated()
    examples = {"x": torch.zeros(2, 4), "t": torch.zeros(1), "prompt": torch.zeros(2, 3)}
    traced = trace(network, examples)
    hoisted = hoist(traced, ["t"], ["prompt"])
    assert [len(part) for part in (hoisted.time, hoisted.prompt, hoisted.both)] == [1, 2, 3]
    given = {traced.inputs["prompt"]: "prompt", **hoisted.prompt, **hoisted.time}
    once = extract(traced, given, hoisted.both)
    loop = extract(traced, {traced.inputs["x"]: "x", **hoisted.all}, {traced.outputs[0]: "y"})
    assert not loop.weights, "no linear layer is left in the loop"
    calls, tables = 3, {*once.inputs} & {*hoisted.time.values()}
    whole = batched(once, calls, tables)
    weights = dict(network.named_parameters())
    x, prompt, times = torch.randn(2, 4), torch.randn(2, 3), torch.rand(calls)
    with torch.no_grad():
        time = torch.stack([network.of_time(t[None, None])[0] for t in times])
        before = dict(
            zip(hoisted.prompt.values(), (network.of_prompt(prompt), prompt[:, :1]), strict=True)
        )
        values = {"prompt": prompt, **before, **dict.fromkeys(tables, time)}
        tables_of = whole.module(
            *(values[name] for name in whole.inputs), *(weights[name] for name in whole.weights)
        )
        for call, t in enumerate(times):
            rows = {n: x[2 * call :][:2] for n, x in zip(whole.outputs, tables_of, strict=True)}
            (y,) = loop.module(*({"x": x, **before, **rows}[name] for name in loop.inputs))
            torch.testing.assert_close(y, network(x, t[None], prompt), rtol=1e-5, atol=1e-6)
    for precision in (torch.float16, torch.bfloat16):
        assert lower_precision(whole, precision, tables, whole.outputs).outputs


def test_what_is_extracted_computes_what_the_whole_computes_and_needs_nothing_else() -> None:
    toy = Toy()
    traced = trace(toy, {"a": torch.ones(3), "b": torch.ones(3)})
    (node,) = frontier(traced, depending_on(traced, {"a"}), "early")
    early = extract(traced, {traced.inputs["a"]: "a"}, {node: "sine"})
    late = extract(traced, {node: "sine", traced.inputs["b"]: "b"}, {traced.outputs[0]: "y"})
    assert (set(early.inputs), set(early.outputs)) == ({"a"}, {"sine"})
    assert set(late.inputs) == {"sine", "b"}
    assert list(early.weights) == list(late.weights) == ["weight"]
    a, b = torch.randn(3), torch.randn(3)
    with torch.no_grad():
        (sine,) = early.module(a, toy.weight)
        (y,) = late.module(*({"sine": sine, "b": b}[name] for name in late.inputs), toy.weight)
        assert torch.equal(y, toy(a, b))


def test_extracting_without_an_input_that_is_needed_is_a_fault_of_ours() -> None:
    traced = trace(Toy(), {"a": torch.ones(3), "b": torch.ones(3)})
    with pytest.raises(AssertionError, match="needed but not provided"):
        extract(traced, {traced.inputs["a"]: "a"}, {traced.outputs[0]: "y"})


@pytest.mark.parametrize("cut", CUTS)
def test_prompt_timestep_and_full_parts_together_are_the_eager_call(
    model: Model, factory: StageFactory, cut: str
) -> None:
    full, _ = full_and_shallow(factory, cut)
    values = call_inputs(model, full.window)
    kept: list[torch.Tensor] = []
    assert full.cut is not None
    module = model.denoiser.module.get_submodule(full.cut.name)
    hook = module.register_forward_hook(
        lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
    )
    taken = {k: v for k, v in values.items() if k not in ("score_weights", "selection_noise")}
    with torch.no_grad():
        (expected,) = NetworkCall(model.denoiser)(**taken)
    hook.remove()
    found = run_stage(factory.model, factory.network(full), hoisted(factory, values))
    assert set(found) == {"prediction", "cached"}
    torch.testing.assert_close(found["prediction"], expected, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(found["cached"], kept[0], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("cut", CUTS)
def test_a_shallow_call_on_the_same_input_repeats_the_full_call(
    model: Model, factory: StageFactory, cut: str
) -> None:
    full, shallow = full_and_shallow(factory, cut)
    values = hoisted(factory, call_inputs(model, full.window))
    given = run_stage(factory.model, factory.network(full), values)
    found = run_stage(factory.model, factory.network(shallow), values | {"cached": given["cached"]})
    assert set(found) == {"prediction"}
    expected = given["prediction"]
    torch.testing.assert_close(found["prediction"], expected, rtol=ROUNDING, atol=ROUNDING)
    other = run_stage(
        factory.model, factory.network(shallow), values | {"cached": given["cached"] + 1}
    )
    assert not torch.allclose(other["prediction"], expected, atol=1e-3), "the cache is not read"


@pytest.mark.parametrize("cut", CUTS)
def test_a_shallow_call_holds_no_deep_weight_and_does_less_the_further_up_it_is_cut(
    factory: StageFactory, cut: str
) -> None:
    full, shallow = (factory.network(v).subgraph for v in full_and_shallow(factory, cut))
    assert any("mid_block" in path for path in full.weights)
    assert not any("mid_block" in path for path in shallow.weights)
    assert set(shallow.weights) < set(full.weights)
    assert 0 < count_macs(shallow) < count_macs(full)


def test_the_deeper_the_branch_the_more_a_shallow_call_computes(factory: StageFactory) -> None:
    macs = []
    for cut in CUTS[:3]:
        _, shallow = full_and_shallow(factory, cut)
        macs.append(count_macs(factory.network(shallow).subgraph))
    assert macs == sorted(set(macs))


def test_branch_0_needs_the_first_convolution_and_the_last_block_only(
    factory: StageFactory,
) -> None:
    _, shallow = full_and_shallow(factory, "branch: 0")
    places = {path.split(".")[1] for path in factory.network(shallow).subgraph.weights}
    assert places == {"conv_in", "up_blocks", "conv_norm_out", "conv_out"}
    up = {p for p in factory.network(shallow).subgraph.weights if ".up_blocks." in p}
    assert all(
        p.startswith(("unet.up_blocks.2.resnets.1.", "unet.up_blocks.2.attentions.1.")) for p in up
    )


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("prune", ["", "ratio: 0.5", "ratio: 0.5, alpha: 1"])
def test_no_network_stage_holds_what_depends_on_prompt_or_timestep_alone(
    factory: StageFactory, prune: str, kind: int
) -> None:
    variant = variants_of(factory, schedule("Fs", cache="branch: 0", prune=prune))[kind]
    subgraph = factory.network(variant).subgraph
    hoisted_modules = ("time_embedding", "time_emb_proj", "attn2.to_k", "attn2.to_v")
    assert not [p for p in subgraph.weights if any(part in p for part in hoisted_modules)]
    assert not {"timestep", "prompt_embeds", "negative_prompt_embeds"} & set(subgraph.inputs)
    assert ("score_weights" in subgraph.inputs) == bool(prune)
    assert ("selection_noise" in subgraph.inputs) == ("alpha" in prune)


def test_the_prompt_stage_holds_the_cross_attention_keys_and_values_of_all_blocks(
    model: Model, factory: StageFactory
) -> None:
    expected = {
        f"unet.{name}"
        for name, _ in model.denoiser.module.named_parameters()
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }
    assert expected
    subgraph = factory.prompt().subgraph
    assert set(subgraph.weights) == expected
    assert len(subgraph.outputs) == len(expected)


def test_a_branch_or_module_that_does_not_exist_is_refused_with_those_that_do(
    model: Model, factory: StageFactory
) -> None:
    with pytest.raises(ScheduleError, match=r"branch 6 does not exist.*0 to 5"):
        variants_of(factory, schedule("Fs", cache="branch: 6"))
    assert len(model.denoiser.cuts) == 6
    for branch, cut in enumerate(model.denoiser.cuts):
        (variant, _) = variants_of(factory, schedule("Fs", cache=f"branch: {branch}"))
        assert variant.cut == cut
    with pytest.raises(ScheduleError, match=r"cannot be cut at 'up_blocks.9'.*up_blocks.2"):
        variants_of(factory, schedule("Fs", cache="module: up_blocks.9"))


def test_pruning_a_model_with_attention_in_its_mid_block_only_is_refused(
    model: Model,
) -> None:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=model.denoiser.conditions["prompt_embeds"][1],
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    factory = StageFactory(replace(model, denoiser=replace(model.denoiser, module=unet)), 1)
    with pytest.raises(ScheduleError, match="'test': `prune` acts on self-attention in the outer"):
        variants_of(factory, schedule("F", prune="ratio: 0.4"))
    assert variants_of(factory, schedule("F"))


@pytest.mark.parametrize(("branch", "prunes"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_shallow_call_that_runs_no_pruned_block_is_the_one_that_prunes_nothing(
    plain_top_model: Model, branch: int, prunes: bool
) -> None:
    """Attention is one level down; a shallow call runs some of it from branch 2 on."""
    factory = StageFactory(plain_top_model, 1)
    cache = f"branch: {branch}"
    full, shallow = variants_of(factory, schedule("Fs", cache, "ratio: 0.5, alpha: 1"))
    _, plain = variants_of(factory, schedule("Fs", cache))
    assert full.name == "full-dato0.5"
    assert (shallow == plain) == (not prunes)
    assert shallow.name == ("shallow-dato0.5" if prunes else "shallow")
    taken = set(factory.network(shallow).subgraph.inputs)
    assert ({"score_weights", "selection_noise"} <= taken) == prunes
    lowered = lower_schedule(plain_top_model, factory, schedule("Fs", cache, "ratio: 0.5"))
    assert lowered.kept == (32, 32 if prunes else None), "half of 8 × 8 tokens"
