"""From a model and a set of schedules to the distinct stages that their plans share.

Each pruning variant of the network is traced once; its full, shallow, prompt and timestep parts
are subgraphs of that one trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, fx

from .errors import ScheduleError
from .models import StableDiffusion
from .models.modules import Decoder, NetworkCall, TextEncoder
from .models.unet import cut_path, up_path
from .passes.colour import colour
from .passes.cut import cut_node
from .passes.extract import Subgraph, extract
from .passes.hoist import frontier
from .pruning.attach import CallContext, pruned, top_level_blocks
from .pruning.dato import TokenCounts, count_tokens
from .schedule import Call, Prune, Schedule
from .trace import Trace, trace

PROMPT = ("prompt_embeds", "negative_prompt_embeds")
TIME = ("timestep",)
WINDOW_STEP = 64  # windows are multiples of this, so that most schedules share their engines


@dataclass(frozen=True)
class StageSource:
    """A stage before it is converted: its subgraph and the tensors of its weights."""

    name: str
    subgraph: Subgraph
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class NetworkVariant:
    """What distinguishes one network stage from another."""

    kind: str  # full or shallow
    prune: Prune | None
    cut: str | None  # module whose output is cached, if any call reads it
    window: int  # predictions in the history's window

    @property
    def name(self) -> str:
        """The stage's name within a plan."""
        return f"{self.kind}-{self.prune.method}{self.prune.ratio:g}" if self.prune else self.kind


