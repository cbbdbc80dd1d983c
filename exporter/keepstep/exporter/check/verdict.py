"""What a check of a bundle found, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CallVerdict:
    """How far the worst tensor of a call is from its golden value, and what it selected."""

    stage: str
    call: int  # in `Plan.calls`
    tensor: str
    error: float
    tolerance: float
    undecided: int = 0  # tokens of its selections that rounding decided otherwise
    tokens: int = 0  # of how many
    fault: str = ""  # what is wrong with its selections beyond that

    @property
    def good(self) -> bool:
        """Whether it gives what the eager call gave; false for NaN."""
        return self.error <= self.tolerance and not self.fault

    @property
    def sentence(self) -> str:
        """What does not match, in words."""
        if self.fault and self.error == self.error:  # of what is no number, that is to be told
            return f"call {self.call}, stage '{self.stage}' selects other tokens: {self.fault}"
        return (
            f"call {self.call}, stage '{self.stage}' does not match the eager run: {self.tensor} "
            f"is off by {self.error:.2g}, expected at most {self.tolerance:g}"
        )


@dataclass(frozen=True)
class RunVerdict:
    """How far a whole run, as a player plays it, is from two others.

    error       from the eager run: its latents; each call passes on the error of the ones before
    tolerance   of that; None where it is not judged, as it hangs on ties
    replayed    from the same calls launched one by one: the worst output
    """

    error: float
    tolerance: float | None
    replayed: float
    replayed_tolerance: float

    @property
    def good(self) -> bool:
        """Whether it is as near as it must be; false for NaN."""
        near = self.tolerance is None or self.error <= self.tolerance
        return near and self.replayed <= self.replayed_tolerance

    @property
    def sentence(self) -> str:
        """What does not match, in words."""
        if not self.replayed <= self.replayed_tolerance:
            return (
                f"the run as it is played is off by {self.replayed:.2g} from its calls one by one, "
                f"expected at most {self.replayed_tolerance:g}"
            )
        return (
            "every call gives what the eager one does, but the whole run is off by "
            f"{self.error:.2g}, expected at most {self.tolerance:g}"
        )


@dataclass(frozen=True)
class Verdict:
    """How far one plan, played on one backend, is from its golden values."""

    plan: str
    backend: str
    calls: tuple[CallVerdict, ...]  # those that were recorded, in order
    run: RunVerdict | None  # None where no run was recorded

    @property
    def mismatch(self) -> CallVerdict | None:
        """The first call that does not give what it must."""
        return next((call for call in self.calls if not call.good), None)

    @property
    def good(self) -> bool:
        """Whether every call, and the run, give what the eager ones gave; false for NaN."""
        return self.mismatch is None and (self.run is None or self.run.good)

    @property
    def stages(self) -> tuple[CallVerdict, ...]:
        """The worst call of every stage, in the order in which they first run."""
        worst: dict[str, CallVerdict] = {}
        for call in self.calls:
            known = worst.get(call.stage)
            worst[call.stage] = call if known is None or badness(call) > badness(known) else known
        return tuple(worst.values())

    @property
    def sentence(self) -> str:
        """What was found, in one line."""
        about = f"plan '{self.plan}' on {self.backend}: "
        if call := self.mismatch:
            return about + call.sentence
        if self.run and not self.run.good:
            return about + self.run.sentence
        return about + "as the eager run"


def badness(call: CallVerdict) -> tuple[bool, bool, float]:
    """Which of two calls, or of two tensors of a call, is the worse one: it has more of this."""
    return bool(call.fault), call.error != call.error, call.error / call.tolerance
