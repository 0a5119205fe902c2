"""The structural side of a search: sampling, its own optimiser, the cost target, the argmax choice.

Weights and structure have separate optimisers: at the weights' learning rate a logit needs 25,000 steps of
one sign to move by 0.5.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sk_deploy.genotype import UNDECIDED_ENTROPY

from .baselines import fix_random, fix_uniform
from .config import StructureConfig
from .cost import Cost, CostModel
from .feasibility import feasibility
from .lut import LatencyTable
from .nets import superconvs
from .prefix import CoupledSuperkernel, SharedGaussian
from .relax import temperature
from .superkernel import Choice, Superkernel

Choices = dict[str, Choice]
"""Superkernel name -> what is kept of it."""

_MULTIPLIER_RATE = 0.01
STIFFNESS = 20.0
"""Of the quadratic penalty: 5 % above a budget weigh as much as a multiplier of 1 at once, so that a search
too short for its multipliers to grow meets its target too."""


class Structure:
    """Every superkernel of a supernet, trained together.

    table: latencies of the search space, where there is a target in ms. Raises ConfigError when no network of
    the space meets the targets. Leaves argmax in force.
    """

    def __init__(self, net: nn.Module, config: StructureConfig, table: LatencyTable | None = None) -> None:
        self.config = config
        self.superkernels = {name: conv.superkernel for name, conv in superconvs(net).items()}
        self.shared = _share(self.superkernels.values())
        self.uses = {name: torch.zeros_like(s.weights) for name, s in self.superkernels.items()}
        self.cost = CostModel(net, table)
        self.targets = config.targets()
        self.feasibility = feasibility(self.cost, self.targets)
        self.choose()
        device = next(net.parameters()).device
        self.multipliers = {name: torch.zeros((), device=device) for name in self.targets}
        self.violations: dict[str, Tensor] = {}
        with torch.no_grad():
            cost = self.expected_cost() if self.targets else None
            self.begun = {n: torch.log(getattr(cost, n) / t) for n, t in self.targets.items()}
        self.tau = config.tau_start
        logits = list(self.parameters())
        self.optimiser = (
            torch.optim.Adam(logits, lr=config.learning_rate, betas=config.betas, fused=True)
            if logits
            else None
        )

    @torch.no_grad()
    def fix_baseline(self, seed: int) -> None:
        """Choose the architecture of a baseline, from here on part of its weights; else do nothing."""
        superkernels = list(self.superkernels.values())
        if self.config.type == "uniform":
            fix_uniform(superkernels, self.excess)
        elif self.config.type == "random":
            fix_random(superkernels, self.excess, torch.Generator().manual_seed(seed))
        self.choose()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The logits of all distributions."""
        for superkernel in self.superkernels.values():
            yield from superkernel.parameters()

    def draw(self, progress: float, generator: torch.Generator) -> None:
        """Put a sample of every superkernel in force; `progress` from 0 to 1 sets its sharpness.

        While the structure is frozen, all choices are drawn alike: what trains more would look better.
        """
        self.tau = temperature(progress, self.config.tau_start, self.config.tau_end)
        hard = progress >= 1 - self.config.hard_share
        uniform = not self.learns(progress)
        if self.shared:
            self.shared.draw(generator)
        for superkernel in self.superkernels.values():
            superkernel.draw(self.tau, generator, hard, uniform)
        if self.shared:
            self.shared.z = None
        if self.uses:
            drawn = [superkernel.weights.detach() for superkernel in self.superkernels.values()]
            torch._foreach_add_(list(self.uses.values()), drawn)

    def choose(self) -> Choices:
        """Put the argmax choice of every superkernel in force, and return it."""
        choices = {name: superkernel.argmax() for name, superkernel in self.superkernels.items()}
        self.force(choices)
        return choices

    def force(self, choices: Choices) -> None:
        """Put a choice of every superkernel in force."""
        for name, choice in choices.items():
            self.superkernels[name].choose(choice)

    def expected_cost(self) -> Cost:
        """Under the structural distributions, differentiable; averaged over what couples them."""
        if not self.shared:
            return self.cost()
        costs = []
        for z in self.shared.nodes:
            self.shared.z = z
            costs.append(self.cost())
        self.shared.z = None
        return _mean_cost(costs, self.shared.node_weights)

    def penalty(self, progress: float) -> Tensor:
        """(multiplier + stiffness/2 · v) · v, v = log(expected cost / budget) where positive; for the loss.

        The sum over all targets. An augmented Lagrangian instead of a weight that the user must guess: the
        multiplier grows while the expected cost is above its budget and shrinks while it is below. There it
        pushes no more: a multiplier that has grown for long would go on to the cheapest network before it
        had shrunk. A budget not spent is pushed as stiffly, where every target leaves some.

        Both because 1×1 is a part of every kernel, so its weights are the first to be of use: a search that
        must be cheap at once settles on it, and so does one that is free to be. The budget therefore goes
        from the cost of the undecided supernet to the target, and is there at half of the learning.
        """
        if not self.targets:
            return torch.zeros(())
        cost = self.expected_cost()
        learnt = (progress - self.config.frozen_share) / (1 - self.config.frozen_share)
        apart = 1 - min(1.0, max(0.0, 2 * learnt))
        self.violations = {
            name: torch.log(getattr(cost, name) / t) - apart * self.begun[name]
            for name, t in self.targets.items()
        }
        unspent = max(self.violations.values()).clamp_max(0)
        above = {name: v.clamp_min(0) for name, v in self.violations.items()}
        pushes = ((self.multipliers[name] + STIFFNESS / 2 * v) * v for name, v in above.items())
        return sum(pushes, STIFFNESS / 2 * unspent.square())

    def update(self, progress: float) -> None:
        """One optimiser step, and one of the multipliers; nothing in the first, frozen part of the search."""
        if self.learns(progress):
            self.optimiser.step()
            for name, violation in self.violations.items():
                ascended = self.multipliers[name] + _MULTIPLIER_RATE * violation.detach()
                self.multipliers[name] = ascended.clamp_min(0)
        self.zero_grad()

    def learns(self, progress: float) -> bool:
        """Whether there is anything to learn, and the frozen first part of the search is over."""
        return self.optimiser is not None and progress >= self.config.frozen_share

    def zero_grad(self) -> None:
        """Forget the gradients of all logits."""
        for logits in self.parameters():
            logits.grad = None

    @torch.no_grad()
    def excess(self) -> float:
        """log(cost / target) of the choices in force, the largest over all targets."""
        cost = self.cost(chosen=True)
        return max(math.log(float(getattr(cost, name)) / target) for name, target in self.targets.items())

    @torch.no_grad()
    def feasible(self) -> bool:
        """Whether the argmax network meets every target."""
        return not self.targets or self.excess() <= 0

    @torch.no_grad()
    def metrics(self) -> dict[str, Any]:
        """For metrics.jsonl: probabilities, never samples."""
        cost = self.expected_cost()
        kernels, widths, entropies = {}, {}, []
        for name, superkernel in self.superkernels.items():
            kernels[name] = _rounded(superkernel.kernel_probabilities())
            widths[name] = round(float(superkernel.probabilities().sum()), 3)
            entropies.append(float(superkernel.entropy()))
        diagnostics: dict[str, list[float]] = {}
        for superkernel in self.superkernels.values():
            for name, value in superkernel.diagnostics().items():
                diagnostics.setdefault(name, []).append(value)
        return {
            **{name: sum(values) / len(values) for name, values in diagnostics.items()},
            "temperature": self.tau,
            "entropy": sum(entropies) / len(entropies),
            **{name: float(value) for name, value in vars(cost).items() if value is not None},
            "multipliers": {name: float(value) for name, value in self.multipliers.items()},
            "undecided": sum(entropy > UNDECIDED_ENTROPY for entropy in entropies),
            "uses": {name: _rounded(used.amax(1)) for name, used in self.uses.items()},
            "kernels": kernels,
            "widths": widths,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the structure beside the logits, which are in the network's state."""
        optimiser = self.optimiser.state_dict() if self.optimiser else None
        return {"optimiser": optimiser, "multipliers": self.multipliers, "uses": self.uses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.optimiser:
            self.optimiser.load_state_dict(state["optimiser"])
        self.choose()
        self.multipliers, self.uses = dict(state["multipliers"]), dict(state["uses"])


def _share(superkernels: Iterable[Superkernel]) -> SharedGaussian | None:
    """Give all coupled superkernels one Gaussian; None where there are none."""
    coupled = [s for s in superkernels if isinstance(s, CoupledSuperkernel)]
    for superkernel in coupled:
        superkernel.shared = coupled[0].shared
    return coupled[0].shared if coupled else None


def _mean_cost(costs: list[Cost], weights: Tensor) -> Cost:
    """Weighted mean of each of the costs; None stays None."""
    means = {}
    for field in dataclasses.fields(Cost):
        values = [getattr(cost, field.name) for cost in costs]
        means[field.name] = None if values[0] is None else torch.stack(values) @ weights
    return Cost(**means)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 5) for value in values.tolist()]
