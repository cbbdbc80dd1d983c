"""What distinguishes one network stage of a model from another."""

from __future__ import annotations

from dataclasses import dataclass

from ..methods.dato import TokenCounts
from ..methods.token_pruning import counts_of
from ..models.denoiser import Cut
from ..models.family import Model
from ..schedule.schema import Call, Prune, Schedule

WINDOW_STEP = 64  # windows are multiples of this, so that most schedules share their engines


@dataclass(frozen=True)
class NetworkVariant:
    """kind     full or shallow
    prune    how tokens are pruned, if they are
    cut      where features are cached, if some call of the schedule reads them
    window   S: predictions in the history's window
    """

    kind: str
    prune: Prune | None
    cut: Cut | None
    window: int

    @property
    def name(self) -> str:
        """The stage's name within a plan."""
        return f"{self.kind}-{self.prune.method}{self.prune.ratio:g}" if self.prune else self.kind


def window_for(rows: int) -> int:
    """Length of the history's window for a plan that writes `rows` rows of it."""
    return -(-rows // WINDOW_STEP) * WINDOW_STEP


def variant_of(model: Model, schedule: Schedule, call: Call, rows: int) -> NetworkVariant:
    """The network stage that `call` of `schedule` needs; raises `ScheduleError`.

    rows   of the history, as many as the run writes
    """
    prune = call.prune if pruned_counts(model, schedule, call) else None
    return NetworkVariant(call.kind, prune, _cut(model, schedule), window_for(rows))


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