def window_for(runs: int) -> int:
    """Length of the history's window for a plan whose network runs `runs` times."""
    return -(-runs // WINDOW_STEP) * WINDOW_STEP


class StageFactory:
    """Traces a model on demand and cuts stages out of its traces; each is made once."""

    def __init__(self, model: StableDiffusion, batch: int) -> None:
        self.model = model
        self.batch = batch
        self.text = cache(self._text)
        self.decode = cache(self._decode)
        self.network = cache(self._network)
        self.prompt = cache(self._prompt)
        self._network_trace = cache(self._trace_network)

    def variant(self, schedule: Schedule, call: Call, runs: int) -> NetworkVariant:
        """The network stage that `call` of `schedule` needs; raises `ScheduleError`."""
        if call.prune:
            self.counts(schedule, call.prune)
        cut = cut_path(self.model.unet, schedule.cache, schedule.name) if schedule.cache else None
        return NetworkVariant(call.kind, call.prune, cut, window_for(runs))

    def counts(self, schedule: Schedule, prune: Prune) -> TokenCounts:
        """Static token counts of `prune`; raises `ScheduleError` if they do not fit the model."""
        if not top_level_blocks(self.model.unet):
            raise ScheduleError(
                f"schedule '{schedule.name}': this model has no self-attention at its latent's "
                "own resolution, so `prune` has nothing to act on: remove it"
            )
        _, h, w = self.model.latent_shape
        return count_tokens(prune, h, w, schedule.name)

    def time_tables(
        self, variant: NetworkVariant, timesteps: tuple[float, ...]
    ) -> dict[str, np.ndarray]:
        """What the network derives from the timestep alone: `lead` rows a call, call after call.

        Name → (calls · lead, …), where lead is the first axis of what the network takes.
        """
        traced, hoisted = self._network_trace(variant.prune, variant.window, self._afresh(variant))
        times = {node: name for node, name in hoisted.items() if name.startswith("time.")}
        subgraph = extract(traced, {traced.inputs[name]: name for name in TIME}, times)
        weights = [traced.tensors[path] for path in subgraph.weights]
        rows: list[tuple[Tensor, ...]] = []
        with torch.no_grad():
            for t in timesteps:
                rows.append(subgraph.module(torch.tensor([t], dtype=torch.float32), *weights))
        columns = zip(*rows, strict=True)
        return {
            name: torch.cat(column).numpy()
            for name, column in zip(subgraph.outputs, columns, strict=True)
        }

    def _network(self, variant: NetworkVariant) -> StageSource:
        """The full or shallow stage: prompt and timestep hoisted, cut where features are cached."""
        traced, hoisted = self._network_trace(variant.prune, variant.window, self._afresh(variant))
        inputs = {n: name for name, n in traced.inputs.items() if name not in PROMPT + TIME}
        inputs |= hoisted
        outputs = {traced.outputs[0]: "prediction"}
        if variant.cut:
            cached = cut_node(traced, f"unet.{variant.cut}")
            if variant.kind == "full":
                outputs[cached] = "cached"
            else:
                inputs[cached] = "cached"
        return StageSource(variant.name, extract(traced, inputs, outputs), traced.tensors)

    def _prompt(self, window: int) -> StageSource:
        """Cross-attention keys and values of all blocks, from the prompts' embeddings."""
        traced, hoisted = self._network_trace(None, window, None)
        inputs = {traced.inputs[name]: name for name in PROMPT}
        outputs = {node: name for node, name in hoisted.items() if name.startswith("prompt.")}
        return StageSource("prompt", extract(traced, inputs, outputs), traced.tensors)

    def _text(self) -> StageSource:
        shape = (self.batch, self.model.prompt_length)
        # One tensor for each input: torch.export takes the same one twice for one input.
        inputs = {
            name: torch.zeros(shape, dtype=torch.int64)
            for name in ("token_ids", "negative_token_ids")
        }
        return _whole("text", trace(TextEncoder(self.model.text_encoder), inputs), PROMPT)

    def _decode(self, window: int) -> StageSource:
        inputs = self._loop_inputs(window)
        return _whole("decode", trace(Decoder(self.model.vae), inputs), ("latents", "image"))

    def _trace_network(
        self, prune: Prune | None, window: int, select_after: str | None
    ) -> tuple[Trace, dict[fx.Node, str]]:
        """The traced network call and the values that are hoisted out of it, by name."""
        model, b = self.model, self.batch
        inputs = self._loop_inputs(window) | {"timestep": torch.zeros(1)}
        for name in PROMPT:
            inputs[name] = torch.zeros(b, model.prompt_length, model.text_width)
        context = None
        if prune:
            _, h, w = model.latent_shape
            context = CallContext(prune, count_tokens(prune, h, w, "traced"))
            inputs["score_weights"] = torch.zeros(1, 2)
            if prune.alpha:
                inputs["selection_noise"] = torch.zeros(1, b, h * w)
        with pruned(model.unet, context):
            hook = None
            if select_after and context:
                module = model.unet.get_submodule(select_after)
                hook = module.register_forward_hook(lambda *_: context.forget_selection())
            try:
                traced = trace(NetworkCall(model.unet, context), inputs)
            finally:
                if hook:
                    hook.remove()
        colours = colour(traced)
        hoisted = frontier(traced, colours, PROMPT, "prompt")
        hoisted |= frontier(traced, colours, TIME, "time")
        return traced, hoisted

    def _afresh(self, variant: NetworkVariant) -> str | None:
        """Where a shallow call begins to select, if it shares its first block's selection.

        Only the outermost cut leaves out the first block on the way down; with any other a
        shallow call runs that block, and shares its selection.
        """
        shares = variant.prune is not None and variant.prune.similarity == "call"
        outermost = variant.cut == up_path(self.model.unet)[-1]
        return variant.cut if variant.kind == "shallow" and shares and outermost else None

    def _loop_inputs(self, window: int) -> dict[str, Tensor]:
        """Examples of what the sampler gives to every network call and to the decoder."""
        latents = (self.batch, *self.model.latent_shape)
        return {
            "noise": torch.zeros(latents),
            "history": torch.zeros(window, 2, *latents),
            "coef": torch.zeros(1, 1 + window),
            "guidance_scale": torch.tensor(1.0),
        }


def _whole(name: str, traced: Trace, outputs: tuple[str, ...]) -> StageSource:
    """A stage that is a whole trace."""
    inputs = {node: name for name, node in traced.inputs.items()}
    named = dict(zip(traced.outputs, outputs, strict=True))
    return StageSource(name, extract(traced, inputs, named), traced.tensors)
