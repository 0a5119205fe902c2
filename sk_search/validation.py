"""How good a network is on the held-out pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from .evaluate import Forward, denoise_mosaic, psnr_db, self_ensemble, ssim

Pairs = tuple[Tensor, Tensor, Tensor]
"""clean [N,1,P,P], noisy [N,1,P,P], noise levels [N,2]."""


@torch.no_grad()
def validate(forward: Forward, pairs: Pairs, batch: int, margin_px: int) -> dict[str, float]:
    """PSNR with and without self-ensemble, and SSIM, means over the pairs, in float32; `batch` at a time."""
    clean, noisy, levels = pairs
    chunks = list(zip(noisy.split(batch), levels.split(batch), strict=True))
    single = torch.cat([denoise_mosaic(forward, x, noise) for x, noise in chunks])
    ensemble = torch.cat([self_ensemble(forward, x, noise, margin_px) for x, noise in chunks])
    return {
        "psnr_db": float(psnr_db(single, clean).mean()),
        "psnr_ensemble_db": float(psnr_db(ensemble, clean).mean()),
        "psnr_noisy_db": float(psnr_db(noisy, clean).mean()),
        "ssim": ssim(single, clean),
    }
