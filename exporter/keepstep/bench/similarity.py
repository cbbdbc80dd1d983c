"""How alike two pictures are."""

from __future__ import annotations

import numpy as np


def similarity(image: np.ndarray, reference: np.ndarray) -> tuple[float | None, float]:
    """PSNR in dB (None where the pictures are the same) and SSIM of uint8 (B, H, W, 3) pictures."""
    import torch
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    a, b = (
        torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).float() / 255
        for x in (image, reference)
    )
    ssim = structural_similarity_index_measure(a, b, data_range=1.0)
    same = np.array_equal(image, reference)
    psnr = None if same else float(peak_signal_noise_ratio(a, b, data_range=1.0))
    return psnr, float(ssim)
