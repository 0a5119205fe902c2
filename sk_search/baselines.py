"""Architectures that nobody searched, at the cost that a search was given: its value is what it has on them.

`uniform`: the same kernel size and growth in every place, as networks are drawn by hand. `random`: any choice
in any place. Both fill the target, because a cheaper network would be an easy opponent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sk_deploy.errors import ConfigError

from .superkernel import Choice, Superkernel

Excess = Callable[[], float]
"""log(cost / target) of the choices in force, the largest over all targets: 0 or less meets them."""

_SLACK = 0.02
_TRIES = 5000
_PATIENCE = 50


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


def fix_uniform(superkernels: list[FixedSuperkernel], excess: Excess) -> None:
    """The costliest uniform choice that meets the targets, then one place after another the next costlier."""
    ladder = []
    for choices in _uniform_choices(superkernels):
        _fix(superkernels, choices)
        ladder.append((excess(), choices))
    ladder.sort(key=lambda rung: rung[0])
    best = max((i for i, rung in enumerate(ladder) if rung[0] <= 0), default=0)
    choices = ladder[best][1]
    _fix(superkernels, choices)
    if best + 1 == len(ladder):
        return
    for superkernel, before, after in zip(superkernels, choices, ladder[best + 1][1], strict=True):
        superkernel.fix(after)
        if excess() > 0:
            superkernel.fix(before)


def fix_random(superkernels: Sequence[FixedSuperkernel], excess: Excess, generator: torch.Generator) -> None:
    """Any choice everywhere, then places drawn again until the cost lies within 2 % below the target.

    Where no network does, the nearest below that was seen. Raises ConfigError when none was below.
    """

    def draw(superkernel: FixedSuperkernel) -> Choice:
        kernel = int(torch.randint(len(superkernel.kernels), (), generator=generator))
        count = int(torch.randint(len(superkernel.filters), (), generator=generator))
        return Choice(superkernel.kernels[kernel], tuple(range(superkernel.filters[count])))

    nearest, kept = -math.inf, None
    for attempt in range(_TRIES):
        if attempt % _PATIENCE == 0:  # a descent may end beside the target: begin again
            _fix(superkernels, [draw(superkernel) for superkernel in superkernels])
            distance = math.inf
            superkernel = before = None
        else:
            superkernel = superkernels[int(torch.randint(len(superkernels), (), generator=generator))]
            before = superkernel.argmax()
            superkernel.fix(draw(superkernel))
        drawn = excess()
        if nearest < drawn <= 0:
            nearest, kept = drawn, [s.argmax() for s in superkernels]
        if nearest >= -_SLACK:
            break
        if abs(drawn + _SLACK / 2) < distance:
            distance = abs(drawn + _SLACK / 2)
        elif superkernel is not None:
            superkernel.fix(before)
    if kept is None:
        raise ConfigError("no random network was found below the target: raise it")
    _fix(superkernels, kept)


def _fix(superkernels: list[FixedSuperkernel], choices: list[Choice]) -> None:
    for superkernel, choice in zip(superkernels, choices, strict=True):
        superkernel.fix(choice)


def _uniform_choices(superkernels: list[FixedSuperkernel]) -> list[list[Choice]]:
    """Lists of choices, one for every kernel size and growth of the superkernel that has the most."""
    model = max(superkernels, key=lambda superkernel: len(superkernel.filters))
    found = []
    for kernel in model.kernels:
        for count in model.filters:
            growth = count / model.max_filters
            counts = [
                min(s.filters, key=lambda c, s=s: (abs(c - growth * s.max_filters), c)) for s in superkernels
            ]
            found.append([Choice(kernel, tuple(range(c))) for c in counts])
    return found
