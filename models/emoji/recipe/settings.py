"""Every number of the two recipes, as frozen dataclasses. Nothing else sets a number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from recipe_common.training import Phase

MODEL_FOLDER = Path(__file__).resolve().parents[1]
WORK_FOLDER = MODEL_FOLDER / ".work"

PICTURE_SIZE = 128
TEXT_LENGTH = 16
TEXT_WIDTH = 128


@dataclass(frozen=True)
class AutoencoderSettings:
    """128x128x3 pictures to 4x32x32 latents and back."""

    channels: tuple[int, ...] = (24, 32, 96)
    layers_per_block: int = 1
    norm_groups: int = 4
    minutes: float = 8.0
    batch: int = 8
    crop: int = 32
    learning_rate: float = 5e-4
    colour_weight: float = 5.0
    edge_weight: float = 0.5
    ssim_weight: float = 0.1
    kl_weight: float = 1e-5
    polish_minutes: float = 2.5
    polish_batch: int = 2
    polish_learning_rate: float = 3e-4
    polish_noise: float = 0.05


@dataclass(frozen=True)
class TextEncoderSettings:
    """A CLIP text model of TEXT_WIDTH channels, trained along with the UNet."""

    layers: int = 2
    heads: int = 4
    vocabulary: int = 2000


@dataclass(frozen=True)
class DenoiserSettings:
    """The UNet and how it and the text encoder are trained."""

    # Wide on top and narrow below: a call that reuses the deep levels' features then costs what
    # its multiplications say.
    channels: tuple[int, ...] = (96, 128, 128)
    layers_per_block: int = 1
    heads: tuple[int, ...] = (3, 4, 4)
    norm_groups: int = 16
    phases: tuple[Phase, ...] = (Phase(16, 34.0, 8), Phase(32, 35.0, 4))
    often: int = 9  # how many times more often the names are shown that the selection calls so
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    flip: bool = False
    drop_caption: float = 0.1
    drop_article: float = 0.1
    min_snr_gamma: float = 5.0
    high_noise_bias: float = 2.0
    ema_decay: float = 0.9995
    ema_power: float = 0.75
    sheet_every_minutes: float = 6.0
    save_every_minutes: float = 2.0


@dataclass(frozen=True)
class Recipe:
    """What is trained, on which names, for how long."""

    name: str
    selection: str | None
    autoencoder: AutoencoderSettings = field(default_factory=AutoencoderSettings)
    text_encoder: TextEncoderSettings = field(default_factory=TextEncoderSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    seed: int = 0


CPU = Recipe(name="cpu", selection="selection_cpu.json")

# Every name that is not held out, both styles, sized for ten minutes of one H100.
# This recipe has never been run.
GPU = Recipe(
    name="gpu",
    selection=None,
    autoencoder=replace(
        AutoencoderSettings(),
        minutes=4.0,
        batch=128,
        crop=64,
        polish_minutes=1.0,
        polish_batch=32,
    ),
    denoiser=replace(
        DenoiserSettings(),
        phases=(Phase(16, 0.8, 512), Phase(32, 4.2, 512)),
        warmup_steps=500,
        flip=True,
        ema_decay=0.9999,
        sheet_every_minutes=2.0,
    ),
)

RECIPES = {recipe.name: recipe for recipe in (CPU, GPU)}
