"""The same schedule, run eagerly in PyTorch: the oracle of every compiled plan.

It shares nothing with the compiler but the schedule: the scheduler object is the real one, calls
are made one after the other, and a shallow call runs the network's own modules. It runs where the
model is and in the model's dtype, as diffusers' pipelines do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..methods.attach import CallContext, pruned
from ..methods.dato import TokenCounts, count_tokens
from ..methods.feature_cache import FeatureCache
from ..methods.kept_tokens import chooser_of
from ..methods.token_cache import Choices, TokenCache
from ..methods.token_rows import merged
from ..models import Model
from ..models.guidance import SCALE, halves_of, joined, of_guidance
from ..schedule.sampler import noisy_image
from ..schedule.scheduler import scheduler_from
from ..schedule.schema import Call, Schedule
from ..schedule.settings import Prune

Told = Mapping[str, Tensor]  # the conditions, of both halves in one batch


@dataclass
class EagerRun:
    """What an eager run gives: latents (B, C, h, w), pictures uint8 (B, H, W, 3), seconds."""

    latents: np.ndarray
    image: np.ndarray
    seconds: list[tuple[str, float]] = field(default_factory=list)  # a kind and its time, a call


@torch.no_grad()
def run_eagerly(
    model: Model,
    schedule: Schedule,
    noise: Tensor,
    conditions: Mapping[str, Tensor],
    guidance_scale: float,
    selection_noise: Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
    init_image: Tensor | None = None,
    clock: Callable[[], float] = time.perf_counter,
    network: Network | None = None,
) -> EagerRun:
    """Sample with `schedule`.

    noise (B, C, h, w), conditions as `model.embed` gives them (the negative ones are left out in a
    schedule without guidance), selection_noise (R, B, N) for the R calls that run, init_image uint8
    (B, H, W, 3) if the sampler has a strength; wherever and in whatever float they are. `clock`
    gives seconds; for times of calls on a GPU it waits for them. `network` makes the predictions:
    the model, if not given.
    """
    schedule = model.settled(schedule)
    parameter = next(model.denoiser.module.parameters())
    device, dtype = parameter.device, parameter.dtype
    scheduler = scheduler_from(model.scheduler_config, schedule.sampler)
    sampler = schedule.sampler
    timesteps = model.timing.begin(scheduler, sampler.steps, sampler.strength, device=device)
    run = EagerRun(np.empty(0), np.empty(0))
    noise = noise.to(device, dtype)
    sample = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if sampler.strength is not None:
        assert init_image is not None
        start = clock()
        sample = _from_image(model, scheduler, timesteps, noise, init_image)
        run.seconds.append(("encode", clock() - start))
    calls = schedule.resolve(len(timesteps), type(scheduler).__name__)
    guidance = model.guidance_of(schedule)
    halves = halves_of(guidance)
    told = joined(
        {name: c.to(device, dtype) for name, c in of_guidance(conditions, guidance).items()}
    )
    if guidance == "embedded":
        told[SCALE] = torch.tensor(guidance_scale, device=device, dtype=dtype)
    network = network or Network(model, schedule)
    prediction = torch.zeros_like(noise)
    for k, (call, t) in enumerate(zip(calls, timesteps, strict=True)):
        start = clock()
        if call.kind != "skip":
            batch = torch.cat([sample] * halves)
            if hasattr(scheduler, "scale_model_input"):
                batch = scheduler.scale_model_input(batch, t)
            extra = None if selection_noise is None else selection_noise[network.runs]
            predictions = network(call, batch, t, told, extra).chunk(halves)
            prediction = predictions[-1]  # of the prompt alone, as diffusers has it up to 1
            if halves == 2 and guidance_scale > 1:
                prediction = predictions[0] + guidance_scale * (predictions[1] - predictions[0])
        sample = scheduler.step(prediction, t, sample, return_dict=False)[0]
        run.seconds.append((call.kind, clock() - start))
        if progress:
            progress(k + 1, len(calls))
    start = clock()
    autoencoder = model.autoencoder
    scaled = autoencoder.scale.to_vae(sample).to(autoencoder.module.dtype)
    picture = autoencoder.module.decode(scaled, return_dict=False)[0]
    picture = ((picture.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255).round()
    run.seconds.append(("decode", clock() - start))
    run.latents = sample.float().cpu().numpy()
    run.image = picture.to(torch.uint8).cpu().numpy()
    return run


def _from_image(
    model: Model, scheduler: Any, timesteps: Tensor, noise: Tensor, init_image: Tensor
) -> Tensor:
    """First latents of a run from an image, as diffusers' img2img makes them."""
    vae = model.autoencoder.module
    picture = init_image.to(vae.device).permute(0, 3, 1, 2) / 127.5 - 1
    latents = vae.encode(picture.to(vae.dtype)).latent_dist.mode()
    latents = model.autoencoder.scale.to_sampler(latents).to(noise.dtype)
    return noisy_image(scheduler, latents, noise, timesteps[:1].repeat(len(noise)))


