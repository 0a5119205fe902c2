"""What a network costs: multiply-accumulates for a raw megapixel, parameters, and milliseconds.

For a supernet all are expectations under the structural distributions, differentiable, from probabilities:
blocks are independent and a block's convolutions are independent, so the expectation of a product is the
product of expectations. For a fixed network the same sums are exact. Milliseconds come from a latency table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sk_deploy.errors import ConfigError

from .conditioning import LAYERS, ContrastMask
from .layers import Block, ConvReLU, blocks_of
from .lut import LatencyTable, channels_read, sites
from .superkernel import Choice, Superkernel

_PATCH_PACKED = 64

Weigh = Callable[[Superkernel], Tensor]
"""The weights [n_k,F] that a superkernel is costed with: expected, or those of a choice."""


@dataclass(frozen=True)
class Cost:
    """Of one network; 0-dimensional tensors."""

    macs_per_mp: Tensor
    parameters: Tensor
    latency_ms: Tensor | None = None
    """For the input of the latency table; None without one."""


class CostModel:
    """Counts once how many pixels each layer computes; then a cost is a few sums.

    table: latencies of this supernet's search space; ConfigError when it is of another one. Constants are
    made here, on the network's device, so that a cost waits for nothing from the host.
    """

    def __init__(self, net: nn.Module, table: LatencyTable | None = None) -> None:
        blocks = blocks_of(net)
        places = sites(table.net) if table else {}
        if table and places.keys() != blocks.keys():
            raise ConfigError(
                f"this latency table is of {len(places)} blocks, this network has {len(blocks)} of "
                "its own: measure it with `skdn profile --lut FILE`"
            )
        pixels, fixed_macs = _pixels_per_mp(net)
        searched = sum(
            p.numel()
            for b in blocks.values()
            for conv in (b.conv1, b.conv2, b.out)
            for p in conv.parameters()
        )
        number = next(net.parameters()).detach().new_tensor
        self._by_name = {
            name: _BlockCost(block, pixels[name], number(table.blocks[places[name]]) if table else None)
            for name, block in blocks.items()
        }
        self._fixed = Cost(
            macs_per_mp=number(fixed_macs),
            parameters=number(sum(p.numel() for p in net.parameters()) - searched),
            latency_ms=number(table.skeleton_ms) if table else None,
        )
        self._range_ms = table.range_ms() if table else None

    def __call__(self, chosen: bool = False) -> Cost:
        """Expected under the present distributions; `chosen`: of the choice that is in force."""
        return self._of(_in_force if chosen else _expected)

    def of_block(self, name: str) -> Cost:
        """One block's part of the choice that is in force."""
        return self._by_name[name](_in_force)

    def _of(self, weigh: Weigh) -> Cost:
        costs = [self._fixed, *(block(weigh) for block in self._by_name.values())]
        timed = self._fixed.latency_ms is not None
        return Cost(
            macs_per_mp=torch.stack([c.macs_per_mp for c in costs]).sum(),
            parameters=torch.stack([c.parameters for c in costs]).sum(),
            latency_ms=torch.stack([c.latency_ms for c in costs]).sum() if timed else None,
        )

    @torch.no_grad()
    def range(self) -> dict[str, tuple[float, float]]:
        """Each cost, and the least and the most of it that a network of the space can have."""
        least = self._of(lambda s: _hard(s, s.smallest()))
        most = self._of(lambda s: _hard(s, Choice(s.max_kernel, tuple(range(s.max_filters)))))
        ranges = {
            name: (float(getattr(least, name)), float(getattr(most, name)))
            for name in ("macs_per_mp", "parameters")
        }
        return ranges | ({"latency_ms": self._range_ms} if self._range_ms else {})


