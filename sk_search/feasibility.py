"""Before a search starts: what its space can cost, and whether the targets can be met at all."""

from __future__ import annotations

from sk_deploy.errors import ConfigError

from .cost import CostModel

UNITS = {
    "latency_ms": ("latency", "ms", 1.0),
    "macs_per_mp": ("multiply-accumulates", "GMAC/MP", 1e9),
    "parameters": ("parameters", "thousand", 1e3),
}
"""Cost -> its name, the unit that it is told in, and that unit."""


def feasibility(cost: CostModel, targets: dict[str, float]) -> list[str]:
    """A line for each cost: the least and the most that a network of the space can have, and the target.

    targets: cost -> the most that it may be. Raises ConfigError when no network of the space meets one of
    them, or when there is no latency table for a target in milliseconds.
    """
    ranges = cost.range()
    if missing := targets.keys() - ranges.keys():
        raise ConfigError(
            f"a target for {', '.join(missing)} needs a latency table: measure one with "
            "`skdn profile --lut FILE` and give it with --lut FILE"
        )
    lines = []
    for name, (title, unit, size) in UNITS.items():
        if name not in ranges:
            continue
        least, most = (figure / size for figure in ranges[name])
        verdict = "no target"
        if name in targets:
            target = targets[name] / size
            if target < least:
                raise ConfigError(
                    f"no network of this search space meets a target of {target:.4g} {unit}: the smallest "
                    f"has {least:.4g}, the largest {most:.4g}; raise the target or choose a preset of "
                    "smaller widths"
                )
            every = " by every network" if target >= most else ""
            verdict = f"target {target:.4g} can be met{every}"
        lines.append(f"{title}: {least:.4g} to {most:.4g} {unit} in this search space, {verdict}")
    return lines
