"""Between raw counts and the [0,1] scale, both ways."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bayer import Sites
from .errors import RawError

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Levels:
    """Black and white of an active area [H,W], in raw counts."""

    black: Floats
    """[2,2]; black[i,j] belongs to rows i::2 and columns j::2."""
    white: Floats
    """[2,2]."""
    rows: Floats
    """[H], added to `black` row by row."""
    columns: Floats
    """[W], added to `black` column by column."""

    def at(self, rows: Sites, columns: Sites) -> Levels:
        """Of a window: the given rows and columns of the area, even and odd ones in turn."""
        sites = np.ix_(rows[:2] % 2, columns[:2] % 2)
        return Levels(self.black[sites], self.white[sites], self.rows[rows], self.columns[columns])


def normalise(counts: NDArray[np.uint16], levels: Levels) -> Floats:
    """Counts [H,W] of the active area -> (counts − black) / (white − black), float32 [H,W], not clipped."""
    mosaic = counts.astype(np.float32)
    if levels.rows.any():
        mosaic -= levels.rows[:, None]
    if levels.columns.any():
        mosaic -= levels.columns[None, :]
    width = mosaic.shape[1]
    for i, (black, white) in enumerate(zip(levels.black, levels.white, strict=True)):
        mosaic[i::2] -= _along(black, width)
        mosaic[i::2] /= _along(white - black, width)
    return mosaic


def to_counts(mosaic: Floats, levels: Levels) -> Floats:
    """The inverse of `normalise`, before rounding: float32 counts [H,W]."""
    counts = mosaic.astype(np.float32)
    width = counts.shape[1]
    for i, (black, white) in enumerate(zip(levels.black, levels.white, strict=True)):
        counts[i::2] *= _along(white - black, width)
        counts[i::2] += _along(black, width)
    if levels.columns.any():
        counts += levels.columns[None, :]
    if levels.rows.any():
        counts += levels.rows[:, None]
    return counts


def _along(pair: Floats, width: int) -> Floats:
    """The levels of a row's even and odd sites as a row [width]: arithmetic is fastest on whole rows."""
    return np.resize(pair, width)


def check_levels(name: str, levels: Levels) -> None:
    """Raise RawError unless every black is below its white."""
    if not np.all(levels.white > levels.black):
        black, white = levels.black.max(), levels.white.min()
        raise RawError(f"{name}: black level {black:g} is not below white level {white:g}: damaged metadata")
