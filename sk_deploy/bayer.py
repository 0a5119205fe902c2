"""The Bayer mosaic: its four phases, and packing to planes.

A phase names the colours of the first two rows of two sensor pixels, read left to right: RGGB, GRBG, GBRG or
BGGR. Networks always see an RGGB-aligned crop, packed to half-size planes R, Gr, Gb, B.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PHASES = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}
"""Phase -> (row, column) of the first red site."""

Sites = NDArray[np.intp]
"""Rows or columns of a mosaic, even and odd ones in turn."""

_PHASE_AT = {site: phase for phase, site in PHASES.items()}


def shift_phase(phase: str, rows: int, columns: int) -> str:
    """The phase of a mosaic whose first `rows` rows and `columns` columns were cut off."""
    row, column = PHASES[phase]
    return _PHASE_AT[(row + rows) % 2, (column + columns) % 2]


def cut(pixels: NDArray[Any], rows: Sites, columns: Sites) -> NDArray[Any]:
    """pixels[rows[:, None], columns], several times as fast where they lie close together."""
    first = rows.min()
    part: NDArray[Any] = pixels[first : rows.max() + 1].take(columns, axis=1)[rows - first]
    return part


def pack(mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    """RGGB mosaic [H,W], H and W even -> planes R, Gr, Gb, B [4,H/2,W/2]."""
    height, width = mosaic.shape
    sites = mosaic.reshape(height // 2, 2, width // 2, 2)  # row pair, row, column pair, column
    return np.ascontiguousarray(sites.transpose(1, 3, 0, 2)).reshape(4, height // 2, width // 2)


def unpack(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Planes R, Gr, Gb, B [4,H/2,W/2] -> RGGB mosaic [H,W]; the inverse of `pack`."""
    _, height, width = planes.shape
    mosaic = np.empty((2 * height, 2 * width), np.float32)
    for plane, (row, column) in zip(planes, np.ndindex(2, 2), strict=True):
        mosaic[row::2, column::2] = plane
    return mosaic
