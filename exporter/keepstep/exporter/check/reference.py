"""The same schedule, run eagerly in PyTorch: the oracle of every compiled plan.

It shares nothing with the compiler but the schedule: the scheduler object is the real one, calls
are made one after the other, and a shallow call runs the UNet's own modules. It runs where the
model is and in the model's dtype, as diffusers' pipelines do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..folder.hub import quiet
from ..models import StableDiffusion, of_guidance
from ..models.modules import unet_arguments
from ..models.unet import branch_of, cut_path
from ..pruning.attach import CallContext, pruned
from ..pruning.dato import TokenCounts, count_tokens
from ..pruning.level import pruned_level
from ..schedule.sampler import scheduler_from
from ..schedule.schema import Call, Prune, Schedule, first_step

Told = Mapping[str, Any]  # what the UNet is told of the prompt, as keyword arguments


@dataclass
class EagerRun:
    """What an eager run gives: latents (B, C, h, w), pictures uint8 (B, H, W, 3), seconds."""

    latents: np.ndarray
    image: np.ndarray
    seconds: list[tuple[str, float]] = field(default_factory=list)  # a kind and its time, a call


def placed(model: StableDiffusion, device: str, dtype: torch.dtype) -> StableDiffusion:
    """`model` with its modules moved to `device` and into `dtype`.

    A VAE whose checkpoint says that it overflows in float16 stays in float32, as diffusers'
    pipelines have it.
    """
    upcast = dtype == torch.float16 and model.vae.config.force_upcast
    with quiet():
        return replace(
            model,
            unet=model.unet.to(device, dtype),
            vae=model.vae.to(device, torch.float32 if upcast else dtype),
            text_encoders={n: m.to(device, dtype) for n, m in model.text_encoders.items()},
        )


@torch.no_grad()
def run_eagerly(
    model: StableDiffusion,
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
    device, dtype = model.unet.device, model.unet.dtype
    scheduler = scheduler_from(model.scheduler_config, schedule.sampler)
    scheduler.set_timesteps(schedule.sampler.steps, device=device)
    run = EagerRun(np.empty(0), np.empty(0))
    noise = noise.to(device, dtype)
    timesteps, sample = scheduler.timesteps, noise * scheduler.init_noise_sigma
    if schedule.sampler.strength is not None:
        assert init_image is not None
        start = clock()
        timesteps, sample = _from_image(model, schedule, scheduler, noise, init_image)
        run.seconds.append(("encode", clock() - start))
    calls = schedule.resolve(len(timesteps), type(scheduler).__name__)
    guided = model.is_guided(schedule)
    told = unet_arguments(
        {name: c.to(device, dtype) for name, c in of_guidance(conditions, guided).items()}
    )
    network = network or Network(model, schedule)
    prediction = torch.zeros_like(noise)
    for k, (call, t) in enumerate(zip(calls, timesteps, strict=True)):
        start = clock()
        if call.kind != "skip":
            batch = torch.cat([sample, sample]) if guided else sample
            if hasattr(scheduler, "scale_model_input"):
                batch = scheduler.scale_model_input(batch, t)
            extra = None if selection_noise is None else selection_noise[network.runs]
            halves = network(call, batch, t, told, extra).chunk(2 if guided else 1)
            prediction = halves[-1]  # of the prompt alone, as diffusers has it up to a scale of 1
            if guided and guidance_scale > 1:
                prediction = halves[0] + guidance_scale * (halves[1] - halves[0])
        sample = scheduler.step(prediction, t, sample, return_dict=False)[0]
        run.seconds.append((call.kind, clock() - start))
        if progress:
            progress(k + 1, len(calls))
    start = clock()
    scaled = model.latent_scale.to_vae(sample).to(model.vae.dtype)
    picture = model.vae.decode(scaled, return_dict=False)[0]
    picture = ((picture.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1) * 255).round()
    run.seconds.append(("decode", clock() - start))
    run.latents = sample.float().cpu().numpy()
    run.image = picture.to(torch.uint8).cpu().numpy()
    return run


def _from_image(
    model: StableDiffusion, schedule: Schedule, scheduler: Any, noise: Tensor, init_image: Tensor
) -> tuple[Tensor, Tensor]:
    """Timesteps and first latents of a run from an image, as diffusers' img2img makes them."""
    sampler, vae = schedule.sampler, model.vae
    assert sampler.strength is not None
    begin = first_step(sampler.steps, sampler.strength) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    timesteps = scheduler.timesteps[begin:]
    picture = init_image.to(vae.device).permute(0, 3, 1, 2) / 127.5 - 1
    latents = vae.encode(picture.to(vae.dtype)).latent_dist.mode()
    latents = model.latent_scale.to_sampler(latents).to(noise.dtype)
    return timesteps, scheduler.add_noise(latents, noise, timesteps[:1].repeat(len(noise)))


