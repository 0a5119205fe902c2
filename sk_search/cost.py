"""What a network costs: multiply-accumulates for a raw megapixel, and parameters.

For a supernet both are expectations under the structural distributions, differentiable, from probabilities:
blocks are independent and a block's convolutions are independent, so the expectation of a product is the
product of expectations. For a fixed network the same sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import ConvReLU, DenseBlock

_PATCH_PACKED = 64


@dataclass(frozen=True)
class Cost:
    """Of one network; 0-dimensional tensors."""

    macs_per_mp: Tensor
    parameters: Tensor


class CostModel:
    """Counts once how many pixels each layer computes; then a cost is a few sums."""

    def __init__(self, net: nn.Module) -> None:
        self.blocks: list[tuple[DenseBlock, float]] = []
        self.fixed_macs = 0.0
        blocks = [m for m in net.modules() if isinstance(m, DenseBlock)]
        in_blocks = {id(m) for block in blocks for m in block.modules()}
        varying = sum(
            p.numel() for b in blocks for conv in (b.conv1, b.conv2, b.out) for p in conv.parameters()
        )
        self.fixed_parameters = float(sum(p.numel() for p in net.parameters()) - varying)
        raw_pixels = (2 * _PATCH_PACKED) ** 2

        def count(module: nn.Module, _: object, output: Tensor) -> None:
            pixels_per_mp = 1e6 * output.shape[-1] * output.shape[-2] / raw_pixels
            if isinstance(module, DenseBlock):
                self.blocks.append((module, pixels_per_mp))
            elif id(module) not in in_blocks:
                self.fixed_macs += module.weight.numel() * pixels_per_mp

        hooks = [
            m.register_forward_hook(count) for m in net.modules() if isinstance(m, DenseBlock | nn.Conv2d)
        ]
        device = next(net.parameters()).device
        dtype = next(net.parameters()).dtype
        training = net.training
        net.eval()  # as it is deployed: channel attention pools differently
        with torch.no_grad():
            planes = torch.zeros(1, 4, _PATCH_PACKED, _PATCH_PACKED, device=device, dtype=dtype)
            net(planes, torch.full((1, 2), 1e-3, device=device, dtype=dtype))
        net.train(training)
        for hook in hooks:
            hook.remove()

    def __call__(self, chosen: bool = False) -> Cost:
        """Expected under the present distributions; `chosen`: of the choice that is in force."""
        macs = torch.tensor(self.fixed_macs)
        parameters = torch.tensor(self.fixed_parameters)
        for block, pixels_per_mp in self.blocks:
            weights, biases = block.size(chosen)
            macs = macs + weights * pixels_per_mp
            parameters = parameters + weights + biases
        return Cost(macs, parameters)


def network_cost(net: nn.Module) -> tuple[float, int]:
    """Exact multiply-accumulates for a raw megapixel, and parameters, of a fixed network."""
    if not any(isinstance(m, ConvReLU) for m in net.modules()):
        raise TypeError("network_cost is for a distilled network; a supernet has an expected cost")
    cost = CostModel(net)()
    return float(cost.macs_per_mp), sum(p.numel() for p in net.parameters())
