"""Tiles: equal pieces of a mosaic that a network sees one at a time, and the part of each that is kept.

All lengths are packed pixels unless a name says otherwise. Tiles have one shape, origins at multiples of the
network's stride, and the last one is shifted inside. Neighbours overlap by at least twice the halo and the
seam runs down the middle of the overlap, so what is kept of a tile lies a halo away from every edge that the
whole mosaic does not have.

The mosaic is mirrored beyond its own borders, because a network that learnt from the middle of patches leaves
noise beside zeros. `BORDER` is what patches have around their middle; a whole halo would take time and change
nothing that shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES, Sites, pack, unpack
from .errors import ConfigError
from .lanes import in_lanes

Read = Callable[[Sites, Sites], NDArray[np.float32]]
"""The part [h,w] of a mosaic that lies at given rows and columns."""
Write = Callable[[slice, slice, NDArray[np.float32]], None]
"""Takes what belongs into given rows and columns, [h,w]."""
BORDER = 8
"""Packed pixels by which a mosaic is mirrored beyond each border, or the halo if that is less."""
_OVERHEAD = 4096
"""Packed pixels that could be computed in the time, about a millisecond, that a tile takes however small."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis."""

    origin: int
    length: int
    keep_start: int
    """First packed pixel to keep, counted from the mosaic's origin as `origin` is."""
    keep_stop: int


def plan_tiles(
    height: int, width: int, most: int, halo: int, multiple: int, lanes: int = 1
) -> tuple[list[Span], list[Span]]:
    """Rows and columns of tiles that cover height × width, of at most `most` packed pixels each.

    Of all such tiles those that are done first, `lanes` at a time: with one lane those that compute about the
    fewest pixels in all, halos included. Raises ConfigError when `most` holds no square of two halos and one
    multiple.
    """
    along_columns = _divisions(width, halo, multiple)
    plans = [
        (-(-(rows * columns) // lanes) * (long * wide + _OVERHEAD), rows * columns, rows, columns)
        for rows, long in _divisions(height, halo, multiple)
        for columns, wide in along_columns
        if long * wide <= most
    ]
    if not plans:
        raise ConfigError(
            f"tiles of {4 * most} sensor pixels: this model needs {least_tile_px(halo, multiple)}² at least"
        )
    _, _, rows, columns = min(plans)
    return plan_spans(height, rows, halo, multiple), plan_spans(width, columns, halo, multiple)


def least_tile_px(halo: int, multiple: int) -> int:
    """Two halos and one multiple, in sensor pixels."""
    return 2 * (_overlap(halo, multiple) + multiple)


def _overlap(halo: int, multiple: int) -> int:
    """Of neighbouring tiles: two halos."""
    return round_up(2 * halo, multiple)


def _divisions(size: int, halo: int, multiple: int) -> list[tuple[int, int]]:
    """Each number of tiles along an axis that makes them shorter than fewer would, with their length."""
    padded = round_up(size, multiple)
    divisions = [(1, padded)]
    for count in range(2, padded // multiple + 1):
        length = _step(padded, count, halo, multiple) + _overlap(halo, multiple)
        if length < divisions[-1][1]:
            divisions.append((count, length))
    return divisions


def _step(padded: int, count: int, halo: int, multiple: int) -> int:
    """From one tile's origin to the next's; a multiple, like `padded`."""
    return max(multiple, round_up(-(-(padded - _overlap(halo, multiple)) // count), multiple))


def plan_spans(size: int, count: int, halo: int, multiple: int) -> list[Span]:
    """Cover `size` packed pixels by `count` equal tiles, as short as that number allows.

    The mosaic is continued by mirroring up to the next multiple; that end is never kept.
    """
    padded = round_up(size, multiple)
    if count == 1:
        return [Span(0, padded, 0, size)]
    step = _step(padded, count, halo, multiple)
    length = step + _overlap(halo, multiple)
    origins = [min(index * step, padded - length) for index in range(count)]
    seams = [(left + right + length) // 2 for left, right in pairwise(origins)]
    return [
        Span(origin, length, start, stop)
        for origin, start, stop in zip(origins, [0, *seams], [*seams, size], strict=True)
    ]


def run_tiles(
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    read: Read,
    write: Write,
    shape: tuple[int, ...],
    phase: str,
    *,
    most: int,
    halo: int,
    multiple: int,
    lanes: int = 1,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Have `write` take what the network makes of a mosaic [H,W], tile by tile, each site once.

    As many threads as `lanes` each have a tile at a time, so that all three are called concurrently.
    `network` takes and gives planes [1,4,h,w] of an RGGB crop, of at most `most` packed pixels. The mosaic is
    continued beyond its borders by reflection, which keeps every site's colour: by `BORDER`, by one row or
    column more where it does not begin at a red site, and at its end to a whole multiple. `progress` is told
    the share of tiles that is done.
    """
    height, width = shape
    red_row, red_column = PHASES[phase]
    above, packed_rows = packed_axis(height, red_row, halo)
    before, packed_columns = packed_axis(width, red_column, halo)
    rows, columns = plan_tiles(packed_rows, packed_columns, most, halo, multiple, lanes)

    def one(tile: tuple[Span, Span]) -> None:
        row, column = tile
        row_sites = reflect(2 * row.origin - above, 2 * row.length, height)
        column_sites = reflect(2 * column.origin - before, 2 * column.length, width)
        planes = pack(read(row_sites, column_sites))
        denoised = unpack(network(planes[None])[0])
        into_rows, from_rows = _kept(row, above, height)
        into_columns, from_columns = _kept(column, before, width)
        write(into_rows, into_columns, denoised[from_rows, from_columns])

    in_lanes(one, list(product(rows, columns)), lanes, progress)


def reflect(start: int, length: int, size: int) -> NDArray[np.intp]:
    """Indices start, start + 1, ... folded into 0 ... size − 1 about the end sites, so their parity stays."""
    if size == 1:
        raise ConfigError("a mosaic one pixel wide has no Bayer phase: expected at least 2×2 pixels")
    period = 2 * (size - 1)
    index = np.arange(start, start + length) % period
    return np.minimum(index, period - index)


def _kept(span: Span, outside: int, size: int) -> tuple[slice, slice]:
    """The kept sensor pixels of one axis: their slice of the mosaic and their slice of the tile."""
    start = max(2 * span.keep_start - outside, 0)
    stop = min(2 * span.keep_stop - outside, size)
    origin = 2 * span.origin - outside
    return slice(start, stop), slice(start - origin, stop - origin)


def packed_axis(size: int, red: int, halo: int) -> tuple[int, int]:
    """The packed grid of an axis of `size` sites, the first red one being site `red`: its begin and length.

    It begins that many sites outside: at the red site at or just before site 0, and the border earlier. The
    length is in packed pixels, both borders included.
    """
    border = min(halo, BORDER)
    return red + 2 * border, (size + red + 1) // 2 + 2 * border


def round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