class Network:
    """The network with its cached features and the predictions that token scores are made of."""

    def __init__(self, model: Model, schedule: Schedule) -> None:
        self.model = model
        self.schedule = schedule
        self.runs = 0
        self.halves = halves_of(model.guidance_of(schedule))
        self.last: list[Tensor] = []  # the last two predictions (HB, C, h, w)
        self.tokens: TokenCache | None = None
        if schedule.keeps_tokens:
            denoiser = model.denoiser
            self.tokens = TokenCache(denoiser.module, denoiser.attentions)
        self.choices = Choices()
        self.cached: FeatureCache | None = None
        if schedule.cache:
            cut = model.denoiser.cut(schedule.cache, schedule.name)
            self.cached = FeatureCache(model.denoiser.module, cut)

    def __call__(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """One full or shallow call on sample (HB, C, h, w), of H halves of guidance."""
        prediction = self.predict(call, sample, t, told, extra)
        self.last = [*self.last[-1:], prediction]
        self.runs += 1
        return prediction

    def predict(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """What the network gives."""
        if call.kind == "tokens":
            return self._kept(call, sample, t, told)
        self.choices.restart()
        denoiser = self.model.denoiser
        context = self._context(call, sample, extra)
        grid = denoiser.tokens(*sample.shape[2:]) if context else None
        with ExitStack() as active:
            active.enter_context(pruned(denoiser.module, grid.blocks if grid else (), context))
            if self.cached:
                shallow = call.kind == "shallow"
                active.enter_context(self.cached.reusing() if shallow else self.cached.keeping())
            if self.tokens and call.kind == "full":
                active.enter_context(self.tokens.keeping())
            return denoiser.call(sample, t, told)

    def _kept(self, call: Call, sample: Tensor, t: Tensor, told: Told) -> Tensor:
        """A call of kept tokens: the others have their last keys, values and predictions."""
        assert call.keep and self.tokens
        denoiser = self.model.denoiser
        older, newest = self.last
        chooser = chooser_of(denoiser, call.keep, sample.shape)
        conditional = newest.chunk(self.halves)[-1].float(), older.chunk(self.halves)[-1].float()
        kept = self.choices.next(chooser, *conditional).repeat(self.halves, 1)
        with self.tokens.reusing(kept):
            fresh = denoiser.call(sample, t, told)
        return merged(fresh, newest, kept, chooser.stream)

    def context(self, prune: Prune, counts: TokenCounts) -> CallContext:
        """What selects tokens in one call."""
        return CallContext(prune, counts)

    def _context(self, call: Call, sample: Tensor, extra: Tensor | None) -> CallContext | None:
        """Token scores of this call: the change between the two last predictions, and noise."""
        if call.prune is None:
            return None
        b, _, h, w = sample.shape
        b //= self.halves
        grid = self.model.denoiser.tokens(h, w)
        assert grid
        rows, columns = grid.rows, grid.columns
        score = torch.zeros(b, rows * columns, device=sample.device)
        if len(self.last) == 2:
            older, newest = (prediction.chunk(self.halves)[0] for prediction in self.last)
            change = (newest - older).abs().float()
            # The mean over channels, and over the latents that a token stands for.
            squares = change.reshape(b, -1, rows, h // rows, columns, w // columns)
            score = call.prune.gamma * squares.mean(dim=(1, 3, 5)).flatten(1)
        if extra is not None and call.prune.alpha:
            score = score + call.prune.alpha * extra.to(sample.device)
        counts = count_tokens(call.prune, rows, columns, self.schedule.name)
        context = self.context(call.prune, counts)
        context.begin(score)
        return context
