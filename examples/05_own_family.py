"""A family of one's own: a small transformer that keepstep has never heard of, without guidance.

Usage, from the repository's folder: python examples/05_own_family.py

Its weights are random, so its pictures show nothing; but it is exported, with cached features and
its modulation hoisted out of the loop, and verified like any other. See docs/families.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from keepstep.exporter import export, models
from keepstep.exporter.check.verify import verify
from keepstep.exporter.models import Checkpoint, Family, Model
from keepstep.exporter.models.autoencoder import Autoencoder, LatentScale
from keepstep.exporter.models.denoiser import Cut, Denoiser, Site
from keepstep.exporter.models.text import clip_text
from keepstep.exporter.schedule.schema import parse

BLOCKS = 3
SIDE = 32  # of the picture, pixels, where none is asked for
SCHEDULE = """
keepstep: 1
name: cached
sampler: {scheduler: DDIMScheduler, steps: 6, clip_sample: false}
cache: {module: blocks}     # the name of its cut
calls: FssF.s
"""


class Transformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Blocks that are modulated by the timestep and the prompt's mean, and see its tokens."""

    config_name = "config.json"

    @register_to_config
    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(in_channels, width), nn.Linear(width, in_channels)
        self.time, self.pooled = nn.Linear(2, width), nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """A prediction of the sample's shape, from text of shape (batch, tokens, width)."""
        angle = timestep.reshape(1).to(sample.dtype) / 1000
        told = self.time(torch.stack([angle.sin(), angle.cos()], dim=1))
        told = nn.functional.silu(told + self.pooled(text.mean(dim=1)))
        x = self.into(sample.flatten(2).transpose(1, 2))
        for block in self.blocks:
            x = block(x, told, text)
        return self.out(x).transpose(1, 2).reshape(sample.shape)


class Block(nn.Module):
    """Attention over picture and prompt."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation, self.mlp = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, told: Tensor, text: Tensor) -> Tensor:
        """The picture's tokens `x` after this block; `told` modulates them."""
        shift, scale = self.modulation(told)[:, None].chunk(2, dim=2)
        q = self.to_q(x * (1 + scale) + shift)
        k, v = self.to_kv(torch.cat([x, text], dim=1)).chunk(2, dim=2)
        y = nn.functional.scaled_dot_product_attention(*(z[:, None] for z in (q, k, v)))
        return x + self.mlp(y[:, 0])


class ToyDenoiser(Denoiser):
    """How the network is called, and where it can be cut."""

    component: ClassVar[str] = "transformer"

    def call(self, sample: Tensor, timestep: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As a pipeline of this family would call it."""
        prediction: Tensor = self.module(sample, timestep, conditions["prompt_embeds"])
        return prediction

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """Shallow calls run the last block alone."""
        inner = [f"blocks.{i}" for i in range(BLOCKS - 1)]
        return (Cut.at("blocks", Site(inner[-1]), tuple(inner)),)


def load(
    checkpoint: Checkpoint, height: int | None, width: int | None, module: Callable[[Any, str], Any]
) -> Model:
    """A checkpoint of this family; `module` makes a component of its class."""
    network, vae = module(Transformer, "transformer"), module(AutoencoderKL, "vae")
    text = clip_text(checkpoint, module)
    return Model(
        family="toy",
        checkpoint=checkpoint,
        denoiser=ToyDenoiser(network, {"prompt_embeds": (text.length, network.config.width)}),
        text=text,
        autoencoder=Autoencoder(vae, LatentScale(float(vae.config.scaling_factor))),
        height=height or SIDE,
        width=width or SIDE,
        guidances=("none",),
    )


FAMILY = Family("toy", ("transformer", "Transformer"), lambda index: True, load)


def write_folder(base: Path, folder: Path) -> Path:
    """A checkpoint with a new network, and all else of the Stable Diffusion `base`."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("unet"))
    width = json.loads((folder / "text_encoder/config.json").read_text())["hidden_size"]
    channels = json.loads((folder / "vae/config.json").read_text())["latent_channels"]
    torch.manual_seed(5)
    Transformer(channels, width).save_pretrained(folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    del index["unet"]
    index |= {"_class_name": "ToyPipeline", "transformer": ["toy", "Transformer"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def main() -> None:
    """Write a checkpoint, export it, verify it."""
    models.register(FAMILY)
    shutil.rmtree("out/toy", ignore_errors=True)
    folder = write_folder(Path("models/emoji"), Path("out/toy"))
    bundle = export(folder, [parse(SCHEDULE)], "engines/toy")
    print(verify(bundle, "cached").sentence)
    for call in bundle.plan("cached").calls:
        print("launches", call.stage)


if __name__ == "__main__":
    main()
