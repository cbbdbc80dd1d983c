"""Every number of the recipe, as frozen dataclasses. Nothing else sets a number."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recipe_common.training import Phase

MODEL_FOLDER = Path(__file__).resolve().parents[1]
WORK_FOLDER = MODEL_FOLDER / ".work"
VAE_FOLDER = MODEL_FOLDER.parent / "emoji" / "vae"

PICTURE_SIZE = 128
LATENT_SIZE = 32
LATENT_CHANNELS = 4
TEXT_LENGTH = 24
TEXT_WIDTH = 128


@dataclass(frozen=True)
class DrawingSettings:
    """Where a body is and how large, in pixels, and how much that varies by picture."""

    centre: tuple[float, float] = (64.0, 74.5)
    unit: float = 42.0
    shift: float = 2.0
    stretch: float = 0.04
    slant: float = 4.0  # degrees
    colour: int = 8  # of 255


DRAWING = DrawingSettings()
PICTURES = 6000  # drawn once and kept as latents
FLOW_SHIFT = 2.0  # of the times, in training and in the scheduler


@dataclass(frozen=True)
class TextEncoderSettings:
    """A T5 encoder of TEXT_WIDTH channels, trained along with the transformer."""

    layers: int = 2
    heads: int = 4
    inner: int = 256


@dataclass(frozen=True)
class TransformerSettings:
    """PixArt's shape; 1,024 tokens of one latent each."""

    layers: int = 6
    heads: int = 4
    head_width: int = 32


@dataclass(frozen=True)
class DenoiserSettings:
    """How the transformer and the text encoder are trained."""

    phases: tuple[Phase, ...] = (Phase(16, 15.0, 8), Phase(32, 38.0, 4))
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    drop_caption: float = 0.1
    time_spread: float = 1.0
    ema_decay: float = 0.9995
    ema_power: float = 0.75
    sheet_every_minutes: float = 8.0
    save_every_minutes: float = 1.0


@dataclass(frozen=True)
class JudgeSettings:
    """The network that says which attributes a picture has."""

    channels: tuple[int, ...] = (24, 48, 96, 128)
    minutes: float = 4.0
    batch: int = 32
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    pictures: int = 8000
    test_pictures: int = 500
    noise: float = 0.05
    save_every_minutes: float = 1.0


@dataclass(frozen=True)
class EvaluationSettings:
    """How many samples are judged, and how they are drawn."""

    trained: int = 200
    held_out: int = 100
    batch: int = 10
    steps: int = 20
    guidance: float = 4.0
    on_sheet: tuple[int, int] = (18, 6)  # of trained and of held-out pairs
    columns: int = 6
    caption_width: int = 22  # letters


EVALUATION = EvaluationSettings()


@dataclass(frozen=True)
class Recipe:
    name: str = "cpu"
    text_encoder: TextEncoderSettings = field(default_factory=TextEncoderSettings)
    transformer: TransformerSettings = field(default_factory=TransformerSettings)
    denoiser: DenoiserSettings = field(default_factory=DenoiserSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    seed: int = 0


CPU = Recipe()
