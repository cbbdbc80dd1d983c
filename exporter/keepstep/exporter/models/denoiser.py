"""What the compiler has to know of a network that predicts: declared by each family, never asked
of the network's class elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from ..errors import ScheduleError
from ..schedule.schema import CacheSettings


@dataclass(frozen=True)
class Site:
    """A tensor that a module gives: the module's path in the network, and which of its outputs."""

    module: str
    output: int = 0


@dataclass(frozen=True)
class Cut:
    """A place where full and shallow calls part.

    name    what a schedule calls it
    site    the tensor that full calls keep and from which shallow calls go on
    deep    modules that shallow calls leave out; the site's is one of them
    """

    name: str
    site: Site
    deep: tuple[str, ...]

    def leaves_out(self, path: str) -> bool:
        """Whether shallow calls do without the module at `path`."""
        return any(path == deep or path.startswith(f"{deep}.") for deep in self.deep)


@dataclass(frozen=True)
class TokenGrid:
    """Where a network has most tokens: there they are pruned.

    rows, columns   of the grid of tokens
    blocks          paths of the transformer blocks that attend over them, in order of execution
    """

    rows: int
    columns: int
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Denoiser(ABC):
    """A network that predicts noise, and how it is called.

    module       its modules, in eval mode
    conditions   shapes, a picture, of what it is told beside latents and timestep, all float32
    """

    component: ClassVar[str]  # of the checkpoint: what the paths of its weights begin with

    module: nn.Module
    conditions: Mapping[str, tuple[int, ...]]

    @abstractmethod
    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """The prediction for sample (N, C, h, w), in its shape.

        timestep    () or (1,), the same for all N
        conditions  by name, each with N in front of its shape
        """

    @property
    def channels(self) -> int:
        """C of the latents."""
        return int(cast(Any, self.module.config).in_channels)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where it can be cut, the outermost first; nowhere, if a family does not say."""
        return ()

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of cuts, such as a block for the last module in it."""
        return {}

    def tokens(self, height: int, width: int) -> TokenGrid | None:
        """Where tokens are pruned, of latents of height × width; None where nothing can be."""
        return None

    def tracing(self) -> AbstractContextManager[object]:
        """Active while the network is traced: what a trace does better without."""
        return nullcontext()

    def cut(self, cache: CacheSettings, schedule: str) -> Cut:
        """The cut that `cache` asks for; raises `ScheduleError` where there is none."""
        cuts = self.cuts
        if not cuts:
            raise ScheduleError(
                f"schedule '{schedule}': this model cannot be cut, so nothing can be cached: "
                "remove `cache` and its shallow calls"
            )
        if cache.branch is not None:
            if cache.branch >= len(cuts):
                raise ScheduleError(
                    f"schedule '{schedule}': branch {cache.branch} does not exist: this model has "
                    f"skip connections 0 to {len(cuts) - 1}"
                )
            return cuts[cache.branch]
        name = self.aliases.get(str(cache.module), cache.module)
        for cut in cuts:
            if cut.name == name:
                return cut
        fit = ", ".join(cut.name for cut in reversed(cuts))
        raise ScheduleError(
            f"schedule '{schedule}': the model cannot be cut at '{cache.module}'; modules that "
            f"fit are {fit}"
        )
