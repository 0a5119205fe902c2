"""Relaxed sampling of discrete choices (§4.5.1) and the temperature that sharpens it.

Logits and samples stay float32 under autocast: at a temperature of 0.1 the exponent leaves no room for less.
"""

from __future__ import annotations

import torch
from torch import Tensor


def temperature(progress: float, start: float, end: float) -> float:
    """Exponential decay from `start` to `end` as `progress` goes from 0 to 1."""
    return float(start * (end / start) ** min(max(progress, 0.0), 1.0))


def gumbel_softmax(logits: Tensor, tau: float, generator: torch.Generator, hard: bool = False) -> Tensor:
    """A relaxed one-hot sample over all of `logits`, same shape, sums to 1 (Jang et al., 2016).

    `hard`: one-hot forward, relaxed gradient (straight-through).
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
    soft = torch.softmax((logits + gumbel).flatten() / tau, 0)
    if hard:
        one_hot = torch.zeros_like(soft).scatter_(0, soft.argmax(0, keepdim=True), 1.0)
        soft = one_hot + (soft - soft.detach())
    return soft.view_as(logits)


def relaxed_bernoulli(logits: Tensor, tau: float, generator: torch.Generator, hard: bool = False) -> Tensor:
    """Relaxed independent samples in [0,1], same shape, of P(1) = sigmoid(logits) (Maddison et al., 2016).

    `hard`: 0 or 1 forward, relaxed gradient (straight-through).
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp(1e-7, 1 - 1e-7)
    soft = torch.sigmoid((logits + uniform.log() - (-uniform).log1p()) / tau)
    if hard:
        soft = (soft > 0.5).to(soft) + (soft - soft.detach())
    return soft
