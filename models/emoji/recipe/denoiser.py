"""Train the UNet and the text encoder together on cached latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.training_utils import EMAModel
from PIL import Image
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
from recipe.settings import DenoiserSettings, Phase, Recipe
from recipe.training import (
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

READ_LOSS_EVERY = 10  # steps

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
    latents = autoencoder.encode(vae, pixels, half=size < LATENT_SIZE)
    return Examples(
        latents=latents * vae.config.scaling_factor,
        ids=ids_of(words, captions),
        bare_ids=ids_of(words, [without_article(text) for text in captions]),
        empty_ids=ids_of(words, [""]),
    )


def phase_at(settings: DenoiserSettings, minute: float) -> Phase:
    for phase in settings.phases:
        if minute < phase.minutes:
            return phase
        minute -= phase.minutes
    return settings.phases[-1]


def pool_of(data: PictureSet, examples: Examples, recipe: Recipe) -> torch.Tensor:
    """Rows of `examples`, some repeated; mirrored pictures come behind the others, once each."""
    mirrored = range(len(data.pictures), len(examples.latents))
    return torch.tensor([*training_rows(data, recipe), *mirrored])


class Training:
    """Everything that a checkpoint holds, and one step of it."""

    def __init__(self, recipe: Recipe, words: CLIPTokenizer, work: Path) -> None:
        settings = recipe.denoiser
        torch.manual_seed(recipe.seed)
        self.recipe, self.settings, self.on = recipe, settings, device()
        self.path = checkpoint_path(work, recipe.name, "denoiser")
        self.model = Denoiser(recipe, words).to(self.on, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.ema = EMAModel(
            self.model.parameters(),
            decay=settings.ema_decay,
            use_ema_warmup=True,
            power=settings.ema_power,
            foreach=True,
        )
        self.ema.to(self.on)
        self.levels = NoiseLevels(
            make_scheduler().alphas_cumprod, settings.min_snr_gamma, settings.high_noise_bias
        ).to(self.on)
        self.clock = Clock(sum(phase.minutes for phase in settings.phases))
        self.step = self.samples = 0
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.noise_generator = torch.Generator(self.on).manual_seed(recipe.seed)

    def restore(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        state = load_checkpoint(self.path)
        if state is None:
            return False
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.on)
        self.clock.spent = state["minutes"]
        self.step, self.samples = state["step"], state["samples"]
        self.generator.manual_seed(self.recipe.seed + self.step)
        self.noise_generator.manual_seed(self.recipe.seed + self.step)
        return True

    def save(self) -> None:
        save_checkpoint(
            self.path,
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.state_dict(),
                "minutes": self.clock.spent,
                "step": self.step,
                "samples": self.samples,
            },
        )

    def advance(self, examples: Examples, rows: torch.Tensor) -> torch.Tensor:
        """One optimizer step on `rows`; the loss."""
        settings = self.settings
        rate = learning_rate(
            settings.learning_rate, self.step, settings.warmup_steps, self.clock.progress
        )
        set_learning_rate(self.optimizer, rate)
        ids = examples.draw_ids(rows, settings, self.generator).to(self.on)
        clean = examples.latents[rows].to(self.on)
        noise = torch.randn(clean.shape, generator=self.noise_generator, device=self.on)
        t = self.levels.draw(len(rows), self.generator).to(self.on)
        noisy = self.levels.add(clean, noise, t).contiguous(memory_format=torch.channels_last)
        with autocast(self.on):
            predicted = self.model(ids, noisy, t)
        loss = self.levels.loss(predicted, noise, t)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        self.optimizer.step()
        self.ema.step(self.model.parameters())
        self.step += 1
        self.samples += len(rows)
        return loss.detach()

    @torch.no_grad()
    def probe(self, examples: Examples) -> float:
        """Loss of the averaged weights on noise that is always the same: comparable over time."""
        generator = torch.Generator().manual_seed(1)
        total = 0.0
        with averaged(self):
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


@contextmanager
def averaged(training: Training) -> Iterator[None]:
    """The model carries the averaged weights inside, its own again afterwards."""
    parameters = list(training.model.parameters())
    training.ema.store(parameters)
    training.ema.copy_to(parameters)
    training.model.eval()
    try:
        yield
    finally:
        training.ema.restore(parameters)
        training.model.train()


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


def sheet(training: Training, vae: AutoencoderKL, words: CLIPTokenizer, size: int) -> Image.Image:
    """What SHEET_PROMPTS give at this moment, at `size` latents, in a few quick steps."""
    with averaged(training):
        pipeline = pipeline_of(training.model, vae, words)
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
    training = Training(recipe, words, work)
    training.restore()
    clock, settings = training.clock, training.settings
    clock.call_limit = max_minutes
    sheet_due = Every(settings.sheet_every_minutes, clock, last=clock.spent)
    save_due = Every(settings.save_every_minutes, clock, last=clock.spent)
    final = make_examples(data, vae, words, LATENT_SIZE, flip=False)
    running, phase, threads = 0.0, None, Threads()
    clock.start()
    with Bar(f"denoiser, {recipe.name}", clock) as bar:
        while not clock.is_over:
            if (now := phase_at(settings, clock.spent)) is not phase:
                phase = now
                examples = make_examples(data, vae, words, phase.latent_size, settings.flip)
                rows = batches(pool_of(data, examples, recipe), phase.batch, training.generator)
            loss = training.advance(examples, next(rows))
            if training.step % READ_LOSS_EVERY == 0:  # reading it waits for the GPU
                read = loss.item()
                running += (read - running) * 0.1 if running else read
            threads.after_step(60 * clock.tick())
            size = phase.latent_size
            bar.show(f"step {training.step}  {size}x{size}  loss {running:.4f}  {threads.now} thr.")
            if save_due.due():
                training.save()
            if sheet_due.due():
                bar.log_line(f"probe {training.probe(final):.4f}")
                sheet(training, vae, words, size).save(
                    work / f"sheet-{recipe.name}-{clock.spent:06.1f}.png"
                )
    training.save()
    return clock.progress >= 1.0
