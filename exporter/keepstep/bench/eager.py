"""The schedules of a bundle, run by PyTorch with the model that was exported.

Where there is a GPU it is used, in the bundle's dtype; that is what a product without keepstep
would do. The clock is then read only when the GPU has finished, so that the time of a whole run
and those of its calls come from two runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from keepstep.exporter.folder.model_folder import find_folder
from keepstep.exporter.schedule.schema import Schedule
from keepstep.exporter.settings import choice_of
from keepstep.exporter.store.bundle_writer import schedule_path
from keepstep.playing.conditioning import grey, noises
from keepstep.runtime import Bundle
from keepstep.runtime.errors import InputError
from keepstep.runtime.format.plan import TensorType

from .configurations import Run
from .setting import Setting

if TYPE_CHECKING:
    from keepstep.exporter.models import Model

EAGER, COMPILED = "eager", "torch.compile"
MODE = "reduce-overhead"  # of torch.compile: with CUDA graphs


@dataclass(frozen=True)
class Place:
    """Where PyTorch runs, and in which dtype."""

    device: str
    dtype: str


def usual_place(bundle: Bundle) -> Place:
    """The GPU in the bundle's dtype, or the CPU in float32."""
    import torch

    if torch.cuda.is_available():
        return Place("cuda", bundle.manifest.model.get("dtype", "float32"))
    return Place("cpu", "float32")


class EagerModel:
    """The exported model, loaded when it is first run, once for all configurations."""

    def __init__(self, folder: str, bundle: Bundle, place: Place) -> None:
        self.folder = folder
        self.place = place
        self._bundle = bundle

    @property
    def on_gpu(self) -> bool:
        """Whether calls return before they are done."""
        return self.place.device != "cpu"

    @cached_property
    def modules(self) -> Model:
        """The modules where they run. Raises `ModelError`, and `InputError` for another model."""
        import torch

        from keepstep.exporter import models

        plan = self._bundle.plan(self._bundle.plans[0])
        _, height, width, _ = plan.values["image"].type.shape
        folder = find_folder(self.folder, choice_of(self._bundle))
        model = models.load(folder, height, width)
        expected = (self._bundle.manifest.model.get("family"), plan.values["noise"].type.shape[1:])
        found = (model.family, model.latent_shape)
        if found != expected:
            raise InputError(
                f"{self.folder}: a {found[0]} model with latents {list(found[1])}, but the bundle "
                f"was made of a {expected[0]} one with {list(expected[1])}: give the folder that "
                "was exported"
            )
        return model.placed(self.place.device, getattr(torch, self.place.dtype))

    @cached_property
    def compiled(self) -> Model:
        """The same, its network compiled by PyTorch when it is first run."""
        import torch

        model = self.modules
        network: Any = torch.compile(model.denoiser.module, mode=MODE)
        return replace(model, denoiser=replace(model.denoiser, module=network))

    def clock(self) -> float:
        """Seconds, when all that was started is done."""
        if self.on_gpu:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter()

    def weight_bytes(self) -> int:
        """Of all modules."""
        model = self.modules
        modules = (model.denoiser.module, model.autoencoder.module, model.text.stage)
        return sum(p.numel() * p.element_size() for m in modules for p in m.parameters())


@dataclass
class EagerConfiguration:
    """The schedule of a plan, run by PyTorch; `how` says whether its network is compiled."""

    bundle: Bundle
    plan: str
    loaded: EagerModel
    setting: Setting
    how: str = EAGER

    def __post_init__(self) -> None:
        self.label = self.plan
        self.model: str | None = self.loaded.folder
        self.rounds = self.setting.rounds_of_eager

    def run(self) -> Run:
        """Draw with the real scheduler and the real modules."""
        if self.setting.threads:
            import torch

            torch.set_num_threads(self.setting.threads)
        if not self.loaded.on_gpu:
            return self._draw(time.perf_counter)
        whole = self._draw(time.perf_counter)  # nobody waits for a call before the next one
        return replace(whole, calls=self._draw(self.loaded.clock).calls)

    def golden_error(self) -> None:
        """An eager run is what golden values come from."""

    def close(self) -> None:
        """Leave the model to the other configurations."""

    def _draw(self, clock: Callable[[], float]) -> Run:
        """One run, whose calls are timed by `clock`."""
        from keepstep.exporter.check.reference import run_eagerly

        loaded = self.loaded
        model = loaded.compiled if self.how == COMPILED else loaded.modules
        types = self._inputs
        prompts = [self.setting.prompt] * types["noise"].shape[0]
        arrays = _tensors({**noises(types, self.setting.seed), **grey(types)})
        memory = _DeviceMemory(loaded) if loaded.on_gpu and self.how == EAGER else None
        start = loaded.clock()
        begin = clock()
        conditions = model.embed(prompts, None, model.guidance_of(self._schedule))
        text = ("text", clock() - begin)
        run = run_eagerly(
            model,
            self._schedule,
            arrays["noise"],
            conditions,
            self.setting.guidance_scale,
            arrays.get("selection_noise"),
            init_image=arrays.get("init_image"),
            clock=clock,
        )
        seconds = loaded.clock() - start
        used = memory.peak() if memory else None if loaded.on_gpu else 0
        return Run(run.image, seconds, (text, *run.seconds), used)

    @property
    def _inputs(self) -> Mapping[str, TensorType]:
        values = self.bundle.plan(self.plan).values
        return {name: value.type for name, value in values.items() if value.kind == "input"}

    @cached_property
    def _schedule(self) -> Schedule:
        return Schedule.load(self.bundle.file(schedule_path(self.plan)))


class _DeviceMemory:
    """The GPU memory of one run: the weights, and the most that it takes beside them."""

    def __init__(self, loaded: EagerModel) -> None:
        import torch

        self._weights = loaded.weight_bytes()
        torch.cuda.reset_peak_memory_stats()
        self._before = int(torch.cuda.memory_allocated())

    def peak(self) -> int:
        """Bytes; what other configurations hold meanwhile is not counted."""
        import torch

        return self._weights + int(torch.cuda.max_memory_allocated()) - self._before


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
