"""The genotype: what each superkernel of a searched network became.

Run directories (genotype.json) and model files (in their metadata) hold the same dict.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import ModelError

UNDECIDED_ENTROPY = 0.5
"""Above this normalised entropy the chosen slice has rivals: of nine choices, the winner holds under 3/4."""

CHANGES = ("left_out", "enlarged", "added")
"""What a genotype lists of a network that was changed after its search."""

_NAME = re.compile(r"(.*\.)?(?:(encoder|decoder)\.(\d+)|bottom)\.(\d+)\.conv(\d+)")


@dataclass(frozen=True)
class Place:
    """Where in a U-Net a superkernel sits."""

    network: str
    """Of several U-Nets side by side, which one; "" where there is one."""
    side: str
    """encoder, bottom or decoder."""
    level: int
    """0 at the resolution of the packed planes; half of it at each level down. -1 at the bottom."""
    block: int
    conv: int


@dataclass(frozen=True)
class Gene:
    """One superkernel's part of the genotype: the slice kept, and how sure the search was."""

    name: str
    place: Place
    kernel: int
    kernels: tuple[int, ...]
    """The sizes it chose from."""
    filters: tuple[int, ...]
    """Indices kept of `max_filters`, ascending."""
    max_filters: int
    probability: float
    """Of this slice, from the structure parameters."""
    entropy: float
    """Of the structure distribution, normalised to [0, 1]."""
    kernel_probabilities: tuple[float, ...]
    """One for each of `kernels`."""

    @property
    def undecided(self) -> bool:
        """Whether the search ended before this superkernel settled on one slice."""
        return self.entropy > UNDECIDED_ENTROPY


def genes(genotype: dict[str, Any]) -> list[Gene]:
    """What a genotype chose: a gene a superkernel, in forward order. Raises ModelError for a damaged one."""
    try:
        found = [_gene(entry) for entry in genotype["superkernels"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"genotype is damaged ({type(error).__name__}: {error}): expected superkernels with name, "
            "kernel, filters, probability and entropy; distil or export it again"
        ) from error
    return sorted(found, key=lambda gene: _forward_order(gene.place))


def _gene(entry: dict[str, Any]) -> Gene:
    return Gene(
        name=entry["name"],
        place=_place(entry["name"]),
        kernel=int(entry["kernel"]),
        kernels=tuple(int(k) for k in entry["kernels"]),
        filters=tuple(int(f) for f in entry["filters"]),
        max_filters=int(entry["max_filters"]),
        probability=float(entry["probability"]),
        entropy=float(entry["entropy"]),
        kernel_probabilities=tuple(float(p) for p in entry["kernel_probabilities"]),
    )


def _place(name: str) -> Place:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"superkernel name {name!r}")
    network, side, level, block, conv = match.groups()
    return Place(
        network=(network or "").rstrip("."),
        side=side or "bottom",
        level=int(level) if level else -1,
        block=int(block),
        conv=int(conv),
    )


def _forward_order(place: Place) -> tuple[str, int, int, int, int]:
    """Down the encoder, along the bottom, up the decoder."""
    side = ("encoder", "bottom", "decoder").index(place.side)
    level = -place.level if place.side == "decoder" else place.level
    return place.network, side, level, place.block, place.conv
