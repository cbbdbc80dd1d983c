"""The stages of a model, declared. Each pruning variant of the network is traced once; its full,
shallow, prompt, timestep and conditioning parts are subgraphs of that one trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, fx

from ..graph.batch import batched
from ..graph.extract import Place, Residual, extract
from ..graph.hoist import Hoisted, hoist
from ..graph.trace import Trace, trace
from ..methods.clusters import Clusters
from ..methods.kept_tokens import COUNTS, LABELS, REFERENCE, Begin, named
from ..methods.port import Port
from ..methods.registry import methods_of
from ..models.denoiser import Cut, Site
from ..models.family import Model
from ..models.guidance import halves_of
from ..schedule.schema import Call, Schedule
from ..schedule.settings import Guidance
from .networks import LOOP, PREDICTION, Decoder, Encoder, NetworkCall, loop_examples
from .spec import StageSpec, TracedStage
from .variant import WINDOW_STEP, NetworkVariant, variant_of

TIMESTEP = ("timestep",)
LARGE = 30  # the cost of a stage with the whole network, where others have 8


@dataclass(frozen=True)
class _TracedNetwork:
    """The traced network call, and what can be cut out of it.

    hoisted   values that are computed outside of the loop
    sites     the tensors at the denoiser's cuts
    given     what the methods give, by name
    made_in   paths of the modules in which they make it
    """

    trace: Trace
    ports: Mapping[str, Port]
    hoisted: Hoisted
    sites: Mapping[Site, fx.Node]
    given: Mapping[str, fx.Node]
    made_in: Mapping[str, str]


class StageFactory:
    """Declares the stages of a model for runs of `batch` pictures; each is traced once.

    `guidance` says of which runs.
    """

    def __init__(self, model: Model, batch: int, guidance: Guidance = "classifier-free") -> None:
        self.model = model
        self.batch = batch
        self.guidance: Guidance = guidance
        self.conditions = model.conditions(batch, guidance)
        self.text = cache(self._text)
        self.prompt = cache(self._prompt)
        self.time = cache(self._time)
        self.conditioning = cache(self._conditioning)
        self.encode = cache(self._encode)
        self.decode = cache(self._decode)
        self.begin = cache(self._begin)
        self.network = cache(self._network)
        self._network_trace = cache(self._trace_network)

    @property
    def halves(self) -> int:
        """H: the halves of guidance."""
        return halves_of(self.guidance)

    @property
    def latents(self) -> tuple[int, ...]:
        """(B, C, h, w)."""
        return (self.batch, *self.model.latent_shape)

    def variant(self, schedule: Schedule, call: Call, rows: int) -> NetworkVariant:
        """The network stage that a call needs (`variant_of`)."""
        return variant_of(self.model, schedule, call, rows)

    def _spec(
        self,
        name: str,
        make: Callable[[], TracedStage],
        components: tuple[str, ...],
        *,
        kind: str = "",
        float32: bool = False,
        wide: tuple[str, ...] = (),
        cost: int = 8,
        **what: object,
    ) -> StageSpec:
        """components: those of the checkpoint that the stage is made of."""
        model = self.model
        identity = {
            "part": name,
            **what,
            "configs": {part: dict(model.checkpoint.config(part)) for part in components},
            "family": model.family,
            "conditions": {n: list(s) for n, s in self.conditions.items()},
            "text_inputs": list(model.text.inputs([""], None, self.guidance)),
            "latents": list(self.latents),
            "prompt_lengths": dict(model.text.lengths),
        }
        return StageSpec(name, identity, make, frozenset([kind or name]), float32, wide, cost)

    def _text(self) -> StageSpec:
        """Token ids → the conditions that they become."""
        text = self.model.text
        outputs = text.names(self.guidance)

        def make() -> TracedStage:
            inputs = text.inputs([""] * self.batch, [""] * self.batch, self.guidance)
            feeds = {name: Port(name, makes="feed") for name in outputs}
            return _whole(trace(text.stage, inputs), outputs, _own(inputs) | feeds)

        return self._spec("text", make, tuple(text.encoders), wide=text.wide)

    def _encode(self) -> StageSpec:
        """The image that a run starts from, as latents: a prediction before the first one."""
        model = self.model

        def make() -> TracedStage:
            shape = (self.batch, model.height, model.width, 3)
            inputs = {"init_image": torch.zeros(shape, dtype=torch.uint8)}
            traced = trace(Encoder(model.autoencoder, self.halves), inputs)
            return _whole(traced, ("latents",), _own(inputs) | {"latents": LOOP["history"]})

        autoencoder = model.autoencoder
        return self._spec("encode", make, (autoencoder.component,), float32=autoencoder.upcast)

    def _decode(self, window: int) -> StageSpec:
        """The finished history → latents and picture."""
        autoencoder = self.model.autoencoder

        def make() -> TracedStage:
            inputs = loop_examples(self.latents, self.halves, window)
            outputs = {name: Port(name, makes="output") for name in ("latents", "image")}
            return _whole(trace(Decoder(autoencoder), inputs), [*outputs], {**LOOP, **outputs})

        upcast = autoencoder.upcast
        return self._spec("decode", make, (autoencoder.component,), window=window, float32=upcast)

    def _network(self, variant: NetworkVariant) -> StageSpec:
        """The full or shallow stage: prompt and timestep hoisted, cut where features are cached."""
        cut = variant.cut.name if variant.cut else None
        return self._spec(
            variant.name,
            lambda: self._extract_network(variant),
            (self.model.denoiser.component,),
            kind=variant.kind,
            cost=LARGE if variant.kind == "full" else 8,
            variant={
                "kind": variant.kind,
                "prune": variant.prune and variant.prune.model_dump(),
                "cut": cut,
                "window": variant.window,
                **({"keep": variant.keep.model_dump()} if variant.keep else {}),
                **({"caches": True} if variant.caches else {}),
            },
        )

    def _begin(self, clusters: Clusters) -> StageSpec:
        """What choices of kept tokens go on from."""

        def make() -> TracedStage:
            examples = {"history": torch.zeros(2, self.halves, *self.latents)}
            outputs = (REFERENCE, COUNTS, LABELS)
            return _whole(trace(Begin(clusters), examples), outputs, {**LOOP, **_own(outputs)})

        return self._spec("begin-tokens", make, (), clusters=clusters.kind, float32=True)

    def _prompt(self) -> StageSpec:
        """What depends on the conditions alone, such as cross-attention's keys and values."""

        return self._hoisted("prompt", self.conditions, lambda hoisted: hoisted.prompt)

    def _time(self) -> StageSpec:
        """What depends on the timestep alone; run at export, its results are constants."""
        return self._hoisted("time", TIMESTEP, lambda hoisted: hoisted.time)

    def _hoisted(
        self, name: str, told: Iterable[str], outputs: Callable[[Hoisted], Mapping[fx.Node, str]]
    ) -> StageSpec:
        """The part of the network from the inputs `told` to one of the frontiers."""

        def make() -> TracedStage:
            network = self._network_trace(Call(kind="full"), WINDOW_STEP, None)
            given = {network.trace.inputs[tensor]: tensor for tensor in told}
            part = extract(network.trace, given, outputs(network.hoisted))
            return TracedStage(part, network.ports)

        return self._spec(name, make, (self.model.denoiser.component,))

    def _conditioning(self, window: int) -> StageSpec:
        """What depends on timestep and conditions, such as modulation, for all calls at once.

        window   as many calls as it is made for, so that schedules share it: at least those of a
                 run
        """

        def make() -> TracedStage:
            network = self._network_trace(Call(kind="full"), WINDOW_STEP, None)
            trace, hoisted = network.trace, network.hoisted
            given = {trace.inputs[name]: name for name in self.conditions}
            part = extract(trace, {**given, **hoisted.prompt, **hoisted.time}, hoisted.both)
            by_call = {*part.inputs} & {*hoisted.time.values()}
            # All rows of a table, where a call of the network takes those of its own.
            whole = {n: replace(network.ports[n], rows="whole") for n in (*by_call, *part.outputs)}
            if part.outputs:
                part = batched(part, window, by_call)
            return TracedStage(part, {**network.ports, **whole})

        component = self.model.denoiser.component
        return self._spec("conditioning", make, (component,), kind="prompt", window=window)

    def _extract_network(self, variant: NetworkVariant) -> TracedStage:
        """The part of a traced call that a variant runs."""
        grid = self.model.denoiser.tokens(*self.latents[2:])
        restart = variant.cut if grid and _reselects(variant, grid.blocks) else None
        network = self._network_trace(variant.call, variant.window, restart)
        traced = network.trace
        inputs: dict[Place, str] = {
            node: name for name, node in traced.inputs.items() if name not in TIMESTEP
        }
        inputs |= dict(network.hoisted.all.items())
        outputs: dict[Place, str] = {traced.outputs[0]: "prediction"}
        shallow = variant.cut if variant.kind == "shallow" else None
        for name, node in network.given.items():
            if not (shallow and shallow.leaves_out(network.made_in[name])):
                outputs[node] = name
        ports = dict(network.ports)
        for number, kept in enumerate(variant.cut.kept if variant.cut else ()):
            name = f"cached.{number}" if number else "cached"
            ports[name] = Port(name, lowered=True)
            site, since = network.sites[kept.site], kept.since
            place = Residual(site, network.sites[since]) if since else site
            (inputs if shallow else outputs)[place] = name
        attentions = self.model.denoiser.attentions if variant.caches else ()
        for number, attention in enumerate(attentions):
            for name, linear in named(number, attention.path):
                ports[name] = Port(name, lowered=True)
                outputs[network.sites[Site(linear)]] = name
        return TracedStage(extract(traced, inputs, outputs), ports)

    def _trace_network(self, call: Call, window: int, restart: Cut | None) -> _TracedNetwork:
        """The traced network call; `restart`: where what methods did before is forgotten."""
        methods = methods_of(self.model.denoiser, call, self.latents, self.halves)
        taken = {name: x for method in methods for name, x in method.inputs().items()}
        inputs: dict[str, Tensor] = {
            **loop_examples(self.latents, self.halves, window),
            "timestep": torch.zeros(1),
            **{name: torch.zeros(shape) for name, shape in self.conditions.items()},
            **{name: example for name, (example, _) in taken.items()},
        }
        denoiser = self.model.denoiser
        sites = denoiser.sites
        network = NetworkCall(denoiser, methods, sites)
        with ExitStack() as hooks:
            if restart:
                module = denoiser.module.get_submodule(restart.kept[0].site.module)
                for method in methods:
                    hook = module.register_forward_hook(lambda *_, m=method: m.restart())
                    hooks.callback(hook.remove)
            traced = trace(network, inputs)
        hoisted = hoist(traced, TIMESTEP, self.conditions)
        by_call = (*hoisted.time.values(), *hoisted.both.values())
        _, *others = traced.outputs
        made = {name: output for method in methods for name, output in method.made().items()}
        ports = {
            **LOOP,
            **_own(self.conditions),
            "timestep": Port("timestep"),
            **{name: port for name, (_, port) in taken.items()},
            **{name: output.port for name, output in made.items()},
            **{name: Port(name, lowered=True) for name in hoisted.prompt.values()},
            **{name: Port(name, "call", lowered=True) for name in by_call},
            "prediction": PREDICTION,
        }
        return _TracedNetwork(
            traced,
            ports,
            hoisted,
            dict(zip(sites, others, strict=False)),
            dict(zip(made, others[len(sites) :], strict=True)),
            {name: output.module for name, output in made.items()},
        )


def _reselects(variant: NetworkVariant, blocks: Sequence[str]) -> bool:
    """Whether a shallow call shares a selection, but leaves out the block that makes it in a full
    one: then the first block that it runs selects."""
    shares = variant.prune is not None and variant.prune.similarity == "call"
    left_out = variant.kind == "shallow" and variant.cut and variant.cut.leaves_out(blocks[0])
    return shares and bool(left_out)


def _whole(traced: Trace, outputs: Sequence[str], ports: Mapping[str, Port]) -> TracedStage:
    """A stage that is a whole trace."""
    inputs = {node: name for name, node in traced.inputs.items()}
    named = dict(zip(traced.outputs, outputs, strict=True))
    return TracedStage(extract(traced, inputs, named), ports)


def _own(names: Iterable[str]) -> dict[str, Port]:
    """Tensors that are bound to the whole value of their own name."""
    return {name: Port(name) for name in names}
