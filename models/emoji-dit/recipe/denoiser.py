"""Train the transformer and the text encoder together on cached latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PixArtSigmaPipeline
from recipe_common.sheet import sheet
from recipe_common.trainer import Trainer
from recipe_common.training import Phase, autocast, averaged, batches, checkpoint_path
from torch import nn
from transformers import T5TokenizerFast

from recipe import flow, pictures, tokenizer
from recipe.networks import make_scheduler, make_text_encoder, make_transformer
from recipe.settings import LATENT_SIZE, PICTURE_SIZE, TEXT_LENGTH, Recipe

PROBED = 64  # pictures
SHEET_STEPS, SHEET_GUIDANCE = 10, 4.0
SHEET_PROMPTS = (
    "a red heart with sleepy eyes, a smile and a top hat",
    "a blue circle with round eyes and a grin",
    "a yellow star with angry eyes, a frown and horns",
    "a green square with one eye, an open mouth and a crown",
    "a purple drop with dizzy eyes, a tongue and a bow",
    "a pink flower with happy eyes, a flat mouth and a halo",
    "a blue heart with happy eyes, a smile and a party hat",
    "a yellow square with dizzy eyes and a frown",
)


class Denoiser(nn.Module):
    """Token ids and their mask, noisy latents and times to PixArt's eight channels."""

    def __init__(self, recipe: Recipe, words: T5TokenizerFast) -> None:
        super().__init__()
        self.text_encoder = make_text_encoder(recipe.text_encoder, words)
        self.transformer = make_transformer(recipe.transformer)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, noisy: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        text = self.text_encoder(ids, attention_mask=mask).last_hidden_state
        return self.transformer(
            noisy,
            encoder_hidden_states=text,
            encoder_attention_mask=mask,
            timestep=times,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample


class Training(Trainer):
    """On `latents.pt`."""

    def __init__(self, recipe: Recipe, words: T5TokenizerFast, work: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.settings, self.words, self.work = recipe.denoiser, words, work
        path = checkpoint_path(work, recipe.name, "denoiser")
        super().__init__(Denoiser(recipe, words), recipe.denoiser, path, recipe.seed)
        self.data, self.vae = pictures.load(work), pictures.load_vae().to(self.on)
        self.ids, self.mask = ids_of(words, list(self.data.captions))
        self.no_ids, self.no_mask = ids_of(words, [""])

    def enter(self, phase: Phase) -> None:
        self.latents = self.data.by_size[phase.latent_size]
        self.rows = batches(torch.arange(len(self.latents)), phase.batch, self.generator)

    def loss(self, phase: Phase) -> torch.Tensor:
        rows = next(self.rows)
        dropped = torch.rand(len(rows), 1, generator=self.generator) < self.settings.drop_caption
        ids = torch.where(dropped, self.no_ids, self.ids[rows])
        mask = torch.where(dropped, self.no_mask, self.mask[rows])
        noise = torch.randn(
            self.latents[rows].shape, generator=self.noise_generator, device=self.on
        )
        return self._loss(rows, ids, mask, noise, self.generator)

    def _loss(
        self,
        rows: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
        noise: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:
        clean = self.latents[rows].to(self.on).float()
        times = flow.draw_times(len(rows), self.settings.time_spread, generator).to(self.on)
        with autocast(self.on):
            predicted = self.model(
                ids.to(self.on), mask.to(self.on), flow.mix(clean, noise, times), times
            )
        return flow.loss(predicted, clean, noise)

    @torch.no_grad()
    def probe(self) -> float:
        """Loss of the averaged weights on noise that is always the same: comparable over time."""
        generator = torch.Generator().manual_seed(1)
        losses = []
        with averaged(self.model, self.ema):
            for rows in torch.arange(PROBED).split(16):
                noise = torch.randn(self.latents[rows].shape, generator=generator).to(self.on)
                loss = self._loss(rows, self.ids[rows], self.mask[rows], noise, generator)
                losses.append(loss.item())
        return sum(losses) / len(losses)

    def look(self, phase: Phase) -> str:
        with averaged(self.model, self.ema):
            pipeline = pipeline_of(self.model, self.vae, self.words)
            side = PICTURE_SIZE * phase.latent_size // LATENT_SIZE
            drawn = draw(pipeline, list(SHEET_PROMPTS), SHEET_STEPS, SHEET_GUIDANCE, 0, side)
        captions = [""] * len(drawn)
        file = self.work / f"sheet-{self.clock.spent:06.1f}.png"
        sheet(drawn, captions, 4).save(file)
        return f"probe {self.probe():.4f}"


def ids_of(words: T5TokenizerFast, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and which of them are the prompt's, (len(texts), 24) each."""
    found = words(
        texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    return found.input_ids, found.attention_mask


def pipeline_of(model: Denoiser, vae: AutoencoderKL, words: T5TokenizerFast) -> PixArtSigmaPipeline:
    """diffusers' own pipeline around our parts."""
    return PixArtSigmaPipeline(
        tokenizer=words,
        text_encoder=model.text_encoder,
        vae=vae,
        transformer=model.transformer,
        scheduler=make_scheduler(),
    )


def draw(
    pipeline: PixArtSigmaPipeline,
    prompts: list[str],
    steps: int,
    guidance: float,
    first_seed: int,
    side: int = PICTURE_SIZE,
) -> np.ndarray:
    """One picture a prompt, each from its own seed: uint8 (N, side, side, 3)."""
    pipeline.set_progress_bar_config(disable=True)
    on = pipeline.transformer.device
    drawn = pipeline(
        prompts,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=[torch.Generator(on).manual_seed(first_seed + i) for i in range(len(prompts))],
        height=side,
        width=side,
        max_sequence_length=TEXT_LENGTH,
        clean_caption=False,
        use_resolution_binning=False,
        output_type="np",
    ).images
    return (drawn * 255).round().astype(np.uint8)


def train(recipe: Recipe, work: Path, max_minutes: float | None) -> bool:
    """Train or go on training; True when the plan is finished."""
    return Training(recipe, tokenizer.make(), work).run("denoiser", max_minutes)
