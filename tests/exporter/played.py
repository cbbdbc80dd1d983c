"""Stages played in torch, as a runtime plays engines: an oracle's other half for the tests."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from keepstep.exporter.methods.token_pruning import score_weights
from keepstep.exporter.models import Model
from keepstep.exporter.schedule.fold_skips import fold_skips
from keepstep.exporter.schedule.sampler import lower
from keepstep.exporter.schedule.scheduler import scheduler_from
from keepstep.exporter.schedule.schema import Schedule, parse
from keepstep.exporter.stages.factory import StageFactory
from keepstep.exporter.stages.spec import StageSpec
from keepstep.exporter.stages.variant import NetworkVariant, window_for

Values = dict[str, Tensor]


def schedule(
    calls: str, cache: str = "", prune: str = "", sampler: str = "DDIMScheduler"
) -> Schedule:
    """A schedule of as many steps as it has calls (letters)."""
    lines = [
        "keepstep: 1",
        "name: test",
        f"sampler: {{scheduler: {sampler}, steps: {len(calls)}, clip_sample: false}}",
        f"cache: {{{cache}}}" if cache else "",
        f"prune: {{{prune}}}" if prune else "",
        f'calls: "{calls}"',
    ]
    return parse("\n".join(lines))


def run_stage(model: Model, source: StageSpec, values: Mapping[str, Tensor]) -> Values:
    """Outputs by name; `values` may hold more than the stage takes."""
    subgraph = source.subgraph
    weights = [model.checkpoint.tensor(path).float() for path in subgraph.weights]
    inputs = [values[name] for name in subgraph.inputs]
    with torch.no_grad():
        outputs = subgraph.module(*inputs, *weights)
    return dict(zip(subgraph.outputs, outputs, strict=True))


def variants_of(factory: StageFactory, written: Schedule) -> list[NetworkVariant]:
    """The network stage of each call of `written` that runs, as the compiler chooses it."""
    assert isinstance(written.calls, tuple)
    running = [call for call in written.calls if call.kind != "skip"]
    return [factory.variant(written, call, len(running)) for call in running]


def call_inputs(model: Model, window: int, seed: int = 0) -> Values:
    """Random values for everything that `NetworkCall` takes, for one picture."""
    g = torch.Generator().manual_seed(seed)
    latents = (1, *model.latent_shape)
    text = (1, *model.denoiser.conditions["prompt_embeds"])
    tokens = latents[2] * latents[3]
    return {
        "noise": torch.randn(latents, generator=g),
        "history": torch.randn(window, 2, *latents, generator=g),
        "coef": torch.randn(1, 1 + window, generator=g) / window**0.5,
        "guidance_scale": torch.tensor(2.5),
        "timestep": torch.tensor([321.0]),
        "prompt_embeds": torch.randn(text, generator=g),
        "negative_prompt_embeds": torch.randn(text, generator=g),
        "score_weights": torch.tensor([[1.0, 0.5]]),
        "selection_noise": torch.randn(1, 1, tokens, generator=g),
    }


def hoisted(factory: StageFactory, values: Values) -> Values:
    """`values` and all that a network stage takes from the prompt and from the timestep."""
    model = factory.model
    told = run_stage(model, factory.prompt(), values)
    return values | told | run_stage(model, factory.time(), values)


def play(
    model: Model,
    factory: StageFactory,
    written: Schedule,
    start: Mapping[str, Tensor],
) -> Tensor:
    """The latents of a whole run. start: noise, both embeds, guidance_scale, selection_noise."""
    assert isinstance(written.calls, tuple)
    sampler = lower(scheduler_from(model.scheduler_config, written.sampler), written.sampler.steps)
    folded = fold_skips(sampler, [call.kind for call in written.calls])
    running = [call for call in written.calls if call.kind != "skip"]
    window = window_for(len(running))
    values = dict(start)
    values["history"] = torch.zeros(window, 2, 1, *model.latent_shape)
    values["coef"] = torch.zeros(1, 1 + window)
    for run, (call, variant) in enumerate(zip(running, variants_of(factory, written), strict=True)):
        values["timestep"] = torch.tensor([folded.timesteps[run]])
        _set_row(values["coef"], folded.inputs[run], run)
        if weights := score_weights(call, run):
            values["score_weights"] = torch.tensor([weights])
        if "selection_noise" in start:
            values["selection_noise"] = start["selection_noise"][run : run + 1]
        source = factory.network(variant)
        values |= run_stage(model, source, hoisted(factory, values))
        values["history"] = torch.cat([values["prediction"], values["history"][:-1]])
    _set_row(values["coef"], folded.result, len(running))
    return run_stage(model, factory.decode(window), values)["latents"]


def _set_row(coef: Tensor, row: object, predictions: int) -> None:
    """The noise's coefficient, then the newest prediction's first."""
    written = torch.as_tensor(row, dtype=torch.float32)
    coef.zero_()
    coef[0, 0] = written[0]
    coef[0, 1 : 1 + predictions] = written[1 : 1 + predictions].flip(0)
