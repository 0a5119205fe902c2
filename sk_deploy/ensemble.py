"""The eight dihedral transforms of a mosaic, each with the Bayer phase that it leads to.

A flip or a transposition moves the red site, so RGGB becomes GRBG or another phase; the mosaic is transformed
whole, never its packed planes, and the pipeline aligns whatever phase results. A transposition exchanges the
green of the red rows with the green of the blue rows, which the same bookkeeping takes care of. The mean over
all eight, the self-ensemble, is therefore equivariant: it commutes with each transform, at every site.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES, Sites, shift_phase
from .tiling import Read


@dataclass(frozen=True)
class Dihedral:
    """Transposition, if any, and then the flips."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    def view(self, mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mosaic [H,W] transformed, [H,W] or [W,H]: a view, so writing to it writes to the mosaic."""
        transformed = mosaic.T if self.transpose else mosaic
        return transformed[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def reader(self, read: Read, shape: tuple[int, int]) -> Read:
        """Reads the transformed mosaic, as `read` does the mosaic of this shape [H,W]."""
        height, width = shape[::-1] if self.transpose else shape

        def transformed(rows: Sites, columns: Sites) -> NDArray[np.float32]:
            rows = height - 1 - rows if self.flip_rows else rows
            columns = width - 1 - columns if self.flip_columns else columns
            return read(columns, rows).T if self.transpose else read(rows, columns)

        return transformed

    def phase(self, phase: str, shape: tuple[int, int]) -> str:
        """The phase of `view(mosaic)` for a mosaic of this phase and shape [H,W]."""
        height, width = shape
        if self.transpose:
            (row, column), (height, width) = PHASES[phase], (width, height)
            phase = shift_phase("RGGB", column, row)
        # A flip makes the last row the first: the phase of the mosaic without all rows but one.
        return shift_phase(phase, (height - 1) * self.flip_rows, (width - 1) * self.flip_columns)


IDENTITY = Dihedral()
DIHEDRAL = tuple(Dihedral(*choice) for choice in product((False, True), repeat=3))
"""All eight; the identity first."""
