"""What distinguishes one network stage of a model from another."""

from __future__ import annotations

from dataclasses import dataclass

from ..methods.dato import TokenCounts
from ..methods.kept_tokens import checked
from ..methods.token_pruning import counts_of
from ..models.denoiser import Cut
from ..models.family import Model
from ..schedule.schema import Call, Schedule
from ..schedule.settings import Keep, Prune

WINDOW_STEP = 64  # windows are multiples of this, so that most schedules share their engines


@dataclass(frozen=True)
class NetworkVariant:
    """kind     full, shallow or tokens
    prune    how tokens are pruned, if they are
    keep     which tokens a call of kind tokens keeps
    caches   whether a full call keeps its keys and values, for those
    cut      where features are cached, if some call of the schedule reads them
    window   S: predictions in the history's window
    """

    kind: str
    prune: Prune | None
    cut: Cut | None
    window: int
    keep: Keep | None = None
    caches: bool = False

    @property
    def call(self) -> Call:
        """The call that is traced: what it gives beside the prediction changes nothing in it."""
        if self.kind == "tokens":
            return Call(kind="tokens", keep=self.keep)
        return Call(kind="full", prune=self.prune)

    @property
    def name(self) -> str:
        """The stage's name within a plan."""
        if self.kind == "tokens":
            assert self.keep
            return f"tokens-{self.keep.scorer}{self.keep.ratio:g}"
        return f"{self.kind}-{self.prune.method}{self.prune.ratio:g}" if self.prune else self.kind


def window_for(rows: int) -> int:
    """Length of the history's window for a plan that writes `rows` rows of it."""
    return -(-rows // WINDOW_STEP) * WINDOW_STEP


def variant_of(model: Model, schedule: Schedule, call: Call, rows: int) -> NetworkVariant:
    """The network stage that `call` of `schedule` needs; raises `ScheduleError`.

    rows   of the history, as many as the run writes
    """
    window = window_for(rows)
    if call.keep:
        checked(model.denoiser, call.keep, (1, *model.latent_shape), schedule.name)
        return NetworkVariant(call.kind, None, None, window, call.keep)
    prune = call.prune if pruned_counts(model, schedule, call) else None
    caches = call.kind == "full" and schedule.keeps_tokens
    return NetworkVariant(call.kind, prune, _cut(model, schedule), window, caches=caches)


def pruned_counts(model: Model, schedule: Schedule, call: Call) -> TokenCounts | None:
    """Static token counts of `call`; None where it prunes nothing.

    That is also where a shallow call runs none of the blocks in which tokens are pruned.
    Raises `ScheduleError` if what `prune` asks for does not fit the model.
    """
    if call.prune is None:
        return None
    grid = model.denoiser.tokens(*model.latent_shape[1:])
    counts = counts_of(call.prune, grid, schedule.name)
    cut = _cut(model, schedule)
    if grid and call.kind == "shallow" and cut and all(map(cut.leaves_out, grid.blocks)):
        return None
    return counts


def _cut(model: Model, schedule: Schedule) -> Cut | None:
    return model.denoiser.cut(schedule.cache, schedule.name) if schedule.cache else None
