"""Superkernels that keep their first filters: a distribution over pairs of kernel size and filter count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .relax import gumbel_softmax
from .superkernel import Choice, Superkernel, flat_logits, normalised_entropy


class PrefixSuperkernel(Superkernel):
    """Base: everything but the sample follows from the joint probabilities."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        prefix = torch.arange(self.max_filters) < torch.tensor(self.filters)[:, None]
        self.register_buffer("prefix", prefix.float(), persistent=False)  # [n_f,F] first filters[j] of F

    def joint(self) -> Tensor:
        """P(kernel size, filter count), [n_k,n_f]."""
        raise NotImplementedError

    def probabilities(self) -> Tensor:
        return self.joint() @ self.prefix

    def kernel_probabilities(self) -> Tensor:
        return self.joint().sum(1)

    def confidence(self) -> Tensor:
        return self.joint().max()

    def argmax(self) -> Choice:
        return self._choice(self.joint())

    @torch.no_grad()
    def candidates(self) -> list[tuple[Choice, float]]:
        log_p = self.joint().clamp_min(1e-12).log().tolist()
        return [
            (Choice(kernel, tuple(range(count))), log_p[i][j])
            for i, kernel in enumerate(self.kernels)
            for j, count in enumerate(self.filters)
        ]

    def entropy(self) -> Tensor:
        return normalised_entropy(self.joint().flatten())

    def _choice(self, scores: Tensor) -> Choice:
        """Of the highest score [n_k,n_f]."""
        kernel, count = divmod(int(scores.argmax()), len(self.filters))
        return Choice(self.kernels[kernel], tuple(range(self.filters[count])))


class JointSuperkernel(PrefixSuperkernel):
    """One softmax over all pairs (§4.1)."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.logits = flat_logits(len(self.kernels), len(self.filters))  # [n_k,n_f]

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        return gumbel_softmax(scale * self.logits, tau, generator, hard) @ self.prefix

    def joint(self) -> Tensor:
        return torch.softmax(self.logits.flatten(), 0).view_as(self.logits)


class FactorizedSuperkernel(PrefixSuperkernel):
    """Independent softmaxes over kernel sizes and over filter counts (§4.2): an outer product."""

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.kernel_logits = flat_logits(len(self.kernels))
        self.filter_logits = flat_logits(len(self.filters))

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        kernel = gumbel_softmax(scale * self.kernel_logits, tau, generator, hard)
        count = gumbel_softmax(scale * self.filter_logits, tau, generator, hard)
        return torch.outer(kernel, count @ self.prefix)

    def joint(self) -> Tensor:
        return torch.outer(torch.softmax(self.kernel_logits, 0), torch.softmax(self.filter_logits, 0))


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


class CoupledSuperkernel(PrefixSuperkernel):
    """Joint, with logits θ + U z that share z with every other superkernel: a structured distribution.

    The paper (§7) leaves superkernels independent and asks for structure, because independent draws mix good
    choices of one layer with bad ones of another. Here U [n_k,n_f,R] learns which choices go together; given
    z they are independent. The choice that is kept is the one at the mode, z = 0.
    """

    def __init__(self, kernels: Sequence[int], filters: Sequence[int], keep_above: float = 0.0) -> None:
        super().__init__(kernels, filters, keep_above)
        self.logits = flat_logits(len(self.kernels), len(self.filters))  # θ [n_k,n_f]
        self.loadings = nn.Parameter(0.1 * torch.randn(*self.logits.shape, SharedGaussian.rank))
        self.shared = SharedGaussian()  # replaced by the network's

    def sample(
        self, tau: float, generator: torch.Generator, hard: bool = False, scale: float = 1.0
    ) -> Tensor:
        if self.shared.z is None:
            self.shared.draw(generator)
        logits = self.logits + self.loadings @ self.shared.z
        return gumbel_softmax(scale * logits, tau, generator, hard) @ self.prefix

    def joint(self) -> Tensor:
        """Given z where a draw is in force, else its mean over z."""
        if self.shared.z is not None:
            logits = self.logits + self.loadings @ self.shared.z
            return torch.softmax(logits.flatten(), 0).view_as(self.logits)
        logits = self.logits.unsqueeze(-1) + self.loadings @ self.shared.nodes.T  # [n_k,n_f,Q]
        return torch.softmax(logits.flatten(0, 1), 0).view_as(logits) @ self.shared.node_weights

    def argmax(self) -> Choice:
        return self._choice(self.logits)
