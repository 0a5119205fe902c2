"""Tiles: equal pieces of a mosaic that a network sees one at a time, and the part of each that is kept.

All lengths are packed pixels unless a name says otherwise. Tiles have one shape, origins at multiples of the
network's stride, and the last one is shifted inside. Neighbours overlap by at least twice the halo and the
seam runs down the middle of the overlap, so what is kept of a tile lies a halo away from every edge that the
whole mosaic does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES, pack, unpack
from .errors import ConfigError


@dataclass(frozen=True)
class Span:
    """One tile along one axis."""

    origin: int
    length: int
    keep_start: int
    """First packed pixel to keep, counted from the mosaic's origin as `origin` is."""
    keep_stop: int


def plan_spans(size: int, tile: int, halo: int, multiple: int) -> list[Span]:
    """Cover `size` packed pixels by the fewest equal tiles of at most `tile`.

    The mosaic is continued by mirroring up to the next multiple; that end is never kept. The tiles are as
    short as their number allows. Raises ConfigError when a tile is smaller than two halos and one multiple.
    """
    padded = round_up(size, multiple)
    if padded <= tile:
        return [Span(0, padded, 0, size)]
    halo = round_up(halo, multiple)
    longest_step = tile // multiple * multiple - 2 * halo
    if longest_step <= 0:
        least_px = 2 * (2 * halo + multiple)
        raise ConfigError(f"tile of {2 * tile} px: this model needs at least {least_px} px")
    count = -(-(padded - 2 * halo) // longest_step)
    step = round_up(-(-(padded - 2 * halo) // count), multiple)
    length = step + 2 * halo
    origins = [min(index * step, padded - length) for index in range(count)]
    seams = [(left + right + length) // 2 for left, right in pairwise(origins)]
    return [
        Span(origin, length, start, stop)
        for origin, start, stop in zip(origins, [0, *seams], [*seams, size], strict=True)
    ]


def run_tiles(
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    mosaic: NDArray[np.float32],
    phase: str,
    total: NDArray[np.float32],
    *,
    tile: int,
    halo: int,
    multiple: int,
    weight: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Add `weight` times the network's output, tile by tile, to `total`, [H,W] as `mosaic`.

    `network` takes and gives planes [1,4,h,w] of an RGGB crop. The mosaic is continued beyond its borders by
    reflection, which keeps every site's colour: by one row or column where it does not begin at a red site,
    and at its end to a whole multiple. `mosaic` and `total` may be views (flipped, transposed). `progress` is
    told the share of the tiles that is done.
    """
    # The packed grid begins at the red site at or just before mosaic[0,0]: 0 or 1 sensor pixels outside.
    above, before = PHASES[phase]
    height, width = mosaic.shape
    rows = plan_spans((height + above + 1) // 2, tile, halo, multiple)
    columns = plan_spans((width + before + 1) // 2, tile, halo, multiple)
    done = 0
    for row in rows:
        for column in columns:
            planes = pack(_reflected(mosaic, row, column, above, before))
            denoised = unpack(network(planes[None])[0])
            _add_kept(total, denoised, row, column, above, before, weight)
            done += 1
            if progress is not None:
                progress(done / (len(rows) * len(columns)))


def _reflected(
    mosaic: NDArray[np.float32], row: Span, column: Span, above: int, before: int
) -> NDArray[np.float32]:
    """A tile [2h,2w] of the mosaic and its reflection."""
    height, width = mosaic.shape
    row_sites = reflect(2 * row.origin - above, 2 * row.length, height)
    column_sites = reflect(2 * column.origin - before, 2 * column.length, width)
    tile: NDArray[np.float32] = mosaic[row_sites[:, None], column_sites]
    return tile


def reflect(start: int, length: int, size: int) -> NDArray[np.intp]:
    """Indices start, start + 1, ... folded into 0 ... size − 1 about the end sites, so their parity stays."""
    if size == 1:
        raise ConfigError("a mosaic one pixel wide has no Bayer phase: expected at least 2×2 pixels")
    period = 2 * (size - 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index)


def _add_kept(
    total: NDArray[np.float32],
    denoised: NDArray[np.float32],
    row: Span,
    column: Span,
    above: int,
    before: int,
    weight: float,
) -> None:
    """Add the kept part of a denoised tile [2h,2w] where it belongs, without what lies outside the mosaic."""
    into_rows, from_rows = _kept(row, above, total.shape[0])
    into_columns, from_columns = _kept(column, before, total.shape[1])
    kept = denoised[from_rows, from_columns]
    total[into_rows, into_columns] += kept if weight == 1 else np.float32(weight) * kept


def _kept(span: Span, outside: int, size: int) -> tuple[slice, slice]:
    """The kept sensor pixels of one axis: their slice of the mosaic and their slice of the tile."""
    start = max(2 * span.keep_start - outside, 0)
    stop = min(2 * span.keep_stop - outside, size)
    origin = 2 * span.origin - outside
    return slice(start, stop), slice(start - origin, stop - origin)


def round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
