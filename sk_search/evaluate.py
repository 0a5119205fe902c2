"""PSNR and SSIM on the mosaic, and the Bayer-correct self-ensemble, on tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import quality
from .mosaics import pack, unpack

Forward = Callable[[Tensor, Tensor], Tensor]
"""(planes [B,4,h,w], noise [B,2]) -> planes."""


def psnr_db(x: Tensor, y: Tensor) -> Tensor:
    """Per image of a batch [B,1,H,W], peak 1, after clipping x to [0,1]."""
    mse = (x.clamp(0, 1) - y).square().mean((1, 2, 3))
    return -10 * torch.log10(mse.clamp_min(1e-12))


def ssim(x: Tensor, y: Tensor) -> float:
    """Mean over a batch of mosaics [B,1,H,W]; see `quality.ssim`."""
    pairs = zip(x[:, 0].cpu().numpy(), y[:, 0].cpu().numpy(), strict=True)
    return sum(quality.ssim(a, b) for a, b in pairs) / len(x)


def inside(x: Tensor, margin: int) -> Tensor:
    """[B,C,H,W] without `margin` pixels at each side."""
    return x[..., margin : x.shape[-2] - margin, margin : x.shape[-1] - margin]


def denoise_mosaic(forward: Forward, mosaic: Tensor, noise: Tensor) -> Tensor:
    """Run a network on an RGGB mosaic [B,1,H,W], H and W multiples of 2·multiple sensor pixels."""
    return unpack(forward(pack(mosaic), noise))


def self_ensemble(forward: Forward, mosaic: Tensor, noise: Tensor, margin: int) -> Tensor:
    """Mean over the eight dihedral transforms of an RGGB mosaic [B,1,H,W] (§5: self-ensemble).

    A flip turns RGGB into GRBG; on a canvas that is mirrored outward by `margin` (a multiple of what the
    network needs) the flipped mosaic is rolled by one pixel back to RGGB, the way `sk_deploy.ensemble` aligns
    it: the strides of the network fall on the same pixels.
    """
    canvas = F.pad(mosaic, (margin,) * 4, mode="reflect")
    total = torch.zeros_like(canvas)
    for transposed in (False, True):
        for axes in ((), (2,), (3,), (2, 3)):
            x = canvas.transpose(2, 3) if transposed else canvas
            for axis in axes:
                x = x.flip(axis).roll(1, axis)
            y = denoise_mosaic(forward, x.contiguous(), noise)
            for axis in axes:
                y = y.roll(-1, axis).flip(axis)
            total += y.transpose(2, 3) if transposed else y
    return inside(total, margin) / 8
