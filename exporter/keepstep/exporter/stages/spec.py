"""A stage as it is declared: what it depends on, how it is traced, how its tensors are bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..graph.extract import Subgraph
from ..methods.port import Port
from ..store.cache import cache_key


@dataclass(frozen=True)
class TracedStage:
    """A subgraph in float32, of which all dtypes are made, and a port for each of its tensors."""

    subgraph: Subgraph
    ports: Mapping[str, Port]

    def __post_init__(self) -> None:
        missing = {*self.subgraph.inputs, *self.subgraph.outputs} - set(self.ports)
        assert not missing, f"no port for {', '.join(sorted(missing))}"


@dataclass(frozen=True)
class StageSpec:
    """A stage of a model, traced on demand. Two are equal if they depend on the same.

    name       within a plan
    identity   all that it depends on beside this program: what its cache key is made of
    make       traces it
    kinds      by which `--float32` knows it
    float32    whether the checkpoint's authors say that it overflows in half precision
    wide       endings of the paths of weights whose products float16 does not hold
    cost       of its conversion, relative to others
    """

    name: str
    identity: Mapping[str, object] = field(compare=False, repr=False)
    make: Callable[[], TracedStage] = field(compare=False, repr=False)
    kinds: frozenset[str] = field(compare=False, default=frozenset())
    float32: bool = field(compare=False, default=False)
    wide: tuple[str, ...] = field(compare=False, default=())
    cost: int = field(compare=False, default=8)
    key: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", cache_key(dict(self.identity)))

    @cached_property
    def traced(self) -> TracedStage:
        """The stage in float32, traced if it has not been yet."""
        return self.make()

    @property
    def subgraph(self) -> Subgraph:
        """Its operations."""
        return self.traced.subgraph

    @property
    def ports(self) -> Mapping[str, Port]:
        """How its tensors are bound."""
        return self.traced.ports
