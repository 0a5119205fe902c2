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
from .data import load_data, validation_set
from .evaluate import denoise_mosaic, psnr_db
from .lut import LatencyTable
from .nets import superconvs
from .structure import Structure
from .superkernel import Choice, Superkernel

log = logging.getLogger(__name__)

_NEARLY_AS_LIKELY = math.log(10)
"""Largest loss of log-probability for which an option is taken to fill the budget."""

Choices = dict[str, Choice]
"""Superkernel name -> what is kept of it."""


def choose(
    net: nn.Module,
    config: RunConfig,
    strategy: str | None,
    round_to: int,
    table: LatencyTable | None = None,
) -> Choices:
    """The choices of a trained supernet, filter counts rounded up to multiples of `round_to`; left in force.

    strategy: "argmax", "budget" or "sample:N"; None: budget where the run has a cost target, else argmax.
    table: where the target is in milliseconds. Raises ConfigError for another strategy.
    """
    structure = Structure(net, config.structure, config.seed, table)
    strategy = strategy or ("budget" if structure.targets else "argmax")
    sampled = re.fullmatch(r"sample:([1-9]\d*)", strategy)
    if sampled is None and strategy not in ("argmax", "budget"):
        raise ConfigError(f"strategy {strategy!r}: expected argmax, budget or sample:N, e.g. sample:20")
    if sampled:
        choices = _best_of_samples(net, structure, config, int(sampled[1]), round_to)
    else:
        choices = argmax_choices(net, round_to)
        if strategy == "budget":
            choices = _within_budget(structure, choices, round_to)
    _force(structure, choices)
    if not structure.feasible():
        log.warning("what is kept misses its target by %.1f %%", 100 * structure.excess())
    return choices


def argmax_choices(net: nn.Module, round_to: int) -> Choices:
    """The most probable choice of every superkernel, rounded up."""
    return {
        name: round_up(conv.superkernel, conv.superkernel.argmax(), round_to)
        for name, conv in superconvs(net).items()
    }


@torch.no_grad()
def round_up(superkernel: Superkernel, choice: Choice, round_to: int) -> Choice:
    """Keep more filters, the most probable first, until their number is a multiple of `round_to`.

    Never fewer than `round_to`, never more than there are: a layer is not left empty, and the extra filters
    cost no time where the runtime computes them in blocks anyway.
    """
    count = min(superkernel.max_filters, max(round_to, -(-len(choice.filters) // round_to) * round_to))
    probability = superkernel.probabilities().sum(0)  # [F]
    kept = set(choice.filters)
    ranked = sorted(range(superkernel.max_filters), key=lambda f: (f not in kept, -float(probability[f]), f))
    return Choice(choice.kernel, tuple(sorted(ranked[:count])))


def _force(structure: Structure, choices: Choices) -> None:
    for name, choice in choices.items():
        structure.superkernels[name].choose(choice)


def _within_budget(structure: Structure, choices: Choices, round_to: int) -> Choices:
    """Down to the target by the moves that lose least log-probability for what they save, then up again.

    What is left of the budget goes to options nearly as likely: below its target a search had no reason yet
    to prefer the cheaper of two.
    """
    log_p = {name: _options(s, round_to) for name, s in structure.superkernels.items()}
    for name, choice in choices.items():
        log_p[name].setdefault(choice, 0.0)
    choices = dict(choices)
    _force(structure, choices)

    def moves() -> Iterator[tuple[float, float, str, Choice]]:
        """(log-probability lost, excess afterwards, superkernel, choice) of every neighbouring choice."""
        for name, superkernel in structure.superkernels.items():
            for choice in _neighbours(choices[name], log_p[name]):
                superkernel.choose(choice)
                yield log_p[name][choices[name]] - log_p[name][choice], structure.excess(), name, choice
            superkernel.choose(choices[name])

    def make(name: str, choice: Choice) -> None:
        choices[name] = choice
        structure.superkernels[name].choose(choice)

    while (excess := structure.excess()) > 0:
        saving = [
            (lost / (excess - after), name, choice) for lost, after, name, choice in moves() if after < excess
        ]
        if not saving:
            break
        make(*min(saving, key=lambda move: move[0])[1:])
    while gaining := [
        (lost, name, choice) for lost, after, name, choice in moves() if lost < 0 and after <= 0
    ]:
        make(*min(gaining, key=lambda move: move[0])[1:])
    while filling := [
        (lost / (after - excess), name, choice)
        for excess in (structure.excess(),)
        for lost, after, name, choice in moves()
        if lost < _NEARLY_AS_LIKELY and excess < after <= 0
    ]:
        make(*min(filling, key=lambda move: move[0])[1:])
    return choices


def _options(superkernel: Superkernel, round_to: int) -> dict[Choice, float]:
    """Rounded choices with the log-probability of the likeliest that rounds to them."""
    options: dict[Choice, float] = {}
    for choice, log_p in superkernel.candidates():
        rounded = round_up(superkernel, choice, round_to)
        options[rounded] = max(log_p, options.get(rounded, log_p))
    return options


def _neighbours(choice: Choice, options: dict[Choice, float]) -> list[Choice]:
    """The next counts up and down with the same kernel size, and the same count with every other one."""
    count = len(choice.filters)
    same_kernel = sorted({len(o.filters) for o in options if o.kernel == choice.kernel} - {count})
    beside = {
        *[n for n in same_kernel if n < count][-1:],
        *[n for n in same_kernel if n > count][:1],
    }
    return [
        o
        for o in options
        if (o.kernel == choice.kernel and len(o.filters) in beside)
        or (o.kernel != choice.kernel and len(o.filters) == count)
    ]


@torch.no_grad()
def _best_of_samples(
    net: nn.Module, structure: Structure, config: RunConfig, count: int, round_to: int
) -> Choices:
    """The argmax and `count` hard samples, validated under the supernet's weights."""
    device = next(net.parameters()).device
    held_out = load_data(config, device).validation
    clean, noisy, levels = validation_set(held_out, config.search.validation_patches)
    generator = torch.Generator(device).manual_seed(config.seed)
    drawn = [argmax_choices(net, round_to)]
    for _ in range(count):
        structure.draw(1.0, generator)
        drawn.append({name: round_up(s, s.chosen(), round_to) for name, s in structure.superkernels.items()})

    def score(choices: Choices) -> tuple[bool, float]:
        _force(structure, choices)
        denoised = denoise_mosaic(net, noisy, levels)
        return structure.feasible(), float(psnr_db(denoised, clean).mean())

    scores = [score(choices) for choices in drawn]
    best = max(range(len(drawn)), key=lambda i: scores[i])
    log.info("best of %d samples %.2f dB, the argmax %.2f dB", count, scores[best][1], scores[0][1])
    return drawn[best]
