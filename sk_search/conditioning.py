"""How a network sees its input and how its output becomes an image: the part that knows the noise level.

A conditioning maps packed planes x [B,4,h,w] and noise [B,2] (shot, read variance) to the features that the
network reads and to `restore`, which adds the network's residual [B,4,h,w] to x in the network's own units.
All of it is exported into the graph, and all of it is local: nothing depends on the tile.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Restore = Callable[[Tensor], Tensor]
"""residual -> denoised planes."""


class Blind(nn.Module):
    """The paper's: the planes themselves."""

    channels = 4

    def forward(self, x: Tensor, noise: Tensor | None) -> tuple[Tensor, Restore]:
        return x, lambda residual: x + residual


class NoiseMap(nn.Module):
    """The planes and one more, the noise standard deviation at the mean of a cell (FFDNet, CBDNet)."""

    channels = 5

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Restore]:
        shot, read = _levels(noise)
        sigma = torch.sqrt(shot * x.mean(1, keepdim=True).clamp_min(0) + read)
        return torch.cat([x, sigma], 1), lambda residual: x + residual


class KSigma(nn.Module):
    """PMRID's k-sigma transform: an affine map that gives every camera the noise of one anchor level."""

    channels = 4
    anchor_shot, anchor_read = 3.5e-3, 4.5e-5

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Restore]:
        shot, read = _levels(noise)
        gain = self.anchor_shot / shot.clamp_min(1e-8)
        z = x * gain + (read * gain**2 - self.anchor_read) / self.anchor_shot
        return z, lambda residual: x + residual * (1 / gain)


class Anscombe(nn.Module):
    """Noise of standard deviation 1 everywhere: the generalised Anscombe transform and its unbiased inverse.

    With its value at x = 0 subtracted, so that it stays finite as shot vanishes. With c = 3/8·shot² + read:
    z(x) = 2/shot·(√(shot·x + c) − √c) = x / (s + √c/2), s = √(shot·x + c)/2;
    z⁻¹(z(x) + r) = x + r·(2s + shot/4·r), which the network's residual ρ = 2r makes x + ρ·(s + shot/16·ρ).
    The mean of z lies below z of the mean, so what that gives back of a denoised z is too dark: by shot/4
    where photo-electrons abound, by less near black. To second order in the noise it is by
    shot/4·(1 − 3/8·shot² / (shot·x + c)), which is added here. (Makitalo and Foi, IEEE TIP 2013, treat the
    same bias.) How much less depends on the read noise, of which z tells a network little: left to learning,
    planes of one electron came back 5 % too bright.

    Why not the design's noise map or k-sigma: there the network meets noise that spans three decades of
    standard deviation; here one filter serves every ISO, and bfloat16 rounding stays below the noise.
    """

    channels = 4
    floor = 0.25
    """Least shot·x + c, in units of c: noise reaches below it, where a root would have no slope."""

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Restore]:
        shot, read = _levels(noise)
        shot = shot.clamp_min(1e-9) / 4  # `restore` divides by it
        few = 1.5 * shot**2
        c = few + 0.25 * read
        s = torch.sqrt(torch.maximum(shot * x + c, self.floor * c))
        z = x / (s + torch.sqrt(c))

        def restore(residual: Tensor) -> Tensor:
            bright = x + (residual * (s + 0.25 * shot * residual) + shot)
            dark = c / shot
            return bright - few / torch.maximum(bright + dark, self.floor * dark)

        return z, restore


CONDITIONINGS = {"none": Blind, "map": NoiseMap, "k-sigma": KSigma, "anscombe": Anscombe}


