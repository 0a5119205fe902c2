"""`RawImage`: a Bayer mosaic in memory, with what is needed to denoise it and to write it back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bayer import Sites, cut
from .levels import Levels, normalise
from .noise import NoiseProfile


@dataclass(frozen=True, eq=False)
class Capture:
    """How a photograph was taken, as far as the file says; None where it does not."""

    make: str = ""
    model: str = ""
    iso: float | None = None
    exposure_s: float | None = None
    f_number: float | None = None
    focal_length_mm: float | None = None
    taken: datetime | None = None


@dataclass(frozen=True, eq=False)
class Colour:
    """How a camera's colours are developed."""

    xyz_to_camera: NDArray[np.float64] | None = None
    """[3,3], illuminant D65, as DNG's ColorMatrix; None for an unknown camera."""
    camera_to_srgb: NDArray[np.float64] | None = None
    """[3,3] from white-balanced camera RGB to linear sRGB."""
    neutral: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    """[3] camera RGB of a grey surface, green 1, as DNG's AsShotNeutral."""


@dataclass(frozen=True, eq=False)
class RawImage:
    """A Bayer mosaic and what is needed to denoise it and to write it back."""

    path: Path
    phase: str
    """Of mosaic[0,0]: one of bayer.PHASES."""
    black: NDArray[np.float32]
    """[2,2] raw counts; black[i,j] belongs to mosaic[i::2, j::2]."""
    white: NDArray[np.float32]
    """[2,2] raw counts."""
    noise: NoiseProfile | None
    """From the DNG tag NoiseProfile, the mean over its colour planes."""
    camera: str
    iso: float | None
    orientation: int
    """EXIF orientation, 1 to 8."""
    stored: NDArray[np.uint16]
    """[SH,SW] raw counts of the whole sensor, masked borders included, after any linearisation table."""
    area: tuple[int, int, int, int]
    """Where the active area lies in `stored`: top, left, bottom, right."""
    crop: tuple[int, int, int, int]
    """The part of `mosaic` to show: top, left, height, width."""
    black_rows: NDArray[np.float32]
    """[H] raw counts to add to `black`, row by row; zeros unless the file has BlackLevelDeltaV."""
    black_columns: NDArray[np.float32]
    """[W] likewise (BlackLevelDeltaH)."""
    colour: Colour = field(default_factory=Colour)
    capture: Capture = field(default_factory=Capture)
    is_dng: bool = False
    """Whether `path` is a DNG, so that the output can be the patched original."""
    exact: NDArray[np.float32] | None = None
    """The mosaic of a file of fractions, which `stored` rounds."""

    @property
    def levels(self) -> Levels:
        """Black and white of the active area."""
        return Levels(self.black, self.white, self.black_rows, self.black_columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the active area."""
        top, left, bottom, right = self.area
        return bottom - top, right - left

    @property
    def mosaic(self) -> NDArray[np.float32]:
        """[H,W] of the active area: (raw − black) / (white − black), negatives and values above 1 kept.

        Made anew from `stored`, which takes half the memory; `window` makes a part of it.
        """
        if self.exact is not None:
            return self.exact
        top, left, bottom, right = self.area
        return normalise(self.stored[top:bottom, left:right], self.levels)

    def window(self, rows: Sites, columns: Sites) -> NDArray[np.float32]:
        """mosaic[rows][:, columns]; even and odd rows must take turns, and columns too."""
        if self.exact is not None:
            return cut(self.exact, rows, columns)
        top, left, _, _ = self.area
        counts = cut(self.stored, top + rows, left + columns)
        return normalise(counts, self.levels.at(rows, columns))


def camera_name(capture: Capture) -> str:
    """Make and model, without saying the make twice."""
    first_word = capture.make.split(" ")[0]
    if first_word and capture.model.lower().startswith(first_word.lower()):
        return capture.model
    return f"{capture.make} {capture.model}".strip()
