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

from .relax import gumbel_softmax, relaxed_bernoulli


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
        """The sample-weighted sum of slice masks of eq. 4, [F,1,K,K]."""
        return torch.einsum("kf,kij->fij", self.weights, self.slices).unsqueeze(1)

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

    def _prefixes(self) -> Tensor:
        """[n_f,F]: row j keeps the first filters[j] filters."""
        return (torch.arange(self.max_filters) < torch.tensor(self.filters)[:, None]).float()


class JointSuperkernel(Superkernel):
    """One softmax over all pairs of kernel size and filter count; a count keeps the first filters (§4.1)."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.logits = _flat_logits(len(self.kernels), len(self.filters))  # [n_k,n_f]
        self.register_buffer("prefix", self._prefixes(), persistent=False)

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        return gumbel_softmax(scale * self.logits, tau, generator, hard) @ self.prefix

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

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        return _prefix_candidates(self, self._joint())

    def entropy(self) -> Tensor:
        return _normalised_entropy(self._joint().flatten())


class FactorizedSuperkernel(Superkernel):
    """Independent softmaxes over kernel sizes and over filter counts (§4.2): an outer product."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.kernel_logits = _flat_logits(len(self.kernels))
        self.filter_logits = _flat_logits(len(self.filters))
        self.register_buffer("prefix", self._prefixes(), persistent=False)

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        kernel = gumbel_softmax(scale * self.kernel_logits, tau, generator, hard)
        count = gumbel_softmax(scale * self.filter_logits, tau, generator, hard)
        return torch.outer(kernel, count @ self.prefix)

    def probabilities(self) -> Tensor:
        return torch.outer(self.kernel_probabilities(), self._count_probabilities() @ self.prefix)

    def kernel_probabilities(self) -> Tensor:
        return torch.softmax(self.kernel_logits, 0)

    def _count_probabilities(self) -> Tensor:
        return torch.softmax(self.filter_logits, 0)

    def argmax(self) -> Choice:
        count = self.filters[int(self.filter_logits.argmax())]
        return Choice(self.kernels[int(self.kernel_logits.argmax())], tuple(range(count)))

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        joint = torch.outer(self.kernel_probabilities(), self._count_probabilities())
        return _prefix_candidates(self, joint)

    def confidence(self) -> Tensor:
        return self.kernel_probabilities().max() * self._count_probabilities().max()

    def entropy(self) -> Tensor:
        both = torch.outer(self.kernel_probabilities(), self._count_probabilities())
        return _normalised_entropy(both.flatten())


class FilterwiseSuperkernel(Superkernel):
    """A softmax over kernel sizes and a Bernoulli variable for each filter (§4.3): any subset may be kept."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.kernel_logits = _flat_logits(len(self.kernels))
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
        kernel = _normalised_entropy(self.kernel_probabilities()) * kernel_bits
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


class SharedGaussian(nn.Module):
    """z ~ N(0, I) of low rank, one draw for all superkernels of a network: what couples their choices.

    z: the draw in force [R], None for the marginal distribution. Expectations over z are Gauss-Hermite
    quadrature with three nodes an axis, so that logged probabilities and costs stay free of sampling noise.
    """

    rank = 2

    def __init__(self) -> None:
        super().__init__()
        self.z: Tensor | None = None
        nodes = torch.tensor((-math.sqrt(3), 0.0, math.sqrt(3)))
        weights = torch.tensor((1 / 6, 2 / 3, 1 / 6))
        grid = torch.cartesian_prod(*[nodes] * self.rank)  # [Q,R]
        self.register_buffer("nodes", grid, persistent=False)
        self.register_buffer(
            "node_weights", torch.cartesian_prod(*[weights] * self.rank).prod(1), persistent=False
        )

    def draw(self, generator: torch.Generator) -> None:
        """Put a sample of z in force."""
        self.z = torch.randn(self.rank, generator=generator, device=generator.device).to(self.nodes)


class CoupledSuperkernel(JointSuperkernel):
    """Joint, with logits θ + U z that share z with every other superkernel: a structured distribution.

    The paper (§7) leaves superkernels independent and asks for structure, because independent draws mix good
    choices of one layer with bad ones of another. Here U [n_k,n_f,R] learns which choices go together; given
    z they are independent. The choice that is kept is the one at the mode, z = 0.
    """

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.loadings = nn.Parameter(0.1 * torch.randn(*self.logits.shape, SharedGaussian.rank))
        self.shared = SharedGaussian()  # replaced by the network's

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        if self.shared.z is None:
            self.shared.draw(generator)
        logits = self.logits + self.loadings @ self.shared.z
        return gumbel_softmax(scale * logits, tau, generator, hard) @ self.prefix

    def _joint(self) -> Tensor:
        """Given z where a draw is in force, else its mean over z."""
        if self.shared.z is not None:
            logits = self.logits + self.loadings @ self.shared.z
            return torch.softmax(logits.flatten(), 0).view_as(self.logits)
        logits = self.logits.unsqueeze(-1) + self.loadings @ self.shared.nodes.T  # [n_k,n_f,Q]
        return torch.softmax(logits.flatten(0, 1), 0).view_as(logits) @ self.shared.node_weights


class FixedSuperkernel(Superkernel):
    """A choice made once and not learned: the largest (the paper's "no superkernel"), or a baseline's."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.register_buffer("fixed", self.weights.clone())  # [n_k,F], 0 or 1

    def fix(self, choice: Choice) -> None:
        """Choose once and for all."""
        self.choose(choice)
        self.fixed = self.weights.clone()

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        return self.fixed

    def probabilities(self) -> Tensor:
        return self.fixed

    def kernel_probabilities(self) -> Tensor:
        return self.fixed.amax(1)

    def confidence(self) -> Tensor:
        return self.fixed.new_ones(())

    def argmax(self) -> Choice:
        self.weights = self.fixed
        return self.chosen()

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        return [(self.argmax(), 0.0)]

    def entropy(self) -> Tensor:
        return self.fixed.new_zeros(())


SUPERKERNELS = {
    "joint": JointSuperkernel,
    "factorized": FactorizedSuperkernel,
    "filterwise": FilterwiseSuperkernel,
    "filterwise-attention": FilterwiseAttentionSuperkernel,
    "coupled": CoupledSuperkernel,
    "none": FixedSuperkernel,
    "uniform": FixedSuperkernel,
    "random": FixedSuperkernel,
}
"""`--type` -> the class that models the structure."""


def _flat_logits(*shape: int) -> nn.Parameter:
    """Near uniform; the noise only breaks ties."""
    return nn.Parameter(1e-3 * torch.randn(shape))


def _normalised_entropy(p: Tensor) -> Tensor:
    """Entropy of the distribution p [n], n > 1 divided by log n; 0 where there is one option."""
    if p.numel() == 1:
        return p.new_zeros(())
    return -(p * p.clamp_min(1e-12).log()).sum() / math.log(p.numel())


def _prefix_candidates(superkernel: Superkernel, p: Tensor) -> list[tuple[Choice, float]]:
    """The pairs of kernel size and filter count, p [n_k,n_f]."""
    log_p = p.clamp_min(1e-12).log().tolist()
    return [
        (Choice(kernel, tuple(range(count))), log_p[i][j])
        for i, kernel in enumerate(superkernel.kernels)
        for j, count in enumerate(superkernel.filters)
    ]
