"""SkipInit residual U-Net (§3.2): at each level `blocks` dense blocks that begin as the identity.

Stride-2 convolution down, pixel shuffle up, concatenation skips.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import CONDITIONINGS, first_convolution
from .config import NetConfig
from .layers import Block, MakeConv


class SkipInitUNet(nn.Module):
    """x [B,4,h,w] and noise [B,2] -> denoised [B,4,h,w]; h and w multiples of 2^depth packed pixels."""

    def __init__(self, config: NetConfig, make_conv: MakeConv) -> None:
        super().__init__()
        widths, k = config.widths, config.projection

        def blocks(name: str, width: int) -> nn.ModuleList:
            return nn.ModuleList(
                Block(f"{name}.{i}", width, make_conv, k, "skipinit") for i in range(config.blocks)
            )

        levels = range(config.depth)
        self.condition = CONDITIONINGS[config.conditioning]()
        self.head = first_convolution(config.conditioning, widths[0])
        self.encoder = nn.ModuleList(blocks(f"encoder.{i}", widths[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in levels)
        self.bottom = blocks("bottom", widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(widths[i + 1], 4 * widths[i], 1) for i in levels)
        self.fuse = nn.ModuleList(nn.Conv2d(2 * widths[i], widths[i], k, padding=k // 2) for i in levels)
        self.decoder = nn.ModuleList(blocks(f"decoder.{i}", widths[i]) for i in levels)
        self.tail = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a clean frame's noise is below bfloat16
            features, restore = self.condition(x, noise)
        h = self.head(features)
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            for block in blocks:
                h = block(h)
            skips.append(h)
            h = down(h)
        for block in self.bottom:
            h = block(h)
        for level in reversed(range(len(skips))):
            h = F.pixel_shuffle(self.up[level](h), 2)
            h = self.fuse[level](torch.cat([h, skips[level]], 1))
            for block in self.decoder[level]:
                h = block(h)
        return restore(self.tail(h).to(x.dtype))
