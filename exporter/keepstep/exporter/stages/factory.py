"""From a model and a set of schedules to the distinct stages that their plans share.

Each pruning variant of the network is traced once; its full, shallow, prompt and timestep parts
are subgraphs of that one trace.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, fx

from ..errors import ScheduleError
from ..graph.cut import cut_node
from ..graph.dependencies import dependencies
from ..graph.extract import Subgraph, extract
from ..graph.hoist import frontier
from ..graph.trace import Trace, trace
from ..models import StableDiffusion, of_guidance
from ..models.modules import Decoder, Encoder, NetworkCall
from ..models.unet import branch_of, cut_path
from ..pruning import SELECTION
from ..pruning.attach import CallContext, pruned
from ..pruning.dato import TokenCounts, count_tokens
from ..pruning.level import PrunedLevel, pruned_blocks, pruned_level
from ..schedule.schema import Call, Prune, Schedule

TIMESTEP = ("timestep",)
WINDOW_STEP = 64  # windows are multiples of this, so that most schedules share their engines


@dataclass(frozen=True)
class StageSource:
    """A stage before it is converted: a subgraph in float32, of which all dtypes are made."""

    name: str
    subgraph: Subgraph


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


@dataclass(frozen=True)
class StageId:
    """Which stage of a model: text, prompt, time, encode, decode, or a variant of the network."""

    part: str
    window: int = 0  # of decode
    variant: NetworkVariant | None = None  # of the network
    guided: bool = True  # whether the run has both halves of guidance

    @property
    def name(self) -> str:
        """The stage's name within a plan."""
        return self.variant.name if self.variant else self.part


def is_half(name: str) -> bool:
    """Whether a stage's input or output is held in the plan's own dtype.

    These are what networks hand to networks. The sampler's values, the embeddings that a caller
    may feed and the pictures are the same whatever the dtype.
    """
    return name.startswith(("prompt.", "time.")) or name == "cached"


