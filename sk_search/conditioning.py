"""How a network sees its input and how its output becomes a residual: the part that knows the noise level.

`encode(x, noise)` turns packed planes x [B,4,h,w] and noise [B,2] (shot, read variance) into the features
that the network reads and the scale of its residual: output = x + scale · network(features). All of it is
exported into the graph, and all of it is local: nothing depends on the tile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Blind(nn.Module):
    """The paper's: the planes themselves."""

    channels = 4

    def forward(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        return x, torch.ones((), device=x.device)


class NoiseMap(nn.Module):
    """The planes and one more, the noise standard deviation at the mean of a cell (FFDNet, CBDNet)."""

    channels = 5

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        shot, read = _levels(noise)
        sigma = torch.sqrt(shot * x.mean(1, keepdim=True).clamp_min(0) + read)
        return torch.cat([x, sigma], 1), torch.ones((), device=x.device)


class KSigma(nn.Module):
    """PMRID's k-sigma transform: an affine map that gives every camera the noise of one anchor level."""

    channels = 4
    anchor_shot, anchor_read = 3.5e-3, 4.5e-5

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        shot, read = _levels(noise)
        gain = self.anchor_shot / shot.clamp_min(1e-8)
        return x * gain + (read * gain**2 - self.anchor_read) / self.anchor_shot, 1 / gain


class Anscombe(nn.Module):
    """Noise of standard deviation 1 everywhere, and a residual in units of the noise.

    The generalised Anscombe transform, with its value at x = 0 subtracted so that it stays finite as shot
    vanishes, split in a detail (unit noise whatever the camera) and a smooth base. With c = 3/8·shot² + read:
    z(x) = 2/shot·(√(shot·x + c) − √c) = 2x / (√(shot·x + c) + √c).

    Why not the design's noise map or k-sigma: there the network meets noise that spans three decades of
    standard deviation; here one filter serves every ISO, and bfloat16 rounding stays below the noise.
    """

    channels = 8
    base_scale = 1 / 32
    """The base reaches 2/√shot: hundreds at base ISO."""

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        shot, read = _levels(noise)
        c = 0.375 * shot**2 + read + 1e-12
        z = 2 * x / (torch.sqrt((shot * x + c).clamp_min(0)) + torch.sqrt(c))
        base = _local_mean(z)
        sigma = torch.sqrt(shot * _local_mean(x).clamp_min(0) + c)
        return torch.cat([z - base, self.base_scale * base], 1), sigma


CONDITIONINGS = {"none": Blind, "map": NoiseMap, "k-sigma": KSigma, "anscombe": Anscombe}


def _levels(noise: Tensor) -> tuple[Tensor, Tensor]:
    """noise [B,2] -> shot, read, each [B,1,1,1]."""
    return noise[:, 0].view(-1, 1, 1, 1), noise[:, 1].view(-1, 1, 1, 1)


def _local_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
