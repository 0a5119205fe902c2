"""The latency table: milliseconds of every block that a search may choose, and of all that is around.

Whole blocks, because latency is no function of the multiply-accumulates: it is not monotone in channels, and
fusion, concatenation and memory traffic are part of it. `skdn profile --lut` measures the table (lut_measure)
and a search reads it (cost); nothing here needs PyTorch.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_deploy.whole import whole

from .config import BLOCKS, NetConfig

SCHEMA = 2

T = TypeVar("T", int, float)

Option = tuple[tuple[int, int], tuple[int, int]]
"""Kernel size and number of filters, of a block's first and second convolution."""


@dataclass(frozen=True)
class Site:
    """A place for a block; equal places have equal latencies."""

    level: int
    """Halvings of the packed planes' height and width."""
    width: int
    """Channels in and out."""
    projection: int
    """Kernel size of the convolution that restores them."""
    kind: str
    """How its convolutions are connected (layers.Block)."""

    def options(self, net: NetConfig) -> list[Option]:
        """All that may be chosen here, in the order of the table's axes [k₁,f₁,k₂,f₂]."""
        one = list(itertools.product(net.kernels, net.filter_counts(self.width)))
        return list(itertools.product(one, one))


def channels_read(kind: str, width: T, kept1: T, kept2: T) -> tuple[T, T]:
    """Channels into a block's second convolution and into its last, whose first two keep kept1 and kept2."""
    return (kept1, kept2) if kind == "chain" else (width + kept1, width + kept1 + kept2)


def sites(net: NetConfig) -> dict[str, Site]:
    """Name of every block, as the network's modules are named, and its place; in forward order."""
    joined = 2 if net.arch == "attention-unet" else 1  # its decoder keeps what it concatenates
    top = net.stride - 1
    down = [(f"encoder.{i}", top + i, net.widths[i]) for i in range(net.depth)]
    bottom = ("bottom", top + net.depth, net.widths[-1])
    up = [(f"decoder.{i}", top + i, joined * net.widths[i]) for i in reversed(range(net.depth))]
    prefixes = [f"subnetworks.{i}." for i in range(net.subnetworks)] if net.arch == "attention-unet" else [""]
    return {
        f"{prefix}{place}.{block}": Site(level, width, net.projection, BLOCKS[net.arch])
        for prefix in prefixes
        for place, level, width in (*down, bottom, *up)
        for block in range(net.blocks)
    }


@dataclass(frozen=True)
class LatencyTable:
    """Latency of a network = skeleton + sum over its blocks."""

    net: NetConfig
    """The search space that was measured."""
    size_px: tuple[int, int]
    """Width and height of the mosaic, sensor pixels; denoised as one tile."""
    skeleton_ms: float
    """All outside blocks, copies to and from a GPU included."""
    blocks: dict[Site, NDArray[np.float64]]
    """Milliseconds [n_k,n_f,n_k,n_f] of every option."""
    facts: dict[str, Any]
    """How it was measured: provider that really ran, device, threads, versions, spreads, calibration."""

    def block_ms(self, site: Site, option: Option) -> float:
        """Of one block; a filter count that was not measured lies between those that were (linear)."""
        (k1, f1), (k2, f2) = option
        ms = self.blocks[site][self.net.kernels.index(k1), :, self.net.kernels.index(k2), :]  # [n_f,n_f]
        return float(self.shares(site, f1) @ ms @ self.shares(site, f2))

    def network_ms(self, options: Sequence[Option]) -> float:
        """Of the network that chose `options`, in forward order."""
        chosen = zip(sites(self.net).values(), options, strict=True)
        return self.skeleton_ms + sum(self.block_ms(site, option) for site, option in chosen)

    def range_ms(self) -> tuple[float, float]:
        """Of the fastest network and the slowest: not those of the fewest and most filters."""
        used = [self.blocks[site] for site in sites(self.net).values()]
        return (
            self.skeleton_ms + sum(float(ms.min()) for ms in used),
            self.skeleton_ms + sum(float(ms.max()) for ms in used),
        )

    def shares(self, site: Site, filters: int) -> NDArray[np.float64]:
        """[n_f] of the two measured counts beside `filters`."""
        counts = self.net.filter_counts(site.width)
        return np.array([np.interp(filters, counts, one) for one in np.eye(len(counts))])

    def check(self, net: NetConfig) -> None:
        """ConfigError when this is the table of another search space than `net`."""
        ours, theirs = dataclasses.asdict(net), dataclasses.asdict(self.net)
        other = [
            f"{name} {theirs[name]} instead of {ours[name]}" for name in ours if ours[name] != theirs[name]
        ]
        if other:
            raise ConfigError(
                f"this latency table is of another search space ({', '.join(other)}): measure this one with "
                "`skdn profile --lut FILE`, the search's --preset and --arch"
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        blocks = [
            {
                **dataclasses.asdict(site),
                "kernels": self.net.kernels,
                "counts": self.net.filter_counts(site.width),
                "ms": ms.tolist(),
            }
            for site, ms in self.blocks.items()
        ]
        return {
            "schema": SCHEMA,
            **self.facts,
            "net": dataclasses.asdict(self.net),
            "size_px": self.size_px,
            "skeleton_ms": self.skeleton_ms,
            "blocks": blocks,
        }

    @classmethod
    def from_dict(cls, facts: Any) -> LatencyTable:
        """ConfigError for another schema, and for what is missing, of the wrong shape or no latency."""
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            found = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
            raise ConfigError(f"schema {found!r}, expected {SCHEMA}")
        rest = dict(facts)
        try:
            net = NetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in rest.pop("net").items()})
            width_px, height_px = rest.pop("size_px")
            skeleton_ms = float(rest.pop("skeleton_ms"))
            blocks = {
                Site(b["level"], b["width"], b["projection"], b["kind"]): np.array(b["ms"], np.float64)
                for b in rest.pop("blocks")
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"it lacks or garbles {error}") from error
        rest.pop("schema")
        for site in sites(net).values():
            counts = (len(net.kernels), len(net.filter_counts(site.width)))
            if site not in blocks or blocks[site].shape != counts + counts:
                raise ConfigError(f"no whole table for blocks of level {site.level}, width {site.width}")
        for ms in (np.array(skeleton_ms), *blocks.values()):
            if not (np.isfinite(ms) & (ms >= 0)).all():
                raise ConfigError("some of its latencies are not numbers from 0 up")
        return cls(net, (width_px, height_px), skeleton_ms, blocks, rest)

    def write(self, path: Path) -> None:
        """As one JSON file, whole or not at all."""
        with whole(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict()))

    @classmethod
    def read(cls, path: Path) -> LatencyTable:
        """ConfigError for a file that cannot be read or is no table that this version knows."""
        remedy = f"measure one with `skdn profile --lut {path.name}`"
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except OSError as error:
            raise ConfigError(f"latency table {path}: cannot be read ({error.strerror}): {remedy}") from error
        except ValueError as error:  # of JSON and of UTF-8
            raise ConfigError(f"latency table {path}: not JSON: {remedy}") from error
        except ConfigError as error:
            raise ConfigError(f"latency table {path}: {error}: {remedy}") from error
