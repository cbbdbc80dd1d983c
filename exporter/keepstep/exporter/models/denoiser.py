"""What the compiler has to know of a network that predicts: declared by each family, never asked
of the network's class elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from ..errors import ScheduleError
from ..schedule.settings import CacheSettings


@dataclass(frozen=True)
class Site:
    """A tensor that a module gives: the module's path in the network, and which of its outputs."""

    module: str
    output: int = 0


@dataclass(frozen=True)
class Kept:
    """What full calls keep: the tensor at a site, or what was added to it since another one."""

    site: Site
    since: Site | None = None


@dataclass(frozen=True)
class Cut:
    """A place where full and shallow calls part.

    name    what a schedule calls it
    kept    what full calls keep there and shallow calls go on from; all from one module
    deep    modules that shallow calls leave out; that one is the last of them
    """

    name: str
    kept: tuple[Kept, ...]
    deep: tuple[str, ...]

    @staticmethod
    def at(name: str, site: Site, deep: tuple[str, ...]) -> Cut:
        """Where one tensor is kept as it is."""
        return Cut(name, (Kept(site),), deep)

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
class Blocks:
    """The blocks of a transformer, through which streams of tokens go, the picture's first.

    enter   where the streams are made
    paths   of the blocks, in order of execution
    gives   which of a block's outputs each stream is; 0 where a block gives one tensor
    """

    enter: tuple[Site, ...]
    paths: tuple[str, ...]
    gives: tuple[int, ...]

    def behind(self, block: int) -> tuple[Site, ...]:
        """The streams behind the first `block` blocks; the picture's alone behind the last."""
        if block == 0:
            return self.enter
        streams = tuple(Site(self.paths[block - 1], output) for output in self.gives)
        return streams if block < len(self.paths) else streams[:1]

    def cut(self, first: int, last: int) -> Cut:
        """Where the first and last blocks of shallow calls run, and none of those between."""
        end = len(self.paths) - last
        streams = zip(self.behind(end), self.behind(first), strict=False)
        kept = tuple(Kept(site, since) for site, since in streams)
        return Cut(f"blocks {first}, {last}", kept, self.paths[first:end])


@dataclass(frozen=True)
class Attention:
    """An attention of a transformer, by its path; `to_k` and `to_v` make its keys and values.

    before   tokens of the text that these have in front of the picture's
    """

    path: str
    before: int = 0


@dataclass(frozen=True)
class TokenStream:
    """The way of the picture's tokens through a transformer: but in attention, each for itself.

    rows, columns   of the grid of tokens
    side            latents a side of a token
    enter           path of the module that gives all of them, (B, N, D)
    leave           path of the module that gives what each predicts, (B, N, side² · C)
    attentions      in order of execution
    """

    rows: int
    columns: int
    side: int
    enter: str
    leave: str
    attentions: tuple[Attention, ...]

    @property
    def tokens(self) -> int:
        """N: all tokens of the picture."""
        return self.rows * self.columns


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
    def config(self) -> Any:
        """The network's settings."""
        return self.module.config

    @property
    def channels(self) -> int:
        """C of the latents."""
        return int(self.config.in_channels)

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Where it can be cut, the outermost first; nowhere, if a family does not say."""
        return ()

    @property
    def blocks(self) -> Blocks | None:
        """The stack of a transformer; None for other networks."""
        return None

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every tensor that a cut may need, each once."""
        kept = [kept for cut in self.cuts for kept in cut.kept]
        every = [site for each in kept for site in (each.site, each.since) if site]
        every += [Site(f"{a.path}.{part}") for a in self.attentions for part in ("to_k", "to_v")]
        if blocks := self.blocks:
            every += [s for n in range(len(blocks.paths) + 1) for s in blocks.behind(n)]
        return tuple(dict.fromkeys(every))

    @property
    def aliases(self) -> Mapping[str, str]:
        """Other names of cuts, such as a block for the last module in it."""
        return {}

    def tokens(self, height: int, width: int) -> TokenGrid | None:
        """Where tokens are pruned, of latents of height × width; None where nothing can be."""
        return None

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """Where a transformer's tokens of the picture meet, in order; nothing if it does not say,
        and for other networks."""
        return ()

    def stream(self, height: int, width: int) -> TokenStream | None:
        """The way of the tokens of latents of height × width; None where there is none."""
        return None

    def running(self, index: Tensor) -> AbstractContextManager[object]:
        """Active while the network runs the tokens at index (HB, K) alone: what of it depends on
        where tokens are and is not in them."""
        return nullcontext()

    def tracing(self) -> AbstractContextManager[object]:
        """Active while the network is traced: what a trace does better without."""
        return nullcontext()

    def cut(self, cache: CacheSettings, schedule: str) -> Cut:
        """The cut that `cache` asks for; raises `ScheduleError` where there is none."""
        if cache.blocks is not None:
            return self._between(*cache.blocks, schedule)
        cuts = self.cuts
        if not cuts:
            instead = "write `cache: {blocks: [1, 1]}`" if self.blocks else "remove `cache`"
            raise ScheduleError(
                f"schedule '{schedule}': this model cannot be cut at a skip connection or a "
                f"module: {instead}, or leave its shallow calls out"
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

    def _between(self, first: int, last: int, schedule: str) -> Cut:
        """The cut that leaves out the blocks between the first and last ones."""
        if (blocks := self.blocks) is None:
            raise ScheduleError(
                f"schedule '{schedule}': this model is no stack of transformer blocks, so there is "
                "no range of them to cache: write `cache: {branch: 0}`"
            )
        count = len(blocks.paths)
        if first + last >= count:
            raise ScheduleError(
                f"schedule '{schedule}': this model has {count} blocks, so that the first {first} "
                f"and the last {last} leave none to cache: `blocks` may add up to {count - 1}"
            )
        return blocks.cut(first, last)
