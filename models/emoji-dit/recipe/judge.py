"""A small network that reads the five attributes off a picture. It is trained on drawings only,
held-out pairs too, and never sees a picture of the model before it judges it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from recipe_common.latents import decode, encode, psnr, to_signed
from recipe_common.training import (
    Bar,
    Clock,
    Every,
    batches,
    checkpoint_path,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
    set_learning_rate,
)
from torch import nn

from recipe.attributes import VALUES, Face, any_face
from recipe.pictures import draw_all, load_vae
from recipe.settings import JudgeSettings, Recipe

SIZES = [len(options) for options in VALUES.values()]
GRID = 4  # squared: places that the last layer tells apart


class Judge(nn.Module):
    """(B, 3, 128, 128) in -1..1 to logits (B, 35): 8 shapes, 8 colours, and so on."""

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in settings.channels:
            layers += [
                nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            before = channels
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(GRID), nn.Flatten())
        self.head = nn.Linear(before * GRID**2, sum(SIZES))

    def forward(self, signed: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(signed))

    @torch.no_grad()
    def right(self, pixels: np.ndarray, faces: list[Face]) -> np.ndarray:
        """For uint8 pictures (N, 128, 128, 3): bool (N, 5), which attributes are as in `faces`."""
        logits = torch.cat([self(to_signed(pixels[i : i + 32])) for i in range(0, len(pixels), 32)])
        found = torch.stack([part.argmax(1) for part in logits.split(SIZES, dim=1)], dim=1)
        return (found == torch.tensor([face.labels for face in faces])).numpy()


def train(recipe: Recipe, work: Path, max_minutes: float | None) -> bool:
    """Train or go on training; True when the plan is finished."""
    settings = recipe.judge
    torch.manual_seed(recipe.seed)
    path = checkpoint_path(work, recipe.name, "judge")
    model = Judge(settings)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate)
    clock, step = Clock(settings.minutes, call_limit=max_minutes), 0
    if (state := load_checkpoint(path)) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        clock.spent, step = state["minutes"], state["step"]
    if clock.is_over:
        return clock.progress >= 1.0
    faces = _faces(settings.pictures, recipe.seed + 1)
    pixels = torch.from_numpy(draw_all(faces, recipe.seed + 1))
    labels = torch.tensor([face.labels for face in faces])
    generator = torch.Generator().manual_seed(recipe.seed + step)
    rows = batches(torch.arange(len(faces)), settings.batch, generator)
    save_due = Every(settings.save_every_minutes, clock, last=clock.spent)

    def save() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        save_checkpoint(path, {**state, "minutes": clock.spent, "step": step})

    clock.start()
    with Bar("judge", clock) as bar:
        while not clock.is_over:
            chosen = next(rows)
            rate = learning_rate(
                settings.learning_rate, step, settings.warmup_steps, clock.progress
            )
            set_learning_rate(optimizer, rate)
            logits = model(_blemished(to_signed(pixels[chosen]), settings, generator))
            parts = zip(logits.split(SIZES, dim=1), labels[chosen].unbind(1), strict=True)
            loss = torch.stack([F.cross_entropy(part, label) for part, label in parts]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            clock.tick()
            bar.show(f"step {step}  loss {loss.item():.4f}")
            if save_due.due():
                save()
    save()
    return clock.progress >= 1.0


def _faces(count: int, seed: int) -> list[Face]:
    chance = random.Random(seed)
    return [any_face(chance) for _ in range(count)]


def _blemished(
    signed: torch.Tensor, settings: JudgeSettings, generator: torch.Generator
) -> torch.Tensor:
    """Noisy, half of the time blurred: a judge of clean edges alone would misread a model's."""
    if torch.rand((), generator=generator) < 0.5:
        small = F.interpolate(signed, scale_factor=0.5, mode="area")
        signed = F.interpolate(small, scale_factor=2, mode="bilinear")
    return signed + settings.noise * torch.randn(signed.shape, generator=generator)


def load_trained(recipe: Recipe, work: Path) -> Judge:
    state = load_checkpoint(checkpoint_path(work, recipe.name, "judge"))
    if state is None:
        raise FileNotFoundError("no judge yet: run `train.py judge` first")
    model = Judge(recipe.judge)
    model.load_state_dict(state["model"])
    return model.eval()


def examine(judge: Judge, recipe: Recipe) -> tuple[np.ndarray, float]:
    """Of drawings that it has not seen, brought through the autoencoder: bool (N, 5), which
    attributes it reads right; and how well the autoencoder brings them back, in dB."""
    faces = _faces(recipe.judge.test_pictures, recipe.seed + 2)
    pixels = draw_all(faces, recipe.seed + 2)
    vae = load_vae()
    back = decode(vae, encode(vae, pixels) * vae.config.scaling_factor)
    return judge.right(back, faces), psnr(back, pixels)
