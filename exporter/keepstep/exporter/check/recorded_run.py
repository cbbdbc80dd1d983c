"""A whole eager run with all that happened in it: predictions, selections, and how sure they were.

`Recorder` is what every call of a plan is compared with. `EagerCalls` answers what is asked when
a plan's selections differ from the recorded ones where rounding decides: what would the eager
call have given with these, and were they as good a choice?
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from keepstep.runtime.format.plan import Plan

from ..methods import SELECTION
from ..methods.attach import CallContext
from ..methods.dato import Selection, TokenCounts
from ..methods.marks import marks_of, selection_of, slack_of
from ..models import Model
from ..plan.lowering import LoweredSchedule
from ..schedule.schema import Call, Schedule
from ..schedule.settings import Prune
from .golden import golden_outputs
from .reference import Network, Told
from .selection_check import Marks

Margins = Mapping[str, np.ndarray]  # tensor → (2, b, N): slack of scores and of similarities


@dataclass(frozen=True)
class EagerCall:
    """What one call gave: its prediction (1, H, B, C, h, w), and its selections."""

    prediction: np.ndarray
    marks: Marks = field(default_factory=dict)
    margins: Margins = field(default_factory=dict)


class _Watched(CallContext):
    """Notes every selection with its slack; blocks may be told what to select."""

    def __init__(self, prune: Prune, counts: TokenCounts, told: Marks) -> None:
        super().__init__(prune, counts)
        self.told = told
        self.marks: dict[str, np.ndarray] = {}
        self.margins: dict[str, np.ndarray] = {}

    def choose(self, block: int, x: Tensor, score: Tensor) -> Selection:
        tensor = f"{SELECTION}{block}"
        if tensor in self.told:
            marks = torch.from_numpy(self.told[tensor])
            selection = selection_of(marks, self.counts)
        else:
            selection = super().choose(block, x, score)
            marks = marks_of(selection, self.counts)
        slack = slack_of(x, score, marks, self.counts, self.prune.recover)
        self.marks[tensor] = marks.numpy()
        self.margins[tensor] = torch.stack([slack.score, slack.similarity]).numpy()
        return selection


class Recorder(Network):
    """The network of a model, which keeps what each of its calls gives."""

    def __init__(self, model: Model, schedule: Schedule, batch: int) -> None:
        super().__init__(model, schedule)
        self.calls: dict[int, EagerCall] = {}  # by their numbers among those that run
        self._batch = batch
        self._told: Mapping[int, Marks] = {}
        self._watched: _Watched | None = None

    def predict(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """What the UNet gives, and keep it."""
        self._watched = None
        prediction = super().predict(call, sample, t, told, extra)
        row = prediction.reshape(1, -1, self._batch, *prediction.shape[1:])
        made = EagerCall(row.numpy())
        if self._watched:
            made = replace(made, marks=self._watched.marks, margins=self._watched.margins)
        self.calls[self.runs] = made
        return prediction

    def context(self, prune: Prune, counts: TokenCounts) -> CallContext:
        """What selects tokens in this call, watched."""
        self._watched = _Watched(prune, counts, self._told.get(self.runs, {}))
        return self._watched


class _Rerun(Recorder):
    """A run that goes as it was recorded, and in which some calls are made again."""

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        recorded: Mapping[int, np.ndarray],
        told: Mapping[int, Marks],
        again: frozenset[int],
    ) -> None:
        super().__init__(model, schedule, recorded[0].shape[2])
        self._recorded, self._told, self._again = recorded, told, again

    def predict(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """What was recorded; what the UNet gives is kept where the call is made again."""
        if self.runs in self._again:
            super().predict(call, sample, t, told, extra)
        return torch.from_numpy(self._recorded[self.runs].copy()).flatten(0, 2)


def record_run(
    model: Model,
    entry: LoweredSchedule,
    inputs: Mapping[str, np.ndarray],
    progress: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """Golden values of a whole run; calls are numbered among those of the sampler that run.

    Margins are float16: only what is near to rounding is looked at.
    """
    recorder = Recorder(model, entry.schedule, len(inputs["noise"]))
    golden = golden_outputs(model, entry, inputs, progress, recorder)
    for run, call in recorder.calls.items():
        golden[f"calls.{run}.prediction"] = call.prediction
        for tensor, marks in call.marks.items():
            golden[f"calls.{run}.{tensor}"] = marks
            golden[f"margins.{run}.{tensor}"] = np.clip(call.margins[tensor], -1e4, 1e4).astype(
                np.float16
            )
    return golden


def golden_run(recorded: Mapping[str, np.ndarray], plan: Plan) -> dict[str, np.ndarray]:
    """What `record_run` gave, with the numbers that the calls have in `plan`."""
    numbers = network_calls(plan)
    golden = {}
    for key, array in recorded.items():
        kind, run, *tensor = key.split(".", 2)
        golden[".".join([kind, str(numbers[int(run)]), *tensor]) if tensor else key] = array
    return golden


def without_network(golden: Mapping[str, np.ndarray], plan: Plan) -> dict[str, np.ndarray]:
    """The golden values of a calibration that a recorded run does not have: those of the prompt,
    and of the image that a run starts from. What is launched later is given other values there."""
    own = {f"calls.{i}." for i in range(network_calls(plan)[0], len(plan.calls))}
    return {key: a for key, a in golden.items() if not key.startswith(tuple(own))}


def network_calls(plan: Plan) -> list[int]:
    """The calls of `plan` that run the network, in order."""
    return [i for i, call in enumerate(plan.calls) if call.step is not None]


class EagerCalls:
    """Makes calls of a recorded run again, with selections that they are told."""

    def __init__(
        self,
        load: Callable[[], Model],
        entry: LoweredSchedule,
        inputs: Mapping[str, np.ndarray],
    ) -> None:
        self._load, self._entry, self._inputs = load, entry, inputs

    def __call__(
        self, plan: Plan, recorded: Mapping[int, np.ndarray], told: Mapping[int, Marks]
    ) -> dict[int, EagerCall]:
        """The calls of `plan` that are in `told`, as they are with these selections.

        recorded   the prediction of every network call of `plan`, which all calls are given
        """
        numbers = network_calls(plan)
        runs = {i: run for run, i in enumerate(numbers)}
        again, full = set(), 0
        for run, k in enumerate(self._entry.running):
            full = run if self._entry.calls[k].kind == "full" else full
            if numbers[run] in told:
                again |= {full, run}  # whose features a shallow call goes on from
        network = _Rerun(
            model := self._load(),
            self._entry.schedule,
            {run: recorded[i] for i, run in runs.items()},
            {runs[i]: marks for i, marks in told.items()},
            frozenset(again),
        )
        golden_outputs(model, self._entry, self._inputs, lambda done, total: None, network)
        return {i: network.calls[runs[i]] for i in told}
