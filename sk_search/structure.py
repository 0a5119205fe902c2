"""The structural side of a search: sampling, its own optimiser, the cost target, the argmax choice.

Weights and structure have separate optimisers: at the weights' learning rate a logit needs 25,000 steps of
one sign to move by 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sk_deploy.errors import ConfigError

from .config import StructureConfig
from .cost import CostModel
from .nets import superconvs
from .relax import temperature
from .superkernel import Choice

_MULTIPLIER_RATE = 0.01


class Structure:
    """Every superkernel of a supernet, trained together."""

    def __init__(self, net: nn.Module, config: StructureConfig) -> None:
        self.config = config
        self.superkernels = {name: conv.superkernel for name, conv in superconvs(net).items()}
        self.cost = CostModel(net)
        targets = {"macs_per_mp": config.target_macs_per_mp, "parameters": config.target_parameters}
        self.targets = {name: target for name, target in targets.items() if target is not None}
        self._check_targets()
        self.multipliers = {name: torch.zeros(()) for name in self.targets}
        self.violations: dict[str, Tensor] = {}
        self.tau = config.tau_start
        logits = list(self.parameters())
        self.optimiser = (
            torch.optim.Adam(logits, lr=config.learning_rate, betas=config.betas) if logits else None
        )

    @torch.no_grad()
    def _check_targets(self) -> None:
        """ConfigError when the smallest network of the space misses a target. Leaves argmax in force."""
        for superkernel in self.superkernels.values():
            superkernel.choose(superkernel.smallest())
        smallest = self.cost(chosen=True)
        for name, target in self.targets.items():
            least = float(getattr(smallest, name))
            if least > target:
                raise ConfigError(
                    f"no network of this search space meets {name} {target:.4g}: the smallest has "
                    f"{least:.4g}; raise the target or choose a preset of smaller widths"
                )
        self.choose()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The logits of all distributions."""
        for superkernel in self.superkernels.values():
            yield from superkernel.parameters()

    def draw(self, progress: float, generator: torch.Generator) -> None:
        """Put a sample of every superkernel in force; `progress` from 0 to 1 sets its sharpness."""
        self.tau = temperature(progress, self.config.tau_start, self.config.tau_end)
        hard = progress >= 1 - self.config.hard_share
        for superkernel in self.superkernels.values():
            superkernel.draw(self.tau, generator, hard)

    def choose(self) -> dict[str, Choice]:
        """Put the argmax choice of every superkernel in force, and return it."""
        choices = {name: superkernel.argmax() for name, superkernel in self.superkernels.items()}
        for name, choice in choices.items():
            self.superkernels[name].choose(choice)
        return choices

    def penalty(self) -> Tensor:
        """Multiplier · log(expected cost / target), summed over the targets; added to the loss.

        Dual ascent on a target instead of a weight that the user must guess: the multiplier grows while the
        expected cost is above the target and shrinks while it is below.
        """
        cost = self.cost() if self.targets else None
        self.violations = {name: torch.log(getattr(cost, name) / t) for name, t in self.targets.items()}
        return sum((self.multipliers[name] * v for name, v in self.violations.items()), torch.zeros(()))

    def update(self, progress: float) -> None:
        """One optimiser step, and one of the multipliers; nothing in the first, frozen part of the search."""
        if self.optimiser is None:
            return
        if progress >= self.config.frozen_share:
            self.optimiser.step()
            for name, violation in self.violations.items():
                ascended = self.multipliers[name] + _MULTIPLIER_RATE * violation.detach()
                self.multipliers[name] = ascended.clamp_min(0)
        self.optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def feasible(self) -> bool:
        """Whether the argmax network meets every target."""
        if not self.targets:
            return True
        chosen = self.cost(chosen=True)
        return all(float(getattr(chosen, name)) <= target for name, target in self.targets.items())

    @torch.no_grad()
    def metrics(self) -> dict[str, Any]:
        """For metrics.jsonl: probabilities, never samples."""
        cost = self.cost()
        kernels, widths, entropies = {}, {}, []
        for name, superkernel in self.superkernels.items():
            kernels[name] = [round(v, 5) for v in superkernel.kernel_probabilities().tolist()]
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
            "macs_per_mp": float(cost.macs_per_mp),
            "parameters": float(cost.parameters),
            "multipliers": {name: float(value) for name, value in self.multipliers.items()},
            "kernels": kernels,
            "widths": widths,
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the structure beside the logits, which are in the network's state."""
        optimiser = self.optimiser.state_dict() if self.optimiser else None
        return {"optimiser": optimiser, "multipliers": self.multipliers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.optimiser:
            self.optimiser.load_state_dict(state["optimiser"])
        self._check_targets()
        self.multipliers = dict(state["multipliers"])
