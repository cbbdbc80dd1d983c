"""A bundle that can be played: its folder, players of its plans, and LoRAs added to its weights."""

from __future__ import annotations

from collections.abc import Iterable

from keepstep.runtime.folder.bundle_folder import BundleFolder
from keepstep.runtime.lora.file import Source
from keepstep.runtime.lora.merge import merged_weights
from keepstep.runtime.player.player import Player


class Bundle(BundleFolder):
    """A bundle whose files have been found whole; make one with `Bundle.open`."""

    def player(
        self, plan: str, backend: str = "onnxruntime", *, threads: int | None = None
    ) -> Player:
        """Load a plan for playing.

        `threads` is how many CPU threads one launch may use; the backend chooses when it is None.
        Raises `InputError`, `BundleError` or `BackendError`.
        """
        return Player(self, self.plan(plan), backend, threads=threads)

    def with_loras(self, loras: Iterable[tuple[Source, float]]) -> Bundle:
        """Give a bundle whose weights have these LoRAs added; all else is shared with this one.

        Each LoRA is a safetensors file, or its tensors by name, with its scale:
        `bundle.with_loras([("style.safetensors", 0.8)])`. Several add up. Nothing is built and
        nothing is written. Raises `InputError` for what is no LoRA, or not one for this model.
        """
        return self.with_arrays(merged_weights(self, loras))
