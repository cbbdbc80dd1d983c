"""What a method is: something that a schedule asks of a call beside running the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..models.denoiser import Denoiser
from ..schedule.schema import Call
from .port import Port


@dataclass(frozen=True)
class Predictions:
    """The predictions of a run so far, newest first: (S, H, B, C, h, w)."""

    window: Tensor

    @property
    def newest(self) -> Tensor:
        """The last one (B, C, h, w), without the prompt where the run has guidance."""
        return self.window[0, 0]

    @property
    def older(self) -> Tensor:
        """The one before, likewise."""
        return self.window[1, 0]

    @property
    def conditional(self) -> Tensor:
        """The last one (B, C, h, w), with the prompt."""
        return self.window[0, -1]


@dataclass(frozen=True)
class Output:
    """How something that a method makes of a call is bound.

    module   path of the module in which it is made: a call that leaves that out does not give it
    """

    port: Port
    module: str


class Method(ABC):
    """Changes what a call of the network computes, in the traced one and in the eager one alike.

    An object is made for each network call that is traced or run.
    """

    @classmethod
    @abstractmethod
    def of(
        cls, denoiser: Denoiser, call: Call, latents: Sequence[int], halves: int
    ) -> Method | None:
        """What a call with these settings has of this method; None for nothing."""

    @abstractmethod
    def inputs(self) -> Mapping[str, tuple[Tensor, Port]]:
        """What the stage takes beside what every network call takes: an example of each."""

    @abstractmethod
    def outputs(self) -> Mapping[str, Tensor]:
        """What the call that was just made gives beside the prediction."""

    @abstractmethod
    def made(self) -> Mapping[str, Output]:
        """What these outputs are, in the same order."""

    @abstractmethod
    def around(
        self, denoiser: Denoiser, last: Predictions, given: Mapping[str, Tensor]
    ) -> AbstractContextManager[object]:
        """Active around the call of `denoiser`. given: what `inputs` asks for."""

    def merged(self, prediction: Tensor, last: Predictions) -> Tensor:
        """What becomes of the prediction (H·B, C, h, w)."""
        return prediction

    def restart(self) -> None:  # noqa: B027
        """What ran before is no part of this call: it is what a shallow call leaves out."""

    @classmethod
    @abstractmethod
    def constants(
        cls, denoiser: Denoiser, calls: Sequence[Call], latents: Sequence[int]
    ) -> Mapping[str, np.ndarray]:
        """What `inputs` are in the calls that run, a row each, as far as they are fixed."""

    @classmethod
    def example(
        cls,
        denoiser: Denoiser,
        calls: Sequence[Call],
        latents: Sequence[int],
        generator: torch.Generator,
    ) -> Mapping[str, Tensor]:
        """The rest of them, which the caller gives, drawn: none if it does not say.

        latents   (B, C, h, w)
        """
        return {}
