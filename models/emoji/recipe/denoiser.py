"""Train the UNet and the text encoder together on cached latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image
from recipe_common.latents import encode
from recipe_common.trainer import Trainer
from recipe_common.training import (
    Phase,
    autocast,
    averaged,
    batches,
    checkpoint_path,
    device,
)
from torch import nn
from transformers import CLIPTokenizer

from recipe import autoencoder, tokenizer
from recipe.captions import without_article
from recipe.networks import (
    LATENT_SIZE,
    make_scheduler,
    make_text_encoder,
    make_unet,
)
from recipe.noise import NoiseLevels
from recipe.pictures import PictureSet, training_rows
from recipe.settings import DenoiserSettings, Recipe

SHEET_PROMPTS = (
    "a red apple", "a green apple", "a banana", "a strawberry", "a cat face", "a panda face",
    "a fish", "a red car", "a rocket", "a blue heart", "a soccer ball", "a sunflower",
)  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Latents (N, 4, s, s) of one size, token ids (N, 16) with and without the article."""

    latents: torch.Tensor
    ids: torch.Tensor
    bare_ids: torch.Tensor
    empty_ids: torch.Tensor  # (1, 16): no caption, for guidance

    def draw_ids(
        self, rows: torch.Tensor, settings: DenoiserSettings, generator: torch.Generator
    ) -> torch.Tensor:
        """(B, 16) ids of `rows`, some without the article, some without any caption."""
        chance = torch.rand(len(rows), 1, generator=generator)
        bare = torch.rand(len(rows), 1, generator=generator) < settings.drop_article
        ids = torch.where(bare, self.bare_ids[rows], self.ids[rows])
        return torch.where(chance < settings.drop_caption, self.empty_ids, ids)


class Denoiser(nn.Module):
    """Token ids, noisy latents and timesteps to predicted noise."""

    def __init__(self, recipe: Recipe, words: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = make_text_encoder(recipe.text_encoder, words)
        self.unet = make_unet(recipe.denoiser)

    def forward(self, ids: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        text = self.text_encoder(ids).last_hidden_state
        return self.unet(noisy, t, text).sample


def make_tokenizer(recipe: Recipe, data: PictureSet) -> CLIPTokenizer:
    captions = [picture.caption for picture in data.pictures]
    return tokenizer.train(captions, recipe.text_encoder.vocabulary)


def ids_of(words: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(len(texts), 16)."""
    return words(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def make_examples(
    data: PictureSet, vae: AutoencoderKL, words: CLIPTokenizer, size: int, flip: bool
) -> Examples:
    """Encode every picture once, mirrored ones too where that is harmless and asked for."""
    captions = [picture.caption for picture in data.pictures]
    pixels = data.pixels
    if flip:
        mirrored = [i for i, picture in enumerate(data.pictures) if picture.can_flip]
        captions += [captions[i] for i in mirrored]
        pixels = np.concatenate([pixels, pixels[mirrored][:, :, ::-1]])
    latents = encode(vae, pixels, half=size < LATENT_SIZE)
    return Examples(
        latents=latents * vae.config.scaling_factor,
        ids=ids_of(words, captions),
        bare_ids=ids_of(words, [without_article(text) for text in captions]),
        empty_ids=ids_of(words, [""]),
    )


def pool_of(data: PictureSet, examples: Examples, recipe: Recipe) -> torch.Tensor:
    """Rows of `examples`, some repeated; mirrored pictures come behind the others, once each."""
    mirrored = range(len(data.pictures), len(examples.latents))
    return torch.tensor([*training_rows(data, recipe), *mirrored])


class Training(Trainer):
    """On the pictures of `data`."""

    def __init__(
        self, recipe: Recipe, words: CLIPTokenizer, data: PictureSet, vae: AutoencoderKL, work: Path
    ) -> None:
        settings = recipe.denoiser
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings, self.work = recipe, settings, work
        self.words, self.data, self.vae = words, data, vae
        path = checkpoint_path(work, recipe.name, "denoiser")
        super().__init__(Denoiser(recipe, words), settings, path, recipe.seed)
        self.levels = NoiseLevels(
            make_scheduler().alphas_cumprod, settings.min_snr_gamma, settings.high_noise_bias
        ).to(self.on)
        self.final = make_examples(data, vae, words, LATENT_SIZE, flip=False)

    def enter(self, phase: Phase) -> None:
        self.examples = make_examples(
            self.data, self.vae, self.words, phase.latent_size, self.settings.flip
        )
        pool = pool_of(self.data, self.examples, self.recipe)
        self.rows = batches(pool, phase.batch, self.generator)

    def loss(self, phase: Phase) -> torch.Tensor:
        rows = next(self.rows)
        ids = self.examples.draw_ids(rows, self.settings, self.generator).to(self.on)
        clean = self.examples.latents[rows].to(self.on)
        noise = torch.randn(clean.shape, generator=self.noise_generator, device=self.on)
        t = self.levels.draw(len(rows), self.generator).to(self.on)
        noisy = self.levels.add(clean, noise, t).contiguous(memory_format=torch.channels_last)
        with autocast(self.on):
            predicted = self.model(ids, noisy, t)
        return self.levels.loss(predicted, noise, t)

    def look(self, phase: Phase) -> str:
        file = f"sheet-{self.recipe.name}-{self.clock.spent:06.1f}.png"
        quick_sheet(self, phase.latent_size).save(self.work / file)
        return f"probe {self.probe(self.final):.4f}"

    @torch.no_grad()
    def probe(self, examples: Examples) -> float:
        """Loss of the averaged weights on noise that is always the same: comparable over time."""
        generator = torch.Generator().manual_seed(1)
        total = 0.0
        with averaged(self.model, self.ema):
            for rows in torch.arange(len(examples.latents)).split(32):
                clean = examples.latents[rows].to(self.on)
                noise = torch.randn(clean.shape, generator=generator).to(self.on)
                t = self.levels.draw(len(rows), generator).to(self.on)
                with autocast(self.on):
                    predicted = self.model(
                        examples.ids[rows].to(self.on), self.levels.add(clean, noise, t), t
                    )
                total += self.levels.loss(predicted, noise, t).item() * len(rows)
        return total / len(examples.latents)


def pipeline_of(
    model: Denoiser, vae: AutoencoderKL, words: CLIPTokenizer
) -> StableDiffusionPipeline:
    """diffusers' own pipeline around our four parts."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=words,
        unet=model.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def quick_sheet(training: Training, size: int) -> Image.Image:
    """What SHEET_PROMPTS give at this moment, at `size` latents, in a few quick steps."""
    with averaged(training.model, training.ema):
        pipeline = pipeline_of(training.model, training.vae, training.words)
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        drawn = pipeline(
            list(SHEET_PROMPTS),
            height=4 * size,
            width=4 * size,
            num_inference_steps=12,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
    pixels = (drawn * 255).round().astype(np.uint8)
    half = len(pixels) // 2
    return Image.fromarray(
        np.vstack([np.hstack(list(pixels[:half])), np.hstack(list(pixels[half:]))])
    )


def train(recipe: Recipe, data: PictureSet, work: Path, max_minutes: float | None) -> bool:
    """Train or go on training; True when the plan is finished."""
    vae = autoencoder.load_trained(recipe, work).to(device())
    words = make_tokenizer(recipe, data)
    training = Training(recipe, words, data, vae, work)
    return training.run(f"denoiser, {recipe.name}", max_minutes)