class _BlockCost:
    """One block. ms: of every option [n_k,n_f,n_k,n_f], None without a latency table."""

    def __init__(self, block: Block, pixels_per_mp: float, ms: Tensor | None) -> None:
        self.kind, self.width = block.kind, block.width
        self.projection = block.out.kernel_size[0] ** 2 * block.width
        self.conv1, self.conv2 = _ConvCost(block.conv1), _ConvCost(block.conv2)
        self.pixels_per_mp = pixels_per_mp
        if ms is not None and ms.shape != (*self.conv1.options, *self.conv2.options):
            raise ConfigError(
                f"this latency table has {tuple(ms.shape)} options for a block, this search space "
                f"{(*self.conv1.options, *self.conv2.options)}: measure it with `skdn profile --lut FILE`"
            )
        self.ms = None if ms is None else ms.flatten(2).flatten(0, 1)  # [n_k·n_f,n_k·n_f]

    def __call__(self, weigh: Weigh) -> Cost:
        p1, p2 = self.conv1.weights(weigh), self.conv2.weights(weigh)  # [n_k,F]
        kept1, kept2 = p1.sum(), p2.sum()
        into2, into_out = channels_read(self.kind, self.width, kept1, kept2)
        weights = self.conv1.area(p1) * self.width + self.conv2.area(p2) * into2 + self.projection * into_out
        latency_ms = None
        if self.ms is not None:
            option1, option2 = self.conv1.superkernel.options(p1), self.conv2.superkernel.options(p2)
            latency_ms = option1.flatten() @ self.ms @ option2.flatten()
        return Cost(weights * self.pixels_per_mp, weights + kept1 + kept2 + self.width, latency_ms)


class _ConvCost:
    """One convolution: a superkernel's, or a fixed one as if there were a single option."""

    def __init__(self, conv: nn.Module) -> None:
        fixed = isinstance(conv, ConvReLU)
        self.superkernel = None if fixed else conv.superkernel
        kernels = conv.kernel_size[:1] if fixed else conv.superkernel.kernels
        like = conv.weight.detach()
        self.areas = like.new_tensor([k * k for k in kernels])
        self.every = like.new_ones(1, conv.out_channels)
        self.options = (1, 1) if fixed else (len(kernels), len(conv.superkernel.filters))

    def weights(self, weigh: Weigh) -> Tensor:
        """[n_k,F]."""
        return self.every if self.superkernel is None else weigh(self.superkernel)

    def area(self, weights: Tensor) -> Tensor:
        """k²·filters."""
        return self.areas @ weights.sum(1)


def network_cost(net: nn.Module) -> tuple[float, int]:
    """Exact multiply-accumulates for a raw megapixel, and parameters, of a fixed network."""
    if not any(isinstance(m, ConvReLU) for m in net.modules()):
        raise TypeError("network_cost is for a distilled network; a supernet has an expected cost")
    cost = CostModel(net)()
    return float(cost.macs_per_mp), sum(p.numel() for p in net.parameters())


def _expected(superkernel: Superkernel) -> Tensor:
    return superkernel.probabilities()


def _in_force(superkernel: Superkernel) -> Tensor:
    return superkernel.weights


def _hard(superkernel: Superkernel, choice: Choice) -> Tensor:
    weights = torch.zeros_like(superkernel.weights)
    weights[superkernel.kernels.index(choice.kernel), list(choice.filters)] = 1.0
    return weights


def _pixels_per_mp(net: nn.Module) -> tuple[dict[str, float], float]:
    """Pixels that each block computes for a raw megapixel, and all multiply-accumulates elsewhere."""
    block_pixels: dict[str, float] = {}
    fixed_macs = 0.0
    blocks = blocks_of(net)

    def counter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal fixed_macs
            # A weight is used once for each pixel of the smaller side, whether a layer goes down or up.
            pixels = min(x.shape[-1] * x.shape[-2] for x in (inputs[0], output))
            pixels_per_mp = 1e6 * pixels / (2 * _PATCH_PACKED) ** 2
            if name in blocks:
                block_pixels[name] = pixels_per_mp
            else:
                fixed_macs += module.weight.numel() * pixels_per_mp

        return count

    hooks = [
        module.register_forward_hook(counter(name))
        for name, module in net.named_modules()
        if name in blocks
        or (isinstance(module, (*LAYERS, ContrastMask)) and not any(name.startswith(f"{b}.") for b in blocks))
    ]
    like, training = next(net.parameters()).detach(), net.training
    net.eval()  # as it is deployed: channel attention pools differently
    with torch.no_grad():
        net(like.new_zeros(1, 4, _PATCH_PACKED, _PATCH_PACKED), like.new_full((1, 2), 1e-3))
    net.train(training)
    for hook in hooks:
        hook.remove()
    return block_pixels, fixed_macs
