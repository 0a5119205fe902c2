"""The convolutions and the blocks that the networks are made of.

A superkernel convolution owns the maximal weights S [F,C,K,K] and bias b [F]; its superkernel owns the
distribution. The non-linearity is part of a convolution here, because the masks act before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lut import channels_read
from .superkernel import Choice, Superkernel


class ConvReLU(nn.Conv2d):
    """A plain k×k convolution, zero padding, and ReLU: what a superkernel convolution becomes."""

    def __init__(self, channels_in: int, filters: int, kernel: int) -> None:
        super().__init__(channels_in, filters, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return _relu(super().forward(x))

    @torch.no_grad()
    def enlarged(self, kernel: int) -> ConvReLU:
        """The same function with a kernel of `kernel`×`kernel`, which is zero around this one."""
        larger = ConvReLU(self.in_channels, self.out_channels, kernel).to(self.weight)
        larger.weight.copy_(F.pad(self.weight, [(kernel - self.kernel_size[0]) // 2] * 4))
        larger.bias.copy_(self.bias)
        return larger


class SuperConvReLU(nn.Module):
    """relu(conv(x, S * mask)): one convolution for every slice at once (eq. 4, the `full` treatment)."""

    def __init__(self, channels_in: int, superkernel: Superkernel, bias_rule: str = "marginal") -> None:
        super().__init__()
        self.superkernel = superkernel
        self.bias_rule = bias_rule
        self.out_channels = superkernel.max_filters
        size = superkernel.max_kernel
        plain = nn.Conv2d(channels_in, self.out_channels, size)  # PyTorch's initial values
        self.weight = nn.Parameter(plain.weight.detach().clone())  # [F,C,K,K]
        self.bias = nn.Parameter(plain.bias.detach().clone())  # [F]

    def forward(self, x: Tensor) -> Tensor:
        mask = self.superkernel.kernel_mask().to(self.weight.dtype)
        bias = self.bias * self.bias_mask(mask)
        return _relu(F.conv2d(x, self.weight * mask, bias, padding=self.superkernel.max_kernel // 2))

    def bias_mask(self, mask: Tensor) -> Tensor:
        """[F,1,K,K] -> [F].

        Paper (§4.5.4): the mean of the kernel mask, which scales the bias of a k×k slice by k²/K². Here the
        filter's marginal weight (the mask at its centre, which every slice contains), because then the sliced
        network equals the supernet without a correction; the paper's rule stays an option.
        """
        if self.bias_rule == "paper":
            return mask.mean((1, 2, 3))
        centre = mask.shape[-1] // 2
        return mask[:, 0, centre, centre]

    def distil(self, keep_in: list[int], choice: Choice) -> ConvReLU:
        """The plain convolution that equals this one under `choice`, fed with the channels `keep_in`."""
        kept = list(choice.filters)
        cut = (self.superkernel.max_kernel - choice.kernel) // 2
        end = cut + choice.kernel
        conv = ConvReLU(len(keep_in), len(kept), choice.kernel).to(self.weight)
        self.superkernel.choose(choice)
        bias = self.bias * self.bias_mask(self.superkernel.kernel_mask().to(self.bias.dtype))
        with torch.no_grad():
            conv.weight.copy_(self.weight[kept][:, keep_in, cut:end, cut:end])
            conv.bias.copy_(bias[kept])
        return conv


class SeparateSuperConvReLU(SuperConvReLU):
    """Σ relu(conv(x, slice)) · weight: the exact left side of eq. 5, the `separate` treatment.

    One convolution for each kernel size is enough, not one for each slice: relu(0) = 0, so dropping filters
    commutes with it, and a filter's share of a kernel size is a factor on its activation.
    """

    def forward(self, x: Tensor) -> Tensor:
        superkernel, size = self.superkernel, self.superkernel.max_kernel
        total: Tensor | None = None
        for k, share in zip(superkernel.kernels, superkernel.weights, strict=True):  # share [F]
            cut = (size - k) // 2
            weight = self.weight[:, :, cut : cut + k, cut : cut + k]
            bias = self.bias * (k / size) ** 2 if self.bias_rule == "paper" else self.bias
            y = share.view(1, -1, 1, 1) * _relu(F.conv2d(x, weight, bias, padding=k // 2))
            total = y if total is None else total + y
        return total


CONVOLUTIONS = {"full": SuperConvReLU, "separate": SeparateSuperConvReLU}
"""`--mode` -> the convolution that treats the non-linearity so (§4.5.3)."""


MakeConv = Callable[[str, int, int], nn.Module]
"""(name, channels in, width of the block) -> convolution."""


class Block(nn.Module):
    """Two searched convolutions, c₁ and c₂, and `out`, which restores the C channels of x [B,C,H,W].

    kind "skipinit" (figure 4): densely connected, c₁ reads x, c₂ reads [x, c₁], out reads [x, c₁, c₂]; the
    block is x + α · out, where α starts at 0. "dense" (figure 3): the same, but x + relu(out).
    "chain": each reads the one before alone, and x + α · out: nothing is concatenated, which in ONNX Runtime
    takes longer than the convolutions of a small network do.
    """

    def __init__(self, name: str, width: int, make_conv: MakeConv, projection: int, kind: str) -> None:
        super().__init__()
        self.width, self.kind = width, kind
        self.conv1 = make_conv(f"{name}.conv1", width, width)
        into2, _ = channels_read(kind, width, self.conv1.out_channels, 0)
        self.conv2 = make_conv(f"{name}.conv2", into2, width)
        _, channels = channels_read(kind, width, self.conv1.out_channels, self.conv2.out_channels)
        self.out = nn.Conv2d(channels, width, projection, padding=projection // 2)
        self.alpha = nn.Parameter(torch.zeros(())) if kind != "dense" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "chain":
            features = self.conv2(self.conv1(x))
        else:
            features = torch.cat([x, self.conv1(x)], 1)
            features = torch.cat([features, self.conv2(features)], 1)
        residual = self.out(features)
        if self.kind == "dense":
            return x + F.relu(residual)
        return x + (residual if self.alpha is None else self.alpha * residual)

    @torch.no_grad()
    def fold(self) -> None:
        """Multiply α into `out`, in place: a product less to run, and the sum joins the convolution."""
        if self.alpha is not None:
            self.out.weight.mul_(self.alpha)
            self.out.bias.mul_(self.alpha)
            self.alpha = None

    @torch.no_grad()
    def balance(self) -> None:
        """After `fold`, in place: α is 1, and a chain's convolutions are equally large beside fresh ones.

        The same function, but an optimiser's step has a size of its own: long training leaves conv1 and conv2
        tens of times as large as fresh ones and α in the thousandths, and `out` with that folded in would be
        no larger than one step.
        """
        if self.alpha is None:
            return
        self.alpha.fill_(1.0)
        if self.kind != "chain":  # elsewhere `out` reads conv1 too
            return
        convs = (self.conv1, self.conv2, self.out)
        sizes = [_beside_fresh(conv) for conv in convs]
        common = math.prod(sizes) ** (1 / 3)
        if not common:
            return
        features = 1.0  # what leaves a convolution, beside what did
        for conv, size in zip(convs, sizes, strict=True):
            conv.weight.mul_(common / size)
            features *= common / size
            conv.bias.mul_(features)

    def distil(self, choice1: Choice, choice2: Choice) -> None:
        """Cut both convolutions, and what reads them, to what the choices keep; in place."""
        filters1, filters2 = list(choice1.filters), list(choice2.filters)
        passed = list(range(self.width))
        if self.kind == "chain":
            seen, read = filters1, filters2
        else:
            seen = [*passed, *(self.width + f for f in filters1)]
            offset = self.width + self.conv1.out_channels
            read = [*seen, *(offset + f for f in filters2)]
        self.conv1 = self.conv1.distil(passed, choice1)
        self.conv2 = self.conv2.distil(seen, choice2)
        out = nn.Conv2d(len(read), self.width, self.out.kernel_size, padding=self.out.padding)
        out.to(self.out.weight)
        with torch.no_grad():
            out.weight.copy_(self.out.weight[:, read])
            out.bias.copy_(self.out.bias)
        self.out = out


def _beside_fresh(conv: nn.Conv2d) -> float:
    """Root mean square of the weights over that of PyTorch's initial ones."""
    return float((3 * conv.weight[0].numel() * conv.weight.square().mean()).sqrt())


def _relu(x: Tensor) -> Tensor:
    """ReLU whose gradient arrives contiguous.

    Behind a concatenation it would arrive as a strided slice, for which the CPU's backward is several times
    slower: 13 % of a whole training step.
    """
    y = F.relu(x)
    if y.requires_grad and y.device.type == "cpu":
        y.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return y


def blocks_of(net: nn.Module) -> dict[str, Block]:
    """Name -> block, in order of construction."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Block)}
