"""Which choice to keep of every superkernel once the search has ended (§4.5.5 and its future work).

`argmax`: the most probable (the paper's). `budget`: from there by greedy moves, within the cost targets.
`sample:N`: the best on validation of N draws and the argmax.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator

import torch
from torch import nn

from sk_deploy.errors import ConfigError

from .config import RunConfig
from .cost import Cost
from .data import load_data, validation_set
from .evaluate import denoise_mosaic
from .lut import LatencyTable
from .nets import superconvs
from .structure import Choices, Structure
from .superkernel import Choice, Superkernel

log = logging.getLogger(__name__)

_NEARLY_AS_LIKELY = math.log(10)
"""Largest loss of log-probability for which an option is taken to fill the budget."""
_WELL_SPENT = math.log(0.92)
"""log(cost / target) up to which the budget is filled with less likely options too."""


def default_strategy(config: RunConfig) -> str:
    """Budget where the run has a cost target, else argmax."""
    return "budget" if config.structure.targets() else "argmax"


def choose(
    net: nn.Module,
    config: RunConfig,
    strategy: str,
    round_to: int,
    table: LatencyTable | None = None,
) -> Choices:
    """The choices of a trained supernet, filter counts rounded up to multiples of `round_to`; left in force.

    strategy: "argmax", "budget" or "sample:N"; table: where the target is in milliseconds. Raises ConfigError
    for another strategy.
    """
    structure = Structure(net, config.structure, table)
    sampled = re.fullmatch(r"sample:([1-9]\d*)", strategy)
    if sampled is None and strategy not in ("argmax", "budget"):
        raise ConfigError(f"strategy {strategy!r}: expected argmax, budget or sample:N, e.g. sample:20")
    if sampled:
        choices = _best_of_samples(net, structure, config, int(sampled[1]), round_to)
    elif strategy == "budget":
        choices = default_choices(net, structure, round_to)
    else:
        choices = argmax_choices(net, round_to)
    structure.force(choices)
    if not structure.feasible():
        log.warning("what is kept misses its target by %.1f %%", 100 * structure.excess())
    return choices


def default_choices(net: nn.Module, structure: Structure, round_to: int) -> Choices:
    """What is kept of a supernet by default: "budget" where its structure has a target, else the argmax."""
    choices = argmax_choices(net, round_to)
    return _within_budget(structure, choices, round_to) if structure.targets else choices


def argmax_choices(net: nn.Module, round_to: int) -> Choices:
    """The most probable choice of every superkernel, rounded up."""
    return {
        name: round_up(conv.superkernel, conv.superkernel.argmax(), round_to)
        for name, conv in superconvs(net).items()
    }


def round_up(superkernel: Superkernel, choice: Choice, round_to: int) -> Choice:
    """Keep more filters, the most probable first, until their number is a multiple of `round_to`.

    Never fewer than `round_to`, never more than there are: a layer is not left empty, and the extra filters
    cost no time where the runtime computes them in blocks anyway.
    """
    return _round_up(choice, _filter_probabilities(superkernel), round_to)


def _round_up(choice: Choice, probability: list[float], round_to: int) -> Choice:
    count = min(len(probability), max(round_to, -(-len(choice.filters) // round_to) * round_to))
    kept = set(choice.filters)
    ranked = sorted(range(len(probability)), key=lambda f: (f not in kept, -probability[f], f))
    return Choice(choice.kernel, tuple(sorted(ranked[:count])))


@torch.no_grad()
def _filter_probabilities(superkernel: Superkernel) -> list[float]:
    return superkernel.probabilities().sum(0).tolist()


def options(superkernel: Superkernel, round_to: int) -> dict[Choice, float]:
    """Every rounded choice, and the log-probability of the likeliest that rounds to it."""
    probability = _filter_probabilities(superkernel)
    found: dict[Choice, float] = {}
    for choice, log_p in superkernel.candidates():
        rounded = _round_up(choice, probability, round_to)
        found[rounded] = max(log_p, found.get(rounded, log_p))
    return found


class _Budget:
    """Choices and their cost; a move costs one dense block anew, not the network."""

    def __init__(self, structure: Structure, choices: Choices, round_to: int) -> None:
        self.structure, self.choices = structure, dict(choices)
        self.log_p = {name: options(s, round_to) for name, s in structure.superkernels.items()}
        for name, choice in choices.items():
            self.log_p[name].setdefault(choice, 0.0)
        structure.force(choices)
        self.total = self._figures(structure.cost(chosen=True))

    @property
    def excess(self) -> float:
        """log(cost / target), the largest over all targets."""
        return self._excess(self.total)

    def moves(self) -> Iterator[tuple[float, float, str, Choice]]:
        """(log-probability lost, excess afterwards, superkernel, choice) of every neighbouring choice."""
        for name, superkernel in self.structure.superkernels.items():
            before = self._block(name)
            for choice in _neighbours(self.choices[name], self.log_p[name]):
                superkernel.choose(choice)
                after = self._block(name)
                total = [t - b + a for t, b, a in zip(self.total, before, after, strict=True)]
                lost = self.log_p[name][self.choices[name]] - self.log_p[name][choice]
                yield lost, self._excess(total), name, choice
            superkernel.choose(self.choices[name])

    def make(self, name: str, choice: Choice) -> None:
        """One move."""
        self.choices[name] = choice
        self.structure.superkernels[name].choose(choice)
        self.total = self._figures(self.structure.cost(chosen=True))

    def _block(self, superkernel: str) -> list[float]:
        return self._figures(self.structure.cost.of_block(superkernel.rpartition(".")[0]))

    def _figures(self, cost: Cost) -> list[float]:
        return [float(getattr(cost, name)) for name in self.structure.targets]

    def _excess(self, total: list[float]) -> float:
        targets = self.structure.targets.values()
        return max(
            (math.log(cost / target) for cost, target in zip(total, targets, strict=True)), default=-math.inf
        )


@torch.no_grad()
def _within_budget(structure: Structure, choices: Choices, round_to: int) -> Choices:
    """Down to the target by the moves that lose least log-probability for what they save, then up again.

    What is left of the budget goes to options nearly as likely: below its target a search had no reason yet
    to prefer the cheaper of two. Where much is left it goes to the likeliest of the rest.
    """
    budget = _Budget(structure, choices, round_to)
    while (excess := budget.excess) > 0:
        saving = [(lost / (excess - after), n, c) for lost, after, n, c in budget.moves() if after < excess]
        if not saving:
            break
        budget.make(*min(saving, key=lambda move: move[0])[1:])
    while gaining := [(lost, n, c) for lost, after, n, c in budget.moves() if lost < 0 and after <= 0]:
        budget.make(*min(gaining, key=lambda move: move[0])[1:])
    while -math.inf < (excess := budget.excess) < 0:
        most = _NEARLY_AS_LIKELY if excess > _WELL_SPENT else math.inf
        filling = [
            (lost / (after - excess), n, c)
            for lost, after, n, c in budget.moves()
            if lost < most and excess < after <= 0
        ]
        if not filling:
            break
        budget.make(*min(filling, key=lambda move: move[0])[1:])
    return budget.choices


def _neighbours(choice: Choice, found: dict[Choice, float]) -> list[Choice]:
    """The next counts up and down with the same kernel size, and the same count with every other one."""
    count = len(choice.filters)
    counts = {len(other.filters) for other in found if other.kernel == choice.kernel}
    beside = {
        max((n for n in counts if n < count), default=0),
        min((n for n in counts if n > count), default=0),
    }
    return [
        other
        for other in found
        if (other.kernel == choice.kernel and len(other.filters) in beside)
        or (other.kernel != choice.kernel and len(other.filters) == count)
    ]


@torch.no_grad()
def _best_of_samples(
    net: nn.Module, structure: Structure, config: RunConfig, count: int, round_to: int
) -> Choices:
    """The argmax and `count` hard samples, validated under the supernet's weights."""
    device = next(net.parameters()).device
    held_out = load_data(config, device).validation
    pairs = validation_set(held_out, config.search.validation_patches, config.search.margin_px)
    generator = torch.Generator(device).manual_seed(config.seed)
    drawn = [argmax_choices(net, round_to)]
    for _ in range(count):
        structure.draw(1.0, generator)
        drawn.append({name: round_up(s, s.chosen(), round_to) for name, s in structure.superkernels.items()})

    def score(choices: Choices) -> tuple[bool, float]:
        structure.force(choices)
        return structure.feasible(), pairs.psnr_db(denoise_mosaic(net, pairs.noisy, pairs.levels))

    scores = [score(choices) for choices in drawn]
    best = max(range(len(drawn)), key=lambda i: scores[i])
    log.info("best of %d samples %.2f dB, the argmax %.2f dB", count, scores[best][1], scores[0][1])
    return drawn[best]
