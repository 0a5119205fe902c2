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
from torch import Tensor, nn

from .relax import gumbel_softmax


@dataclass(frozen=True)
class Choice:
    """What is kept of a superkernel."""

    kernel: int
    filters: tuple[int, ...]
    """Indices of the kept filters, ascending."""


class Superkernel(nn.Module):
    """Base: the options of one convolution, and the weights that are in force.

    kernels: the odd sizes that may be chosen, ascending; filters: the counts that may be chosen, ascending.
    """

    def __init__(self, kernels: Sequence[int], filters: Sequence[int]) -> None:
        super().__init__()
        self.kernels = tuple(kernels)
        self.filters = tuple(filters)
        size = self.kernels[-1]
        reach = (torch.arange(size) - size // 2).abs()
        distance = torch.maximum(reach[:, None], reach[None, :])
        slices = torch.stack([(distance <= k // 2).float() for k in self.kernels])
        self.register_buffer("slices", slices, persistent=False)  # [n_k,K,K] centred k×k ones
        largest = torch.zeros(len(self.kernels), self.max_filters)
        largest[-1] = 1.0
        self.register_buffer("weights", largest, persistent=False)  # [n_k,F] in force for a forward pass

    @property
    def max_kernel(self) -> int:
        return self.kernels[-1]

    @property
    def max_filters(self) -> int:
        return self.filters[-1]

    def draw(self, tau: float, generator: torch.Generator, hard: bool = False) -> None:
        """Put a relaxed sample in force for the next forward passes."""
        self.weights = self.sample(tau, generator, hard)

    def choose(self, choice: Choice) -> None:
        """Put a hard choice in force for the next forward passes."""
        weights = self.slices.new_zeros(len(self.kernels), self.max_filters)
        weights[self.kernels.index(choice.kernel), list(choice.filters)] = 1.0
        self.weights = weights

    def smallest(self) -> Choice:
        """The choice of least cost."""
        return Choice(self.kernels[0], tuple(range(self.filters[0])))

    def kernel_mask(self) -> Tensor:
        """The sample-weighted sum of slice masks of eq. 4, [F,1,K,K]."""
        return torch.einsum("kf,kij->fij", self.weights, self.slices).unsqueeze(1)

    def sample(self, tau: float, generator: torch.Generator, hard: bool = False) -> Tensor:
        """A relaxed (or straight-through hard) sample of the weights, [n_k,F]."""
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

    def entropy(self) -> Tensor:
        """Of the distribution, divided by its maximum: 1 undecided, 0 decided."""
        raise NotImplementedError


class JointSuperkernel(Superkernel):
    """One softmax over all pairs of kernel size and filter count; a count keeps the first filters (§4.1)."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int]) -> None:
        super().__init__(kernels, filters)
        # Near uniform; the noise only breaks ties.
        self.logits = nn.Parameter(1e-3 * torch.randn(len(self.kernels), len(self.filters)))  # [n_k,n_f]
        prefix = torch.arange(self.max_filters) < torch.tensor(self.filters)[:, None]
        self.register_buffer("prefix", prefix.float(), persistent=False)  # [n_f,F]

    def sample(self, tau: float, generator: torch.Generator, hard: bool = False) -> Tensor:
        return gumbel_softmax(self.logits, tau, generator, hard) @ self.prefix

    def _joint(self) -> Tensor:
        return torch.softmax(self.logits.flatten(), 0).view_as(self.logits)

    def probabilities(self) -> Tensor:
        return self._joint() @ self.prefix

    def kernel_probabilities(self) -> Tensor:
        return self._joint().sum(1)

    def confidence(self) -> Tensor:
        return self._joint().max()

    def argmax(self) -> Choice:
        kernel, count = divmod(int(self.logits.argmax()), len(self.filters))
        return Choice(self.kernels[kernel], tuple(range(self.filters[count])))

    def entropy(self) -> Tensor:
        return _normalised_entropy(self._joint().flatten())


class PlainSuperkernel(Superkernel):
    """No choice: the largest kernel and every filter, the paper's "no superkernel" baseline."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int]) -> None:
        super().__init__(kernels[-1:], filters[-1:])

    def sample(self, tau: float, generator: torch.Generator, hard: bool = False) -> Tensor:
        return self.probabilities()

    def probabilities(self) -> Tensor:
        return self.slices.new_ones(1, self.max_filters)

    def kernel_probabilities(self) -> Tensor:
        return self.slices.new_ones(1)

    def confidence(self) -> Tensor:
        return self.slices.new_ones(())

    def argmax(self) -> Choice:
        return Choice(self.max_kernel, tuple(range(self.max_filters)))

    def entropy(self) -> Tensor:
        return self.slices.new_zeros(())


SUPERKERNELS = {"joint": JointSuperkernel, "none": PlainSuperkernel}
"""`--type` -> the class that models the structure."""


def _normalised_entropy(p: Tensor) -> Tensor:
    """Entropy of the distribution p [n], n > 1 divided by log n; 0 where there is one option."""
    if p.numel() == 1:
        return p.new_zeros(())
    return -(p * p.clamp_min(1e-12).log()).sum() / math.log(p.numel())
