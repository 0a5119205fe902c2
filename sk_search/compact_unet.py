"""The compact U-Net: what the paper's search is for once the network has to run on a CPU.

Paper (§3.2): a SkipInit residual U-Net. Here: the same idea, of operators that ONNX Runtime runs near the
processor's peak. A convolution of stride 2 enters and a pixel shuffle leaves, so nothing works at full
resolution; blocks are chains, levels are joined by a sum, and nothing is concatenated or reordered between.
8.6 GMAC of it (joined by nearest neighbours) take 0.59 of the time of 6.6 GMAC of a SkipInit U-Net (1024×1024
sensor pixels, two cores with AVX-512): 160 against 73 GMAC/s, of 250 that its convolutions reach alone.

A level comes up by a transposed convolution, which gives each of a cell's four pixels values of its own.
Nearest neighbours give all four the same, in 5 to 10 % less time. From scratch, 12 GMAC, 1,500 steps, one
seed: 0.16 dB less at shot 3.5e-3, 0.36 dB less at 2e-2. Before four blocks of 1×1 they lose nothing: 6 GMAC,
3,000 steps of 128 px, one seed, 0.03 dB more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import CONDITIONINGS, ContrastMask, Stem
from .config import NetConfig
from .layers import Block, MakeConv


class CompactUNet(nn.Module):
    """x [B,4,h,w] and noise [B,2] -> denoised [B,4,h,w]; h and w multiples of 2^(depth+1) packed pixels."""

    def __init__(self, config: NetConfig, make_conv: MakeConv) -> None:
        super().__init__()
        widths, levels, stride = config.widths, range(config.depth), config.stride

        def blocks(name: str, width: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    Block(f"{name}.{i}", width, make_conv, config.projection, "chain")
                    for i in range(config.blocks)
                )
            )

        self.condition = CONDITIONINGS[config.conditioning]()
        self.head = Stem(self.condition.channels, widths[0], stride)
        self.encoder = nn.ModuleList(blocks(f"encoder.{i}", widths[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels)
        self.bottom = blocks("bottom", widths[-1])
        self.up = nn.ModuleList(UPS[config.up](widths[i + 1], widths[i]) for i in levels)
        self.decoder = nn.ModuleList(blocks(f"decoder.{i}", widths[i]) for i in levels)
        self.tail = nn.Conv2d(widths[0], 4 * stride**2, 3, padding=1)
        self.mask = ContrastMask(config.masked_from) if config.masked else None
        nn.init.zeros_(self.tail.weight)  # what is not denoised yet is at least not made worse

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a clean frame's noise is below bfloat16
            features, restore = self.condition(x, noise)
        h = self.head(features)  # [B,widths[0],h/2,w/2]
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            skips.append(blocks(h))
            h = down(skips[-1])
        h = self.bottom(h)
        for level in reversed(range(len(skips))):
            h = self.decoder[level](skips[level] + self.up[level](h))
        residual = self.tail(h)
        if self.mask and not self.training:  # training sees it whole, or would not learn to leave it alone
            residual = residual * self.mask(features)
        return restore(pixel_shuffle(residual).to(x.dtype))


class NearestUp(nn.Conv2d):
    """[B,C,h,w] -> [B,F,2h,2w]: 1×1, every value four times."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(super().forward(x), scale_factor=2, mode="nearest")


class TransposedUp(nn.ConvTranspose2d):
    """[B,C,h,w] -> [B,F,2h,2w]: a 1×1 of its own for each of the four pixels of a cell.

    Deployed, a pooling of single pixels follows, which changes nothing: ONNX Runtime's transposed convolution
    leaves the blocked layout that its other convolutions have on a CPU, and its poolings return to it.
    Without that every sum of the decoder leaves it and comes back: 3 to 4 % of the time of 32 filters at
    level 0, 2 % of that of 48.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.training else F.max_pool2d(y, 1)


UPS = {"transposed": TransposedUp, "nearest": NearestUp}
"""`NetConfig.up` -> what brings a level up: of (channels in, channels)."""


def pixel_shuffle(x: Tensor) -> Tensor:
    """PyTorch's, by 2: [B,4C,h,w] -> [B,C,2h,2w], as one transpose within lines and one of lines.

    ONNX Runtime's DepthToSpace, a transpose of six axes, takes twice as long on a CPU: 9 % of `nano`.
    """
    batch, channels, height, width = x.shape
    lines = x.reshape(batch, channels // 2, 2, -1).transpose(2, 3)  # columns of a pixel
    rows = lines.reshape(batch, channels // 4, 2, -1, 2 * width).transpose(2, 3)
    return rows.reshape(batch, channels // 4, 2 * height, 2 * width)