class ContrastMask(nn.Module):
    """Features of noise 1 [B,4,h,w] -> the share [B,1,h/2,w/2] of a residual that is to be taken away.

    Where a picture's own fine contrast is hundreds of times its noise, the eye sees no noise (contrast
    masking), a denoiser has next to nothing to gain, and what it takes for noise may be structure that
    training never showed, such as bars at the mosaic's finest frequency. So there the picture stays as it is.
    Contrast is the mean magnitude of sixteen differences, each of the noise's standard deviation: at the four
    pixels of a cell, red, blue and mean green minus their means over 3×3, and one green minus the other,
    which tells rows and columns apart. Of magnitudes, not of squares, so that a lone star or hot pixel hardly
    counts; twice the mean of what is positive, because ONNX Runtime does that within the convolution. Windows
    sit at the corners of cells; the four around a cell count, and none beyond an edge.

    Without it `nano` loses up to 7.6 dB on bars, 7.8 on a zone plate and 2.2 on text (shot 1e-5 to 1e-4);
    with it 0.1, 0.1 and none. Photographs change by -0.1 to 0.04 dB at shot 1e-5, and not at all from 7e-4.

    half: the contrast, in standard deviations of the noise, where half of the residual is taken away.
    """

    def __init__(self, half: float) -> None:
        super().__init__()
        self.half = half
        fine, gap = torch.zeros(2, 4, 4, 4)  # of the pixels of a cell in its window: [pixel,4,4]
        for pixel, (i, j) in enumerate(((1, 1), (1, 2), (2, 1), (2, 2))):
            fine[pixel, i - 1 : i + 2, j - 1 : j + 2] = -1 / 9
            fine[pixel, i, j] += 1
            gap[pixel, i, j] = 1 if i == j else -1
        colours = torch.tensor([[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]])  # of R, Gr, Gb, B
        greens = torch.tensor([[0, 1.0, -1, 0]])
        pairs = ((colours, fine), (greens, gap))
        products = (torch.einsum("cp,nij->cnpij", *pair) for pair in pairs)
        weight = torch.cat([product.flatten(0, 1) for product in products])  # [16,4,4,4]
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            above = F.relu(F.conv2d(features, self.weight, stride=2))  # [B,16,h/2-1,w/2-1]
            here = F.conv2d(above, above.new_full((1, 16, 1, 1), 2 / (16 * self.half)))
            contrast = F.conv2d(here, above.new_full((1, 1, 2, 2), 1 / 4), padding=1)
            return (1 + contrast * contrast).reciprocal()


class Stem(nn.Module):
    """The first convolution of a network that knows its noise: features [B,C,h,w] -> [B,F,h/stride,w/stride].

    Variance-stabilised planes reach 2/√shot, hundreds at base ISO, while what matters has standard deviation
    1. So each filter is a difference between its taps, plus a thirty-second of a sum of its own, which
    bfloat16 can hold afterwards; and the edge is mirrored, because zeros beside hundreds would be one. It
    computes in float32.
    """

    sum_scale = 1 / 32

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.kernel_size = 3 * stride
        plain = nn.Conv2d(channels, filters, self.kernel_size)  # PyTorch's initial values
        self.weight = nn.Parameter(plain.weight.detach().clone())  # [F,C,3s,3s]
        self.sums = nn.Parameter(plain.weight.detach().sum((2, 3)))  # [F,C]
        self.bias = nn.Parameter(torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            sums = self.sum_scale / self.kernel_size**2 * self.sums  # of each tap
            shift = sums - self.weight.mean((2, 3))
            x = F.pad(x, [self.stride] * 4, mode="reflect")
            return F.conv2d(x, self.weight + shift[..., None, None], self.bias, stride=self.stride)


LAYERS = (nn.Conv2d, nn.ConvTranspose2d, Stem)
"""What holds a network's weights, in `weight` and `bias`; supernets' convolutions aside."""


def first_convolution(conditioning: str, filters: int) -> nn.Module:
    """What reads the features of a conditioning at full resolution: 3×3."""
    channels = CONDITIONINGS[conditioning].channels
    if conditioning == "none":
        return nn.Conv2d(channels, filters, 3, padding=1)
    return Stem(channels, filters, stride=1)


def _levels(noise: Tensor) -> tuple[Tensor, Tensor]:
    """noise [B,2] -> shot, read, each [B,1,1,1]."""
    return noise[:, 0].view(-1, 1, 1, 1), noise[:, 1].view(-1, 1, 1, 1)
