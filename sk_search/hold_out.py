"""Which scenes are held out: a fixed share of every stratum, whole scenes, the same for every run.

Paper (§5.1): 90 % of the images to train on and 10 % to validate on, stratified by phone. Here the unit is a
scene with all its frames, because two frames of one scene show the same picture. The seed of a run has no
say, so that runs are compared on the same pictures and `skdn eval` knows what a network never saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from sk_deploy.errors import ConfigError

VALIDATION = 0.1
"""Share of the scenes that is validated on (paper: a tenth)."""
STRUCTURE = 0.5
"""Share of the others that a two-level search learns its structure from (DARTS, the paper's [22]: half)."""


def hold_out(strata: Sequence[str], share: float) -> list[int]:
    """Indices, ascending, of about `share` of the scenes whose strata are given, at least one.

    Each stratum gives its share of the whole, rounded so that the total holds (largest remainder). Raises
    ConfigError when no scene would be left.
    """
    count = max(1, round(share * len(strata)))
    if count >= len(strata):
        raise ConfigError(f"cannot hold {count} of {len(strata)} scenes out: add scenes")
    order = np.random.default_rng(0).permutation(len(strata)).tolist()
    sizes = Counter(strata[i] for i in order)  # in that order, which settles ties
    quotas = {stratum: count * size / len(strata) for stratum, size in sizes.items()}
    taken = {stratum: int(quota) for stratum, quota in quotas.items()}
    by_remainder = sorted(quotas, key=lambda stratum: taken[stratum] - quotas[stratum])
    for stratum in by_remainder[: count - sum(taken.values())]:
        taken[stratum] += 1
    held = []
    for i in order:
        if taken[strata[i]]:
            taken[strata[i]] -= 1
            held.append(i)
    return sorted(held)


def split(strata: Sequence[str], two_level: bool) -> tuple[list[int], list[int], list[int]]:
    """Indices of the scenes for training, for the structure (none unless `two_level`) and for validation.

    Raises ConfigError when a part would be empty.
    """
    validation = hold_out(strata, VALIDATION)
    rest = sorted(set(range(len(strata))) - set(validation))
    if not two_level:
        return rest, [], validation
    structure = [rest[i] for i in hold_out([strata[i] for i in rest], STRUCTURE)]
    return sorted(set(rest) - set(structure)), structure, validation
