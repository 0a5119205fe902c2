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


def quantise(raw: RawImage, mosaic: Floats, *, only_gain_one: bool = False) -> tuple[NDArray[np.uint16], int]:
    """The whole sensor [SH,SW] with `mosaic` [H,W] in its active area, and the gain on every count.

    Masked borders keep the counts of raw.stored, times the gain.
    """
    height, width = raw.shape
    bands = [slice(top, min(top + _BAND_ROWS, height)) for top in range(0, height, _BAND_ROWS)]

    def levels(band: slice) -> Levels:
        return raw.levels.at(np.arange(band.start, band.stop), np.arange(width))

    highest = max(float(raw.white.max()), float(raw.stored.max()), 1.0)
    whole = only_gain_one or all(_are_whole(to_counts(mosaic[band], levels(band))) for band in bands)
    gain = 1 if whole else largest_gain(highest)
    top, left, bottom, right = raw.area
    sensor = raw.stored * np.uint16(gain)
    area = sensor[top:bottom, left:right]
    for band in bands:
        area[band] = round_counts(mosaic[band], levels(band), gain)
    return sensor, gain


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


def _are_whole(counts: Floats) -> bool:
    return bool(np.all(np.abs(counts - np.rint(counts)) < _WHOLE))
