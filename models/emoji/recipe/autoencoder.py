"""Train the autoencoder on crops of both styles, then fold the latents' statistics into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from recipe_common.latents import decode, encode, to_signed
from recipe_common.training import (
    Bar,
    Clock,
    Every,
    Threads,
    autocast,
    batches,
    checkpoint_path,
    device,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
)
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure as ssim

from recipe.networks import make_autoencoder
from recipe.pictures import PictureSet
from recipe.settings import AutoencoderSettings, Recipe


def random_crops(pixels: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Crops of whole or half-size pictures: uint8 (B, H, W, 3) to float (B, 3, size, size).

    Half-size ones, because the denoiser's first phase trains on the latents of half-size pictures.
    """
    whole = to_signed(pixels)
    if torch.rand((), generator=generator) < 0.25:
        whole = F.interpolate(whole, scale_factor=0.5, mode="area")
    room = whole.shape[-1] - size
    crops = []
    for picture in whole:
        top, left = torch.randint(room + 1, (2,), generator=generator).tolist()
        crop = picture[:, top : top + size, left : left + size]
        # Emoji are yellow and red: half the crops swap their colours, or green would come late.
        if torch.rand((), generator=generator) < 0.5:
            crop = crop[torch.randperm(3, generator=generator)]
        crops.append(crop)
    batch = torch.stack(crops)
    return batch.flip(3) if torch.rand((), generator=generator) < 0.5 else batch


