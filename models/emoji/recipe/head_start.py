"""Start both networks as something that already does a crude version of its task.

The autoencoder: from the usual random start, two CPU cores need hours until green is green:
GroupNorm takes the colour of a picture out of the signal again and again. So twelve channels of
every layer start as a straight road: red, green and blue, each with its negative and with a
constant and its negative. The negatives keep the mean of a group at zero and the constants keep its
spread the same for every picture, so that GroupNorm is a mere scaling of them. What comes out
before any training is the picture, four times coarser.

The UNet: at high noise the noise is nearly all of the input, so it starts as one that gives its
input back: the same kind of road runs from its first convolution over the outermost skip
connection to its last one.

In both, the branches that are added to the main path start at zero (as in the first diffusion
models, though not in diffusers), and the channels beside the road as usual.
"""

from __future__ import annotations

import math

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import nn

CARRIED = 12
COLOURS = (0, 4, 8)  # channel of each colour; its negative, +CONSTANT, -CONSTANT come next
CONSTANT = 3.0
LIFT = 4.0  # SiLU is close to a straight line up there
LOG_VARIANCE = -8.0


@torch.no_grad()
def give_autoencoder_head_start(model: AutoencoderKL) -> AutoencoderKL:
    """Set the weights of the road, in place."""
    for block in model.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
            if block.conv_shortcut is not None:
                _carry_on(block.conv_shortcut, taps=((0, 0),))
    for down in model.encoder.down_blocks:
        for sampler in down.downsamplers or ():
            _carry_on(sampler.conv, taps=((0, 0), (0, 1), (1, 0), (1, 1)))
    for up in model.decoder.up_blocks:
        for sampler in up.upsamplers or ():
            _carry_on(sampler.conv, taps=((1, 1),))
    for half in (model.encoder, model.decoder):
        _enter(half.conv_in)
        _leave(half.conv_norm_out, half.conv_out)
    _straight(model.quant_conv)
    _straight(model.post_quant_conv)
    latents = model.config.latent_channels
    model.quant_conv.bias[latents:] = LOG_VARIANCE
    return model


def _enter(conv: nn.Conv2d) -> None:
    """Three channels onto the road."""
    conv.weight[:CARRIED] = 0
    conv.bias[:CARRIED] = 0
    for i, first in enumerate(COLOURS):
        conv.weight[first, i, 1, 1], conv.weight[first + 1, i, 1, 1] = 1, -1
        conv.bias[first + 2], conv.bias[first + 3] = CONSTANT, -CONSTANT


def _carry_on(conv: nn.Conv2d, taps: tuple[tuple[int, int], ...]) -> None:
    """Each carried channel to itself, as the mean over `taps` of the kernel."""
    conv.weight[:CARRIED] = 0
    conv.bias[:CARRIED] = 0
    for channel in range(CARRIED):
        for row, column in taps:
            conv.weight[channel, channel, row, column] = 1 / len(taps)


def _leave(norm: nn.GroupNorm, conv: nn.Conv2d) -> None:
    """Undo the norm's scaling, pass SiLU where it is straight, take colour minus negative."""
    size = norm.num_channels // norm.num_groups
    for i, first in enumerate(COLOURS):
        group = range(first // size * size, first // size * size + size)
        constants = sum(c < CARRIED and c % 4 >= 2 for c in group)
        norm.weight[first : first + 2] = CONSTANT * math.sqrt(constants / size)
        norm.bias[first : first + 2] = LIFT
        conv.weight[i], conv.bias[i] = 0, 0
        conv.weight[i, first, 1, 1], conv.weight[i, first + 1, 1, 1] = 0.5, -0.5


def _straight(conv: nn.Conv2d) -> None:
    nn.init.zeros_(conv.bias)
    conv.weight.copy_(torch.eye(conv.out_channels)[:, :, None, None])


UNET_GROUP = 6  # +latent, -latent, then two pairs of +CONSTANT, -CONSTANT


@torch.no_grad()
def give_unet_head_start(model: UNet2DConditionModel) -> UNet2DConditionModel:
    """Make `model` predict its own input as the noise, in place."""
    size = model.conv_norm_out.num_channels // model.conv_norm_out.num_groups
    if size != UNET_GROUP:
        raise ValueError(f"the road needs groups of {UNET_GROUP} channels on top, not {size}")
    for block in model.modules():
        if isinstance(block, ResnetBlock2D):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(block.conv2.bias)
        elif isinstance(block, Transformer2DModel):
            nn.init.zeros_(block.proj_out.weight)
            nn.init.zeros_(block.proj_out.bias)
    latents = model.config.in_channels
    carried = latents * size
    first, last = model.conv_in, model.conv_out
    # The outermost skip connection ends in the last block, behind that block's own channels.
    join = model.up_blocks[-1].resnets[-1].conv_shortcut
    own = join.in_channels - first.out_channels
    for conv in (first, join):
        conv.weight[:carried] = 0
        conv.bias[:carried] = 0
    for channel in range(carried):
        join.weight[channel, own + channel] = 1
    norm = model.conv_norm_out
    for i in range(latents):
        road = i * size
        first.weight[road, i, 1, 1], first.weight[road + 1, i, 1, 1] = 1, -1
        for k in range(2, size, 2):
            first.bias[road + k], first.bias[road + k + 1] = CONSTANT, -CONSTANT
        # The input has unit spread, so it has a share in that of its group.
        spread = math.sqrt((2 + (size - 2) * CONSTANT**2) / size)
        norm.weight[road : road + 2] = spread
        norm.bias[road : road + 2] = LIFT
        last.weight[i], last.bias[i] = 0, 0
        last.weight[i, road, 1, 1], last.weight[i, road + 1, 1, 1] = 0.5, -0.5
    return model
