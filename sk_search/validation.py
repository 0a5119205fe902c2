"""How good a network is on the held-out pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .evaluate import Forward, denoise_mosaic, inside, psnr_db, self_ensemble, ssim


@dataclass(frozen=True)
class Pairs:
    """Held-out patches with one draw of noise, and what of them counts."""

    clean: Tensor
    """[N,1,P,P] in [0,1]."""
    noisy: Tensor
    levels: Tensor
    """Shot and read variance [N,2]."""
    margin_px: int = 0
    """What is not measured at each side, where a network sees the zeros beyond a patch."""

    def psnr_db(self, denoised: Tensor) -> float:
        """Mean over the pairs; denoised [N,1,P,P]."""
        return float(psnr_db(inside(denoised, self.margin_px), inside(self.clean, self.margin_px)).mean())

    def ssim(self, denoised: Tensor) -> float:
        """Mean over the pairs."""
        return ssim(inside(denoised, self.margin_px), inside(self.clean, self.margin_px))


@torch.no_grad()
def validate(forward: Forward, pairs: Pairs, batch: int, mirrored_px: int) -> dict[str, float]:
    """PSNR with and without self-ensemble, and SSIM, means over the pairs, in float32; `batch` at a time.

    mirrored_px: what the self-ensemble continues a patch by.
    """
    chunks = list(zip(pairs.noisy.split(batch), pairs.levels.split(batch), strict=True))
    single = torch.cat([denoise_mosaic(forward, x, noise) for x, noise in chunks])
    ensemble = torch.cat([self_ensemble(forward, x, noise, mirrored_px) for x, noise in chunks])
    return {
        "psnr_db": pairs.psnr_db(single),
        "psnr_ensemble_db": pairs.psnr_db(ensemble),
        "psnr_noisy_db": pairs.psnr_db(pairs.noisy),
        "ssim": pairs.ssim(single),
    }
