"""The networks of a text-to-image run as torch modules whose inputs are a plan's values.

Shapes: B pictures, latents (B, C, h, w), and a window of S predictions with the newest first;
axis 2 of the window has the H halves of guidance: unconditional and conditional, or the
conditional one alone in a run without guidance. The guidance scale is None in such a run, and one
of the conditions where the network itself is told of it (embedded guidance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..methods.feature_cache import watched
from ..methods.method import Method, Predictions
from ..methods.port import Port
from ..models.autoencoder import Autoencoder
from ..models.denoiser import Denoiser, Site
from ..models.guidance import SCALE, joined


def combine(noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor | None) -> Tensor:
    """Latents (B, C, h, w): the sampler's linear map, then classifier-free guidance.

    noise (B, C, h, w), history (S, H, B, C, h, w), coef (1, 1 + S), guidance_scale (). All
    float32. Guidance is linear too, so it may come after the sum over the history. At a scale of
    1 or less diffusers' pipelines leave it out (`do_classifier_free_guidance`): the prediction is
    the conditional one, which is what a scale of 1 gives.
    """
    s = history.shape[0]
    summed = (coef[:, 1:] @ history.reshape(s, -1)).reshape(history.shape[1:])
    if guidance_scale is None:
        return coef[0, 0] * noise + summed[0]
    unconditional, conditional = summed[0], summed[1]
    guided = unconditional + guidance_scale.clamp(min=1.0) * (conditional - unconditional)
    return coef[0, 0] * noise + guided


class Encoder(nn.Module):
    """The image that a run starts from, uint8 (B, H, W, 3) → its latents, for every half."""

    def __init__(self, autoencoder: Autoencoder, halves: int) -> None:
        super().__init__()
        self.vae = autoencoder.module
        self.autoencoder = autoencoder
        self.halves = halves

    def forward(self, init_image: Tensor) -> Tensor:
        """The mode of the posterior, (1, halves, B, C, h, w) in float32; the halves are alike, so
        that guidance leaves them as they are."""
        picture = (init_image.float() / 255 * 2 - 1).permute(0, 3, 1, 2)
        return torch.stack([self.autoencoder.encode(picture)] * self.halves).unsqueeze(0)


class NetworkCall(nn.Module):
    """One call of the network: (1, H, B, C, h, w) predictions in float32, before guidance.

    Behind them, its tensors at `sites`, and what its methods give.
    """

    def __init__(
        self, denoiser: Denoiser, methods: Sequence[Method] = (), sites: Sequence[Site] = ()
    ) -> None:
        super().__init__()
        self.add_module(denoiser.component, denoiser.module)  # so that weights have their paths
        self.denoiser = denoiser
        self.methods = methods
        self.sites = sites

    def forward(
        self,
        noise: Tensor,
        history: Tensor,
        coef: Tensor,
        timestep: Tensor,
        guidance_scale: Tensor | None = None,
        **told: Tensor,
    ) -> tuple[Tensor, ...]:
        """told: the conditions of every half, and what the methods take."""
        halves = history.shape[1]
        sample = combine(noise, history, coef, guidance_scale if halves == 2 else None)
        last = Predictions(history)
        with ExitStack() as active:
            for method in self.methods:
                given = {name: told.pop(name) for name in method.inputs()}
                active.enter_context(method.around(self.denoiser, last, given))
            active.enter_context(self.denoiser.tracing())
            seen = active.enter_context(watched(self.denoiser.module, self.sites))
            sample = torch.cat([sample] * halves)
            conditions = joined(told)
            if halves == 1 and guidance_scale is not None:
                conditions[SCALE] = guidance_scale
            prediction = self.denoiser.call(sample, timestep, conditions)
        for method in self.methods:
            prediction = method.merged(prediction, last)
        prediction = prediction.reshape(1, halves, *noise.shape)
        made = (tensor for method in self.methods for tensor in method.outputs().values())
        return prediction, *(seen[site] for site in self.sites), *made


class Decoder(nn.Module):
    """The finished history → latents (B, C, h, w) and the picture, uint8 (B, H, W, 3)."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.vae = autoencoder.module
        self.autoencoder = autoencoder

    def forward(
        self, noise: Tensor, history: Tensor, coef: Tensor, guidance_scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The sampler's last row of coefficients makes the latents."""
        latents = combine(noise, history, coef, guidance_scale)
        picture = self.autoencoder.decode(latents)
        # A picture of ints cannot say that it is none, so its latents do. A sum is NaN or infinite
        # where one of its parts is, and `where` leaves the bits of all others as they are.
        finite = picture.sum((1, 2, 3), keepdim=True).abs() <= torch.finfo(torch.float32).max
        latents = torch.where(finite, latents, torch.nan)
        picture = (picture / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return latents, (picture * 255).round().to(torch.uint8)


def loop_examples(latents: tuple[int, ...], halves: int, window: int) -> Mapping[str, Tensor]:
    """Examples of what the sampler gives to every network call and to the decoder."""
    inputs = {
        "noise": torch.zeros(latents),
        "history": torch.zeros(window, halves, *latents),
        "coef": torch.zeros(1, 1 + window),
    }
    return inputs | ({SCALE: torch.tensor(1.0)} if halves == 2 else {})


# How these are bound. What no stage writes and no constant is, the caller gives.
LOOP: Mapping[str, Port] = {
    "noise": Port("noise"),
    "history": Port("history", "window", makes="state"),
    "coef": Port("coef", "call"),
    SCALE: Port(SCALE),
}
PREDICTION = Port("history", "newest", makes="state")
