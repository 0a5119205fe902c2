"""Superkernels: distributions over the kernel size and the filters of one convolution (§4.1–4.4).

Every distribution speaks one language, the *weights* `[n_k,F]`: how much filter f is used with kernel size k.
A hard choice is 0 or 1, a relaxed sample lies between, an expectation is a probability. All that a
convolution, a cost or a report needs follows from it, so a new type of superkernel is one small class here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Choice:
    """What is kept of a superkernel."""

    kernel: int
    filters: tuple[int, ...]
    """Indices of the kept filters, ascending."""


class Superkernel(nn.Module):
    """Base: the options of one convolution, and the weights that are in force.

    kernels: the odd sizes that may be chosen, ascending; filters: the counts that may be chosen, ascending
    (the last is F); keep_above: the logit above which a single filter is kept, where filters have logits.
    """

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__()
        self.kernels = tuple(kernels)
        self.filters = tuple(filters)
        self.keep_above = keep_above
        size = self.kernels[-1]
        reach = (torch.arange(size) - size // 2).abs()
        distance = torch.maximum(reach[:, None], reach[None, :])
        slices = torch.stack([(distance <= k // 2).float() for k in self.kernels])
        self.register_buffer("slices", slices, persistent=False)  # [n_k,K,K] centred k×k ones
        largest = torch.zeros(len(self.kernels), self.max_filters)
        largest[-1] = 1.0
        self.register_buffer("weights", largest, persistent=False)  # [n_k,F] in force for a forward pass
        self.register_buffer("counts", torch.tensor(self.filters).float(), persistent=False)  # [n_f]
        between = self._between(torch.arange(1.0, self.max_filters + 1)[:, None])
        steps = between.diff(dim=0, prepend=torch.zeros(1, len(self.filters)))
        self.register_buffer("steps", steps, persistent=False)  # [F,n_f] what one more first filter changes

    @property
    def max_kernel(self) -> int:
        return self.kernels[-1]

    @property
    def max_filters(self) -> int:
        return self.filters[-1]

    def draw(self, tau: float, generator: torch.Generator, hard: bool = False, uniform: bool = False) -> None:
        """Put a relaxed sample in force for the next forward passes; `uniform`: whatever the logits say."""
        self.weights = self.sample(tau, generator, hard, scale=0.0 if uniform else 1.0)

    def choose(self, choice: Choice) -> None:
        """Put a hard choice in force for the next forward passes."""
        weights = self.slices.new_zeros(len(self.kernels), self.max_filters)
        weights[self.kernels.index(choice.kernel), list(choice.filters)] = 1.0
        self.weights = weights

    def smallest(self) -> Choice:
        """The choice of least cost."""
        return Choice(self.kernels[0], tuple(range(self.filters[0])))

    def kernel_mask(self) -> Tensor:
        """The sample-weighted sum of slice masks of eq. 4, [F,1,K,K]; not rounded to bfloat16."""
        size = self.max_kernel
        with torch.autocast(self.weights.device.type, enabled=False):
            return (self.weights.T @ self.slices.flatten(1)).view(self.max_filters, 1, size, size)

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        """A relaxed (or straight-through hard) sample of the weights, [n_k,F]; `scale` multiplies logits."""
        raise NotImplementedError

    def chosen(self) -> Choice:
        """The choice that hard weights in force stand for."""
        kernel = int(self.weights.sum(1).argmax())
        return Choice(
            self.kernels[kernel], tuple(torch.nonzero(self.weights[kernel] > 0.5).flatten().tolist())
        )

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        """Every choice worth considering, with the logarithm of its probability."""
        raise NotImplementedError

    def probabilities(self) -> Tensor:
        """The expected weights [n_k,F]: P(filter f is used with kernel size k)."""
        raise NotImplementedError

    def kernel_probabilities(self) -> Tensor:
        """P(kernel size), [n_k]."""
        raise NotImplementedError

    def argmax(self) -> Choice:
        """The most probable choice."""
        raise NotImplementedError

    def confidence(self) -> Tensor:
        """The probability of the most probable choice."""
        raise NotImplementedError

    def options(self, weights: Tensor) -> Tensor:
        """P(kernel size, filter count) [n_k,n_f] that weights [n_k,F], expected or hard, amount to.

        A count keeps the first filters, so P(count) is a difference of weights. A choice of a count that is
        no option is spread over the two options beside it.
        """
        return weights @ self.steps

    def _between(self, count: Tensor) -> Tensor:
        """[...,1] -> shares [...,n_f] of the two options beside `count` (linear); the nearest beyond both."""
        low, high = self.counts[:-1], self.counts[1:]
        passed = ((count - low) / (high - low)).clamp(0, 1)
        return F.pad(passed, (1, 0), value=1.0) - F.pad(passed, (0, 1))

    def entropy(self) -> Tensor:
        """Of the distribution, divided by its maximum: 1 undecided, 0 decided."""
        raise NotImplementedError

    def diagnostics(self) -> dict[str, float]:
        """What else is worth a line in the log."""
        return {}


def flat_logits(*shape: int) -> nn.Parameter:
    """Near uniform; the noise only breaks ties."""
    return nn.Parameter(1e-3 * torch.randn(shape))


def normalised_entropy(p: Tensor) -> Tensor:
    """Entropy of the distribution p [n], n > 1 divided by log n; 0 where there is one option."""
    if p.numel() == 1:
        return p.new_zeros(())
    return -(p * p.clamp_min(1e-12).log()).sum() / math.log(p.numel())