def window_for(rows: int) -> int:
    """Length of the history's window for a plan that writes `rows` rows of it."""
    return -(-rows // WINDOW_STEP) * WINDOW_STEP


class StageFactory:
    """Traces a model on demand and cuts stages out of its traces; each is made once.

    `guided` says whether the stages are those of runs with both halves of guidance.
    """

    def __init__(self, model: StableDiffusion, batch: int, guided: bool = True) -> None:
        self.model = model
        self.batch = batch
        self.guided = guided
        self.conditions = of_guidance(model.conditions(batch), guided)
        self.level = pruned_level(model.unet)
        self.text = cache(self._text)
        self.encode = cache(self._encode)
        self.decode = cache(self._decode)
        self.network = cache(self._network)
        self.prompt = cache(self._prompt)
        self.time = cache(self._time)
        self._network_trace = cache(self._trace_network)

    @property
    def halves(self) -> int:
        """H: the halves of guidance."""
        return 2 if self.guided else 1

    def source(self, stage: StageId) -> StageSource:
        """The stage in float32, traced if it has not been yet."""
        assert stage.guided == self.guided, "a stage was asked of another run's factory"
        if stage.variant:
            return self.network(stage.variant)
        if stage.part == "decode":
            return self.decode(stage.window)
        parts = {
            "text": self.text,
            "prompt": self.prompt,
            "time": self.time,
            "encode": self.encode,
        }
        return parts[stage.part]()

    def identity(self, stage: StageId) -> dict[str, object]:
        """All that the stage depends on beside this program: what its cache key is made of."""
        model, variant = self.model, stage.variant
        components = {
            "text": tuple(model.text_encoders),
            "encode": ("vae",),
            "decode": ("vae",),
        }
        configs = components.get(stage.part, ("unet",))
        return {
            "part": stage.part,
            "window": stage.window,
            "variant": variant
            and {
                "kind": variant.kind,
                "prune": variant.prune and variant.prune.model_dump(),
                "cut": variant.cut,
                "window": variant.window,
            },
            "configs": {name: dict(model.checkpoint.config(name)) for name in configs},
            "family": model.family,
            "conditions": {n: list(s) for n, s in self.conditions.items()},
            "text_inputs": list(of_guidance(model.text_inputs([""], None), self.guided)),
            "latents": [self.batch, *model.latent_shape],
            "prompt_length": model.prompt_length,
        }

    def needs_float32(self, stage: StageId) -> bool:
        """Whether the checkpoint's authors say that the stage overflows in half precision."""
        return stage.part in ("encode", "decode") and bool(self.model.vae.config.force_upcast)

    def variant(self, schedule: Schedule, call: Call, rows: int) -> NetworkVariant:
        """The network stage that `call` of `schedule` needs; raises `ScheduleError`.

        rows   of the history, as many as the run writes
        """
        prune = call.prune if self.counts(schedule, call) else None
        return NetworkVariant(call.kind, prune, self._cut(schedule), window_for(rows))

    def counts(self, schedule: Schedule, call: Call) -> TokenCounts | None:
        """Static token counts of `call`; None where it prunes nothing.

        That is also where a shallow call runs none of the blocks in which tokens are pruned.
        Raises `ScheduleError` if what `prune` asks for does not fit the model.
        """
        if call.prune is None:
            return None
        if self.level is None:
            raise ScheduleError(
                f"schedule '{schedule.name}': this model has no self-attention on its way down "
                "or up, so `prune` has nothing to act on: remove it"
            )
        counts = count_tokens(call.prune, *self._grid(), schedule.name)
        cut = self._cut(schedule)
        if call.kind == "shallow" and cut and not self._run_in_shallow(self.level, cut):
            return None
        return counts

    def _cut(self, schedule: Schedule) -> str | None:
        return cut_path(self.model.unet, schedule.cache, schedule.name) if schedule.cache else None

    def _grid(self) -> tuple[int, int]:
        """Tokens down and across, where they are pruned."""
        assert self.level
        _, h, w = self.model.latent_shape
        return self.level.grid(h, w)

    def _run_in_shallow(self, level: PrunedLevel, cut: str) -> list[str]:
        """The transformers of `level` that shallow calls run, in order."""
        branch = branch_of(self.model.unet, cut)
        return [path for path, least in level.transformers.items() if branch >= least]

    def _network(self, variant: NetworkVariant) -> StageSource:
        """The full or shallow stage: prompt and timestep hoisted, cut where features are cached."""
        traced, hoisted, blocks = self._network_trace(
            variant.prune, variant.window, self._afresh(variant)
        )
        told = {*self.conditions, *TIMESTEP}
        inputs = {n: name for name, n in traced.inputs.items() if name not in told}
        inputs |= hoisted
        outputs = {traced.outputs[0]: "prediction"}
        run = self._blocks_run(variant)
        marks = zip(blocks, traced.outputs[1:], strict=True)
        outputs |= {node: f"{SELECTION}{block}" for block, node in marks if block in run}
        if variant.cut:
            cached = cut_node(traced, f"unet.{variant.cut}")
            if variant.kind == "full":
                outputs[cached] = "cached"
            else:
                inputs[cached] = "cached"
        return StageSource(variant.name, extract(traced, inputs, outputs))

    def _prompt(self) -> StageSource:
        """Cross-attention keys and values of all blocks, from the prompts' embeddings."""
        return self._hoisted("prompt", tuple(self.conditions))

    def _time(self) -> StageSource:
        """What every block takes from the timestep; run at export, its results are constants."""
        return self._hoisted("time", TIMESTEP)

    def _hoisted(self, name: str, told: tuple[str, ...]) -> StageSource:
        traced, hoisted, _ = self._network_trace(None, WINDOW_STEP, None)
        inputs = {traced.inputs[name]: name for name in told}
        outputs = {node: n for node, n in hoisted.items() if n.startswith(f"{name}.")}
        return StageSource(name, extract(traced, inputs, outputs))

    def _text(self) -> StageSource:
        module, outputs = self.model.text_stage()
        examples = self.model.text_inputs([""] * self.batch, [""] * self.batch)
        inputs = of_guidance(examples, self.guided)
        outputs = tuple(of_guidance(dict.fromkeys(outputs), self.guided))
        return _whole("text", trace(module, inputs), outputs)

    def _encode(self) -> StageSource:
        """The image that a run starts from, as latents."""
        shape = (self.batch, self.model.height, self.model.width, 3)
        inputs = {"init_image": torch.zeros(shape, dtype=torch.uint8)}
        module = Encoder(self.model.vae, self.model.latent_scale, self.halves)
        return _whole("encode", trace(module, inputs), ("latents",))

    def _decode(self, window: int) -> StageSource:
        module = Decoder(self.model.vae, self.model.latent_scale)
        traced = trace(module, self._loop_inputs(window))
        return _whole("decode", traced, ("latents", "image"))

    def _trace_network(
        self, prune: Prune | None, window: int, select_after: str | None
    ) -> tuple[Trace, dict[fx.Node, str], tuple[int, ...]]:
        """The traced network call, the values that are hoisted out of it, by name, and the
        blocks that select tokens."""
        model, b = self.model, self.batch
        inputs = self._loop_inputs(window) | {"timestep": torch.zeros(1)}
        inputs |= {name: torch.zeros(shape) for name, shape in self.conditions.items()}
        context = None
        if prune:
            counts = count_tokens(prune, *self._grid(), "traced")
            context = CallContext(prune, counts)
            inputs["score_weights"] = torch.zeros(1, 2)
            if prune.alpha:
                inputs["selection_noise"] = torch.zeros(1, b, counts.tokens)
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
        depends_on = dependencies(traced)
        hoisted = frontier(traced, depends_on, self.conditions, "prompt")
        hoisted |= frontier(traced, depends_on, TIMESTEP, "time")
        return traced, hoisted, tuple(context.made if context else ())

    def _blocks_run(self, variant: NetworkVariant) -> Collection[int]:
        """The pruned blocks that the stage runs."""
        unet = self.model.unet
        cut = variant.cut if variant.kind == "shallow" else None
        return pruned_blocks(unet, branch_of(unet, cut) if cut else None)

    def _afresh(self, variant: NetworkVariant) -> str | None:
        """Where a shallow call begins to select, if it shares its first block's selection.

        That is behind the cut where the call leaves out the block that selects in a full call.
        """
        shares = variant.prune is not None and variant.prune.similarity == "call"
        if variant.kind != "shallow" or not shares or not variant.cut or not self.level:
            return None
        first = next(iter(self.level.transformers))
        return None if first in self._run_in_shallow(self.level, variant.cut) else variant.cut

    def _loop_inputs(self, window: int) -> dict[str, Tensor]:
        """Examples of what the sampler gives to every network call and to the decoder."""
        latents = (self.batch, *self.model.latent_shape)
        inputs = {
            "noise": torch.zeros(latents),
            "history": torch.zeros(window, self.halves, *latents),
            "coef": torch.zeros(1, 1 + window),
            "guidance_scale": torch.tensor(1.0),
        }
        return of_guidance(inputs, self.guided)


def _whole(name: str, traced: Trace, outputs: tuple[str, ...]) -> StageSource:
    """A stage that is a whole trace."""
    inputs = {node: name for name, node in traced.inputs.items()}
    named = dict(zip(traced.outputs, outputs, strict=True))
    return StageSource(name, extract(traced, inputs, named))
