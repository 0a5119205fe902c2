"""The scale of a network's features, which its result does not depend on.

Between its first and its last convolution a U-Net of ReLUs and sums is homogeneous: what enters `factor`
times as large, and biases with it, leaves `factor` times as large. So a model file holds features that are
small enough for float16 (65504) at base ISO, where variance-stabilised planes reach hundreds, at no cost.
"""

from __future__ import annotations

import torch

from .attention_unet import AttentionUNet
from .conditioning import LAYERS, Stem
from .nets import Network

FEATURE_SCALE = 1 / 64
"""In a model file; a power of two, so that float32 gives the same bits."""


@torch.no_grad()
def rescale_features(net: Network, factor: float) -> None:
    """Features times `factor`, in place, and the same result; channel attention's gates would notice."""
    if isinstance(net, AttentionUNet):
        return
    net.head.weight.mul_(factor)
    if isinstance(net.head, Stem):
        net.head.sums.mul_(factor)
    net.tail.weight.div_(factor)
    for module in net.modules():
        if isinstance(module, LAYERS) and module is not net.tail:
            module.bias.mul_(factor)
