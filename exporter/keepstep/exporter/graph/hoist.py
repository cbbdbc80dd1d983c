"""Hoisting: what does not depend on the latents leaves the loop.

There are three frontiers. What depends on the timestep alone is computed at export, what depends
on the prompt alone once a picture, and so is what depends on both, for all timesteps at once, if
it is a few vectors for each picture (modulation) and not one for each token of a prompt: the first
block's text of FLUX.1 at 28 timesteps would take 600 MB, and save a thousandth of the work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor, fx

from .dependencies import dependencies
from .trace import Trace

FEW = 16  # vectors: a block is modulated by 9 at most


@dataclass(frozen=True)
class Hoisted:
    """The values that enter the loop from outside: node → name.

    time    from what depends on the timestep alone
    prompt  from what depends on the conditions alone
    both    from what depends on timestep and conditions, and on nothing else
    """

    time: Mapping[fx.Node, str]
    prompt: Mapping[fx.Node, str]
    both: Mapping[fx.Node, str]

    @property
    def all(self) -> dict[fx.Node, str]:
        """All of them."""
        return {**self.prompt, **self.time, **self.both}


def hoist(trace: Trace, timestep: Collection[str], conditions: Collection[str]) -> Hoisted:
    """The frontiers of a trace; `timestep` and `conditions` are names of its inputs."""
    depends_on = dependencies(trace)

    def outside(inputs: Collection[str]) -> set[fx.Node]:
        return {node for node, told in depends_on.items() if told and told <= set(inputs)}

    time, prompt = outside(timestep), outside(conditions)
    # A condition that the loop takes as it is needs no stage that hands it on.
    given = {trace.inputs[name] for name in conditions}
    both = outside({*timestep, *conditions}) - time - prompt
    both = {node for node in both if _gives_tensors(node) and _vectors(node) <= FEW}
    return Hoisted(
        time=frontier(trace, time, "time"),
        prompt=frontier(trace, prompt, "prompt", given),
        both=frontier(trace, both, "conditioning"),
    )


def _gives_tensors(node: fx.Node) -> bool:
    """PyTorch also traces its own checks of dtypes, which give nothing."""
    return node.meta.get("val") is not None


def _vectors(node: fx.Node) -> int:
    """How many vectors a node's result has for each row; of several results, the most."""
    value = node.meta.get("val")
    tensors = value if isinstance(value, (tuple, list)) else [value]
    return max(int(prod(x.shape[1:-1])) for x in tensors if isinstance(x, Tensor))


def frontier(
    trace: Trace, inside: Collection[fx.Node], prefix: str, but: Collection[fx.Node] = ()
) -> dict[fx.Node, str]:
    """The nodes of `inside` whose results are taken by nodes that are not, without `but`.

    Node → a name made of `prefix` and the path of the weight that it comes from, so that the
    same value has the same name in every trace of a model.
    """
    named: dict[fx.Node, str] = {}
    for node in trace.graph.nodes:  # in order, so that names are stable
        if node in inside and node not in but and any(user not in inside for user in node.users):
            name = f"{prefix}.{_origin(trace, node)}"
            taken = sum(other == name or other.startswith(f"{name}:") for other in named.values())
            named[node] = f"{name}:{taken}" if taken else name
    return named


def _origin(trace: Trace, node: fx.Node) -> str:
    """The path of the nearest module with weights before `node`, or the node's own name."""
    seen, todo = {node}, [node]
    while todo:
        current = todo.pop(0)
        for source in current.all_input_nodes:
            if source in trace.weights:
                return trace.weights[source].rpartition(".")[0]
            if source not in seen:
                seen.add(source)
                todo.append(source)
    return node.name
