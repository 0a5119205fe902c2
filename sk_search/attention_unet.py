"""Multi-attentional residual U-Net (§3.1, figures 1 to 3): subnetworks side by side, gated and summed up.

Each of n subnetworks is a U-Net of dense blocks whose decoder weighs the channels of each concatenation.
Paper: depth and widths are not stated; here both are configurable.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .channel_attention import ChannelAttention
from .conditioning import CONDITIONINGS, first_convolution
from .config import NetConfig
from .layers import Block, MakeConv


class AttentionUNet(nn.Module):
    """x [B,4,h,w] and noise [B,2] -> denoised [B,4,h,w]; h and w multiples of 2^depth packed pixels."""

    def __init__(self, config: NetConfig, make_conv: MakeConv) -> None:
        super().__init__()
        self.condition = CONDITIONINGS[config.conditioning]()
        self.subnetworks = nn.ModuleList(
            AttentionSubnetwork(f"subnetworks.{i}", config, make_conv) for i in range(config.subnetworks)
        )
        channels = sum(subnetwork.out_channels for subnetwork in self.subnetworks)
        self.attention = _attention(config, channels, level=0)
        self.tail = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # a clean frame's noise is below bfloat16
            features, restore = self.condition(x, noise)
        h = torch.cat([subnetwork(features) for subnetwork in self.subnetworks], 1)
        return restore(self.tail(self.attention(h)).to(x.dtype))


class AttentionSubnetwork(nn.Module):
    """Figure 2: features [B,C,h,w] -> [B,2·widths[0],h,w].

    Encoder level: 3×3 convolution and ReLU (to the level's width w), dense block, and a stride-2 convolution
    to the next. Decoder level: pixel shuffle to w, concatenation with the skip, channel attention, dense
    block. Paper: nothing narrows the concatenation, and a block "restores the number of filters"; so the
    decoder's blocks work on 2w channels, as in the network that the block is from (DHDN, Park et al. 2019).
    """

    def __init__(self, name: str, config: NetConfig, make_conv: MakeConv) -> None:
        super().__init__()
        widths, levels = config.widths, range(config.depth)

        def blocks(place: str, width: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    Block(f"{name}.{place}.{i}", width, make_conv, config.projection, "dense")
                    for i in range(config.blocks)
                )
            )

        below = [*(2 * w for w in widths[1:-1]), widths[-1]]
        self.out_channels = 2 * widths[0]
        self.enter = nn.ModuleList(
            [
                first_convolution(config.conditioning, widths[0]),
                *(nn.Conv2d(w, below, 3, padding=1) for w, below in pairwise(widths)),
            ]
        )
        self.encoder = nn.ModuleList(blocks(f"encoder.{i}", widths[i]) for i in levels)
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i], 2, stride=2) for i in levels)
        self.bottom = blocks("bottom", widths[-1])
        self.up = nn.ModuleList(nn.Conv2d(below[i], 4 * widths[i], 1) for i in levels)
        self.attention = nn.ModuleList(_attention(config, 2 * widths[i], i) for i in levels)
        self.decoder = nn.ModuleList(blocks(f"decoder.{i}", 2 * widths[i]) for i in levels)

    def forward(self, h: Tensor) -> Tensor:
        skips = []
        for enter, blocks, down in zip(self.enter, self.encoder, self.down, strict=False):
            h = blocks(F.relu(enter(h)))
            skips.append(h)
            h = down(h)
        h = self.bottom(F.relu(self.enter[-1](h)))
        for level in reversed(range(len(skips))):
            h = F.pixel_shuffle(self.up[level](h), 2)
            h = self.attention[level](torch.cat([h, skips[level]], 1))
            h = self.decoder[level](h)
        return h


def _attention(config: NetConfig, channels: int, level: int) -> ChannelAttention:
    return ChannelAttention(channels, config.window // config.multiple, config.multiple >> level)
