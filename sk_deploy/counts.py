"""A denoised mosaic as the raw counts of a file.

Denoised values are fractional. Rounding a 10-bit file's pixels back to 10 bits would lose most of the gain in
its shadows, so counts are stored at an integer gain, with the levels multiplied by the same gain. The gain is
the largest power of two that keeps the white level and every original count within 16 bits: 64 for 10 bits,
16 for 12, 4 for 14. Other integers would gain less than one bit more, nothing at these depths, and powers of
two keep float32 arithmetic and the levels exact. Where every value is a whole count already (an identity
network, strength 0), the gain is 1 and the counts come back bit for bit.

Counts below 0 cannot be stored: where a camera subtracts its black level itself (black 0), negatives clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .levels import Levels, to_counts
from .raw_image import RawImage

Floats = NDArray[np.float32]

HIGHEST_COUNT = 65_535
_BAND_ROWS = 256
"""Rows that are converted at a time: a photograph's floats take twice the memory of its counts."""
_WHOLE = 1 / 32
"""Float32 noise: counts this near a whole number are that number (65535 · 2⁻²³ is a quarter of it)."""


@dataclass(frozen=True, eq=False)
class Sensor:
    """The whole sensor with a denoised mosaic in its active area, made a few rows at a time."""

    raw: RawImage
    mosaic: Floats
    """[H,W] of raw's shape and scale."""
    gain: int
    """On every count."""
    marks: tuple[int, ...] = ()
    """Counts of raw.stored that mark bad pixels: times the gain, they do so here."""

    @property
    def shape(self) -> tuple[int, int]:
        """[SH,SW], masked borders included, which keep the counts of raw.stored, times the gain."""
        height, width = self.raw.stored.shape
        return height, width

    def rows(self, start: int, stop: int) -> NDArray[np.uint16]:
        """Rows `start` to `stop`, or to the last."""
        stored = self.raw.stored[start:stop]
        counts: NDArray[np.uint16] = stored * np.uint16(self.gain)
        top, left, bottom, right = self.raw.area
        first, end = max(start, top), min(start + len(stored), bottom)
        if first < end:
            active = np.arange(first - top, end - top)
            levels = self.raw.levels.at(active, np.arange(right - left))
            part = self.mosaic[first - top : end - top]
            counts[first - start : end - start, left:right] = round_counts(part, levels, self.gain)
        for mark in self.marks:
            _keep_mark(counts, stored == mark, mark * self.gain)
        return counts


def quantise(raw: RawImage, mosaic: Floats, *, only_gain_one: bool = False) -> Sensor:
    """`mosaic` [H,W] as raw counts, at the gain that keeps the most of it."""
    height, width = raw.shape
    columns = np.arange(width)

    def is_whole(rows: NDArray[np.intp]) -> bool:
        counts = to_counts(mosaic[rows], raw.levels.at(rows, columns))
        return bool(np.all(np.abs(counts - np.rint(counts)) < _WHOLE))

    bands = (np.arange(top, min(top + _BAND_ROWS, height)) for top in range(0, height, _BAND_ROWS))
    if only_gain_one or all(is_whole(rows) for rows in bands):
        return Sensor(raw, mosaic, 1)
    return Sensor(raw, mosaic, largest_gain(max(float(raw.white.max()), float(raw.stored.max()), 1.0)))


def largest_gain(highest: float) -> int:
    """The largest power of two that keeps `highest` within 16 bits."""
    gain = 1
    while 2 * gain * highest <= HIGHEST_COUNT:
        gain *= 2
    return gain


def round_counts(mosaic: Floats, levels: Levels, gain: int) -> NDArray[np.uint16]:
    """The counts [H,W] of a mosaic of these levels, times `gain`, within 16 bits."""
    counts = to_counts(mosaic, levels)
    counts *= np.float32(gain)
    np.rint(counts, out=counts)
    np.clip(counts, 0, HIGHEST_COUNT, out=counts)
    return counts.astype(np.uint16)


def _keep_mark(counts: NDArray[np.uint16], bad: NDArray[np.bool_], mark: int) -> None:
    """Give `mark` to the sites that are `bad`, and move it away from all others, in place.

    A mark above 16 bits is at no site; it stays out of reach.
    """
    if mark > HIGHEST_COUNT:
        return
    counts[counts == mark] = mark + 1 if mark < HIGHEST_COUNT else mark - 1
    counts[bad] = mark