def edges(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences between neighbours, down and across."""
    return picture.diff(dim=2), picture.diff(dim=3)


def distortion(
    drawn: torch.Tensor, picture: torch.Tensor, settings: AutoencoderSettings
) -> torch.Tensor:
    """Pixels, colour, edges and structure.

    L1 alone leaves edges soft, and is slow to spend latent channels on rare, saturated colours:
    the squared error of the 4x4 means makes it.
    """
    drawn = drawn.float()
    colour = F.mse_loss(F.avg_pool2d(drawn, 4), F.avg_pool2d(picture, 4))
    edge = sum(F.l1_loss(a, b) for a, b in zip(edges(drawn), edges(picture), strict=True))
    structure = 1 - ssim(drawn, picture, data_range=2.0, kernel_size=7, sigma=1.0)
    return (
        F.l1_loss(drawn, picture)
        + settings.colour_weight * colour
        + settings.edge_weight * edge
        + settings.ssim_weight * structure
    )


@dataclass
class Stage:
    """One of the two stages of training, and where it keeps its checkpoint."""

    title: str
    model: AutoencoderKL
    parameters: list[nn.Parameter]
    loss: Callable[[torch.Generator], torch.Tensor]
    minutes: float
    peak: float
    path: Path
    seed: int

    def run(self, max_minutes: float | None) -> bool:
        """Train or go on training; True when the stage is finished."""
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.AdamW(self.parameters, self.peak, weight_decay=1e-4, fused=True)
        clock, step, running = Clock(self.minutes, call_limit=max_minutes), 0, 0.0
        if state := load_checkpoint(self.path):
            self.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            clock.spent, step = state["minutes"], state["step"]
            generator.manual_seed(self.seed + step)

        def save() -> None:
            state = {"model": self.model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"minutes": clock.spent, "step": step}
            state |= {"scaling_factor": self.model.config.scaling_factor}
            save_checkpoint(self.path, state)

        save_due, threads = Every(1.0, clock, last=clock.spent), Threads()
        clock.start()
        with Bar(self.title, clock) as bar:
            while not clock.is_over:
                set_learning_rate(optimizer, learning_rate(self.peak, step, 100, clock.progress))
                with autocast(device()):
                    loss = self.loss(generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 1.0)
                optimizer.step()
                step += 1
                threads.after_step(60 * clock.tick())
                running += (loss.item() - running) * max(0.01, 1 / step)
                bar.show(f"step {step}  loss {running:.4f}")
                if save_due.due():
                    save()
        save()
        return clock.progress >= 1.0


def train(recipe: Recipe, data: PictureSet, work: Path, max_minutes: float | None) -> bool:
    """First stage: both halves, on crops; then `fold_statistics`. True when finished."""
    settings, on = recipe.autoencoder, device()
    torch.manual_seed(recipe.seed)
    model = make_autoencoder(settings).to(on, memory_format=torch.channels_last)
    pixels = torch.from_numpy(data.pixels)
    order = torch.Generator().manual_seed(recipe.seed)
    rows = batches(torch.arange(len(pixels)), settings.batch, order)

    def loss(generator: torch.Generator) -> torch.Tensor:
        picture = random_crops(pixels[next(rows)], settings.crop, generator)
        picture = picture.to(on, memory_format=torch.channels_last)
        posterior = model.encode(picture).latent_dist
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        drawn = model.decode(posterior.sample()).sample
        return distortion(drawn, picture, settings) + settings.kl_weight * divergence

    path = checkpoint_path(work, recipe.name, "autoencoder")
    stage = Stage(
        "autoencoder", model, list(model.parameters()), loss,
        settings.minutes, settings.learning_rate, path, recipe.seed,
    )  # fmt: skip
    if not stage.run(max_minutes):
        return False
    finished = checkpoint_path(work, recipe.name, "autoencoder-finished")
    if not finished.exists():
        model.eval()
        latents = encode(model, data.pixels[::5])
        fold_statistics(model.cpu(), latents)
        state = {"model": model.state_dict(), "scaling_factor": model.config.scaling_factor}
        save_checkpoint(finished, state)
    return True


def polish(recipe: Recipe, data: PictureSet, work: Path, max_minutes: float | None) -> bool:
    """Second stage: the decoder alone, on whole pictures. True when finished.

    GroupNorm sees other statistics in a whole picture than in a crop: without this stage white
    comes out slightly tinted. A little noise on the latents prepares it for what a denoiser gives.
    The latents don't change, so this may also be done after the denoiser.
    """
    settings, on = recipe.autoencoder, device()
    model = load_trained(recipe, work).to(on, memory_format=torch.channels_last)
    pixels = torch.from_numpy(data.pixels)
    order = torch.Generator().manual_seed(recipe.seed + 1)
    rows = batches(torch.arange(len(pixels)), settings.polish_batch, order)
    spread = settings.polish_noise / model.config.scaling_factor

    def loss(generator: torch.Generator) -> torch.Tensor:
        picture = to_signed(pixels[next(rows)]).to(on, memory_format=torch.channels_last)
        with torch.no_grad():
            latents = model.encode(picture).latent_dist.mean
        noise = torch.randn(latents.shape, generator=generator).to(on)
        drawn = model.decode(latents + spread * noise).sample
        return distortion(drawn, picture, settings)

    parameters = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    path = checkpoint_path(work, recipe.name, "autoencoder-polished")
    stage = Stage(
        "decoder", model, parameters, loss,
        settings.polish_minutes, settings.polish_learning_rate, path, recipe.seed,
    )  # fmt: skip
    return stage.run(max_minutes)


def load_trained(recipe: Recipe, work: Path) -> AutoencoderKL:
    """The autoencoder with its statistics folded, polished if it is yet, in eval mode."""
    for part in ("autoencoder-polished", "autoencoder-finished"):
        state = load_checkpoint(checkpoint_path(work, recipe.name, part))
        if state is not None:
            break
    else:
        raise FileNotFoundError("no finished autoencoder yet: run `train.py autoencoder` first")
    model = make_autoencoder(recipe.autoencoder)
    model.load_state_dict(state["model"])
    model.register_to_config(scaling_factor=state["scaling_factor"])
    return model.eval()


@torch.no_grad()
def fold_statistics(model: AutoencoderKL, latents: torch.Tensor) -> None:
    """Make the latents of `model` zero-mean with equal spread in each channel, in place.

    The 1x1 convolutions at both ends of the latents take up a shift and a scale a channel, so no
    consumer has to know. The overall scale stays and goes to `scaling_factor`, as is usual. A
    diffusion model starts from zero-mean noise: latents with a mean would come out greyish.
    """
    mean = latents.mean(dim=(0, 2, 3))
    spread = latents.std(dim=(0, 2, 3))
    scale = spread.mean() / spread
    channels = len(mean)
    before, after = model.quant_conv, model.post_quant_conv
    # quant_conv gives means first, log variances second.
    before.weight[:channels] *= scale.view(-1, 1, 1, 1)
    before.bias[:channels] = (before.bias[:channels] - mean) * scale
    before.bias[channels:] += 2 * scale.log()
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight /= scale.view(1, -1, 1, 1)
    model.register_to_config(scaling_factor=1.0 / spread.mean().item())


def reconstruction_sheet(model: AutoencoderKL, pixels: np.ndarray) -> Image.Image:
    """Pictures above, what comes back of them below."""
    back = decode(model, encode(model, pixels) * model.config.scaling_factor)
    return Image.fromarray(np.concatenate([np.hstack(list(pixels)), np.hstack(list(back))]))
