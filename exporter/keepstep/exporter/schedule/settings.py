"""What a schedule may set: the sampler, guidance, caching, pruning, and which tokens are kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from keepstep.runtime.quoting import escape, quote

LARGEST_SETTING = 1e6  # of a sampler: no list that diffusers makes of one fills the memory

Kind = Literal["full", "shallow", "tokens", "skip"]
Guidance = Literal["classifier-free", "none", "embedded"]
OWN = "own"  # a scheduler that is not named: the checkpoint's own


class Frozen(BaseModel):
    """Settings that do not change, and have no others beside them."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampler(BaseModel):
    """A diffusers scheduler and its steps; further keys override the scheduler's config.

    Where a schedule leaves them out they are the checkpoint's own, and as many as its pipeline
    makes: `OWN` and 0, until the schedule meets a model (`settled`).
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    scheduler: str = OWN
    steps: Annotated[int, Field(ge=1, le=1000, strict=True)] = 0
    strength: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None  # from an image

    @model_validator(mode="after")
    def _some_step_remains(self) -> Sampler:
        if not self.steps or self.strength is None:
            return self
        if first_step(self.steps, self.strength) == self.steps:
            raise ValueError(
                f"strength {self.strength:g} leaves none of {self.steps} steps: give a strength "
                f"of at least 1/{self.steps}, or more steps"
            )
        return self

    @model_validator(mode="after")
    def _settings_are_of_this_world(self) -> Sampler:
        for name, value in self.overrides.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and abs(number) > LARGEST_SETTING:
                    raise ValueError(
                        f"{escape(name)} is {quote(number)}: no sampler has settings beyond "
                        f"{LARGEST_SETTING:g}"
                    )
        return self

    def settled(self, scheduler: str, steps: int) -> Sampler:
        """With what was left out; raises `ValueError` where `strength` leaves none of the steps."""
        own = {"scheduler": scheduler} if self.scheduler == OWN else {}
        return Sampler.model_validate({**self.model_dump(), **own, "steps": self.steps or steps})

    @property
    def overrides(self) -> dict[str, Any]:
        """Config entries that differ from the model folder's scheduler config."""
        return dict(self.model_extra or {})


def first_step(steps: int, strength: float) -> int:
    """Steps that a run from an image leaves out, as `get_timesteps` of diffusers' img2img."""
    return steps - min(int(steps * strength), steps)


_Count = Annotated[int, Field(ge=0, strict=True)]


class CacheSettings(Frozen):
    """Where full calls keep the features from which shallow calls go on.

    `branch` counts skip connections from the top (DeepCache, section 3.2): at 0 a shallow call
    runs the first convolution, the last block of the last level, and the output convolution.
    `module` names a module instead; its output is kept. `blocks` says how many of a transformer's
    first and last blocks a shallow call runs; what those between added to the tokens is kept.
    """

    branch: Annotated[int, Field(ge=0, strict=True)] | None = None
    module: str | None = None
    blocks: tuple[_Count, _Count] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> CacheSettings:
        if sum(given is not None for given in (self.branch, self.module, self.blocks)) != 1:
            raise ValueError("give one of `branch`, `module` and `blocks`")
        return self


class Prune(Frozen):
    """DaTo token pruning of self-attention where the network has most tokens (`pruning.dato`)."""

    method: Literal["dato"] = "dato"
    ratio: Annotated[float, Field(gt=0, lt=1)]
    patch: Annotated[int, Field(ge=2, le=8, strict=True)] = 2
    gamma: FiniteFloat = 1.0  # weight of the change of the prediction in a token's score
    alpha: FiniteFloat = 0.0  # weight of the noise; if not 0, the plan has a `selection_noise`
    recover: Literal["base", "kept"] = "base"  # whom a pruned token may copy (paper; code)
    similarity: Literal["block", "call"] = "block"  # select anew in every block, or once a call


class Keep(Frozen):
    """Which tokens of the picture `tokens` calls run: keys and values of the others are those of
    earlier calls (CAT, arXiv 2502.00433; RAS, arXiv 2502.10389). A number alone is the ratio."""

    ratio: Annotated[float, Field(gt=0, lt=1)]  # of all tokens of the picture
    scorer: Literal["cat", "ras", "noise-only", "stale-only", "random"] = "cat"
    clusters: Literal["lloyd", "grid"] = "lloyd"  # of `cat`

    @model_validator(mode="before")
    @classmethod
    def _ratio_alone(cls, given: Any) -> Any:
        number = isinstance(given, int | float) and not isinstance(given, bool)
        return {"ratio": given} if number else given