class Network:
    """The UNet with its cached features and the predictions that token scores are made of."""

    def __init__(self, model: StableDiffusion, schedule: Schedule) -> None:
        self.model = model
        self.schedule = schedule
        self.runs = 0
        self.cached: Tensor | None = None
        self.guided = model.is_guided(schedule)
        self.last: list[Tensor] = []  # first halves of the last two predictions: unconditional
        unet, cache = model.unet, schedule.cache
        self.cut = cut_path(unet, cache, schedule.name) if cache else None

    def __call__(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """One full or shallow call on sample (HB, C, h, w), of H halves of guidance."""
        prediction = self.predict(call, sample, t, told, extra)
        self.last = [*self.last[-1:], prediction.chunk(2 if self.guided else 1)[0]]
        self.runs += 1
        return prediction

    def predict(
        self, call: Call, sample: Tensor, t: Tensor, told: Told, extra: Tensor | None
    ) -> Tensor:
        """What the UNet gives."""
        unet = self.model.unet
        with pruned(unet, self._context(call, sample, extra)):
            if call.kind == "shallow":
                assert self.cut and self.cached is not None
                branch = branch_of(unet, self.cut)
                return _shallow(unet, sample, t, told, self.cached, branch)
            return self._full(sample, t, told)

    def context(self, prune: Prune, counts: TokenCounts) -> CallContext:
        """What selects tokens in one call."""
        return CallContext(prune, counts)

    def _full(self, sample: Tensor, t: Tensor, told: Told) -> Tensor:
        kept: list[Tensor] = []
        unet = self.model.unet
        hook = None
        if self.cut:
            module = unet.get_submodule(self.cut)
            hook = module.register_forward_hook(lambda _m, _a, out: kept.append(_first(out)))
        try:
            prediction: Tensor = unet(sample, t, **told, return_dict=False)[0]
        finally:
            if hook:
                hook.remove()
        if kept:
            self.cached = kept[-1]
        return prediction

    def _context(self, call: Call, sample: Tensor, extra: Tensor | None) -> CallContext | None:
        """Token scores of this call: the change between the two last predictions, and noise."""
        if call.prune is None:
            return None
        level = pruned_level(self.model.unet)
        assert level
        b, _, h, w = sample.shape
        b //= 2 if self.guided else 1
        rows, columns = level.grid(h, w)
        score = torch.zeros(b, rows * columns, device=sample.device)
        if len(self.last) == 2:
            change = (self.last[1] - self.last[0]).abs().float()
            # The mean over channels, and over the latents that a token stands for.
            squares = change.reshape(b, -1, rows, h // rows, columns, w // columns)
            score = call.prune.gamma * squares.mean(dim=(1, 3, 5)).flatten(1)
        if extra is not None and call.prune.alpha:
            score = score + call.prune.alpha * extra.to(sample.device)
        counts = count_tokens(call.prune, rows, columns, self.schedule.name)
        context = self.context(call.prune, counts)
        context.begin(score)
        return context


def _shallow(
    unet: UNet2DConditionModel,
    sample: Tensor,
    t: Tensor,
    told: Told,
    cached: Tensor,
    branch: int,
) -> Tensor:
    """Only what lies outside of skip connection `branch`, on cached deep features."""
    prompt = told["encoder_hidden_states"]
    temb = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=t))
    added = unet.get_aug_embed(temb, prompt, told.get("added_cond_kwargs", {}))
    temb = temb if added is None else temb + added
    temb = temb if unet.time_embed_act is None else unet.time_embed_act(temb)
    x = unet.conv_in(2 * sample - 1 if unet.config.center_input_sample else sample)
    skips = [x]
    down = _down_units(unet)
    while len(skips) <= branch:
        for module in next(down):
            x = _unit(module, x, temb, prompt)
        skips.append(x)
    x = cached
    units = list(_up_units(unet))[-1 - branch :]
    for skip, unit in zip(reversed(skips[: branch + 1]), units, strict=True):
        x = torch.cat([x, skip], dim=1)
        for module in unit:
            x = _unit(module, x, temb, prompt)
    x = unet.conv_act(unet.conv_norm_out(x))
    prediction: Tensor = unet.conv_out(x)
    return prediction


def _down_units(unet: Any) -> Iterator[list[nn.Module]]:
    """The modules that lead from each skip connection to the next."""
    for block in unet.down_blocks:
        attentions = getattr(block, "attentions", None)
        for i, resnet in enumerate(block.resnets):
            yield [resnet, attentions[i]] if attentions else [resnet]
        for downsampler in block.downsamplers or ():
            yield [downsampler]


def _up_units(unet: Any) -> Iterator[list[nn.Module]]:
    """The modules that follow each concatenation with a skip connection."""
    for block in unet.up_blocks:
        attentions = getattr(block, "attentions", None)
        for i, resnet in enumerate(block.resnets):
            unit: list[nn.Module] = [resnet, attentions[i]] if attentions else [resnet]
            if i == len(block.resnets) - 1:
                unit += list(block.upsamplers or ())
            yield unit


def _unit(module: nn.Module, x: Tensor, temb: Tensor, prompt: Tensor) -> Tensor:
    kind = type(module).__name__
    if kind.startswith("Resnet"):
        return _first(module(x, temb))
    if kind.startswith("Transformer"):
        return _first(module(x, encoder_hidden_states=prompt, return_dict=False))
    return _first(module(x))


def _first(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return out[0] if isinstance(out, tuple) else out
