"""What takes a step along the gradient: Adam, or Muon for the weights of convolutions.

Paper: Adam. Here: Muon (K. Jordan et al., 2024), because it needs fewer steps: its update has singular values
near 1, so that rare directions of a filter bank are learnt as fast as the common ones. Weights decay, and the
step is scaled to the size of one of Adam's (J. Liu et al., *Muon is Scalable*, 2025), so both take the same
learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of Jordan's quintic: steepest at 0, and near enough to 1 from there on."""
_DECAY = 0.1
"""Of a weight, in a step at learning rate 1 (Liu et al.). Without it weights grow fivefold in a few thousand
steps, and a step of one size moves them less and less: `small` from scratch, 6,000 steps, 0.15 dB less on
McMaster."""


class Muon(torch.optim.Optimizer):
    """Momentum of which every weight tensor [F,C,k,k], as a matrix [F,C·k·k], is made orthogonal."""

    def __init__(self, params: Sequence[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.flatten(1).shape, []).append(p)
            for shape, params in alike.items():  # all of one shape at once
                looked_ahead = [self._momentum(p, group["momentum"]).reshape(shape) for p in params]
                scale = 0.2 * max(shape) ** 0.5  # root mean square 0.2, as one of Adam's
                for p, update in zip(params, orthogonalised(torch.stack(looked_ahead)), strict=True):
                    p.mul_(1 - group["lr"] * _DECAY)
                    p.add_(update.view(p.shape), alpha=-group["lr"] * scale)

    def _momentum(self, p: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's."""
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return torch.lerp(p.grad, state["momentum"], momentum)


def orthogonalised(x: Tensor, iterations: int = 5) -> Tensor:
    """Matrices [n,a,b] with their singular values moved to between 0.7 and 1.2; zero stays zero."""
    a, b, c = _NEWTON_SCHULZ
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def optimisers(
    name: str, weights: Sequence[nn.Parameter], lr: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """`name` "adam": one for all; "muon": Muon for the convolutions, Adam for biases and single factors."""
    adam: Any = {"lr": lr, "betas": betas, "fused": True}
    matrices = [p for p in weights if p.ndim == 4] if name == "muon" else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in weights if id(p) not in chosen]
    return [*([Muon(matrices, lr)] if matrices else []), torch.optim.Adam(rest, **adam)]
