"""Superkernels that keep any subset of their filters (§4.3 and 4.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .relax import gumbel_softmax, relaxed_bernoulli
from .superkernel import Choice, Superkernel, flat_logits, normalised_entropy


class FilterwiseSuperkernel(Superkernel):
    """A softmax over kernel sizes and a Bernoulli variable for each filter (§4.3): any subset may be kept."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.kernel_logits = flat_logits(len(self.kernels))
        self.base_logits = nn.Parameter(torch.full((self.max_filters,), 2.5))  # 92 % kept

    def filter_logits(self) -> Tensor:
        """[F] of the Bernoulli variables."""
        return self.base_logits

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        kernel = gumbel_softmax(scale * self.kernel_logits, tau, generator, hard)
        return torch.outer(kernel, relaxed_bernoulli(scale * self.filter_logits(), tau, generator, hard))

    def probabilities(self) -> Tensor:
        return torch.outer(self.kernel_probabilities(), torch.sigmoid(self.filter_logits()))

    def kernel_probabilities(self) -> Tensor:
        return torch.softmax(self.kernel_logits, 0)

    def options(self, weights: Tensor) -> Tensor:
        """The expected number of kept filters is spread over the two counts beside it; any may be kept."""
        total = weights.sum().clamp_min(1e-12)
        return torch.outer(weights.sum(1) / total, self._between(total[None]))

    def smallest(self) -> Choice:
        return Choice(self.kernels[0], (0,))

    def argmax(self) -> Choice:
        """Paper: a filter whose logit exceeds 0.5; here 0, a probability of one half. One filter stays."""
        logits = self.filter_logits()
        kept = torch.nonzero(logits > self.keep_above).flatten().tolist() or [int(logits.argmax())]
        return Choice(self.kernels[int(self.kernel_logits.argmax())], tuple(kept))

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        """With each kernel size, the n likeliest filters for every n: no other subset of n is likelier."""
        logits = self.filter_logits()
        order = logits.argsort(descending=True, stable=True)
        kept, dropped = F.logsigmoid(logits[order]).cumsum(0), F.logsigmoid(-logits[order]).flip(0).cumsum(0)
        subsets = kept + torch.cat([dropped.flip(0)[1:], dropped.new_zeros(1)])  # [F]: n = 1 … F are kept
        found = []
        for kernel, p in zip(self.kernels, self.kernel_probabilities().clamp_min(1e-12).log(), strict=True):
            for n in range(1, self.max_filters + 1):
                filters = tuple(sorted(order[:n].tolist()))
                found.append((Choice(kernel, filters), float(p + subsets[n - 1])))
        return found

    def confidence(self) -> Tensor:
        p = torch.sigmoid(self.filter_logits())
        return self.kernel_probabilities().max() * torch.where(p > 0.5, p, 1 - p).prod()

    def entropy(self) -> Tensor:
        p = torch.sigmoid(self.filter_logits())
        pairs = torch.stack([p, 1 - p])
        bits = -(pairs * pairs.clamp_min(1e-12).log()).sum() / math.log(2)
        kernel_bits = math.log2(len(self.kernels))
        kernel = normalised_entropy(self.kernel_probabilities()) * kernel_bits
        return (bits + kernel) / (self.max_filters + kernel_bits)


class FilterwiseAttentionSuperkernel(FilterwiseSuperkernel):
    """Filterwise, with logits that attend to one another: θ = softmax(V Vᵀ) θᵇ (§4.4, eq. 1)."""

    key_length = 8
    """Keys v ~ N(0,1)ˡ: shorter and every filter gets the same logit, much longer and none sees another."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.keys = nn.Parameter(torch.randn(self.max_filters, self.key_length))  # V [F,l]

    def attention(self) -> Tensor:
        """softmax(V Vᵀ) [F,F], rows summing to 1."""
        return torch.softmax(self.keys @ self.keys.T, 1)

    def filter_logits(self) -> Tensor:
        return self.attention() @ self.base_logits

    def diagnostics(self) -> dict[str, float]:
        """The mean attention of a filter to itself."""
        return {"self_weight": float(self.attention().diagonal().mean())}
