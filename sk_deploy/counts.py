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

from .levels import to_counts
from .raw_image import RawImage

Floats = NDArray[np.float32]

HIGHEST_COUNT = 65_535
_WHOLE = 1 / 32
"""Float32 noise: counts this near a whole number are that number (65535 · 2⁻²³ is a quarter of it)."""


def choose_gain(counts: Floats, highest: float) -> int:
    """1 where `counts` are whole, else the largest power of two that keeps `highest` within 16 bits."""
    if highest > HIGHEST_COUNT / 2 or bool(np.all(np.abs(counts - np.rint(counts)) < _WHOLE)):
        return 1
    gain = 1
    while 2 * gain * highest <= HIGHEST_COUNT:
        gain *= 2
    return gain


def quantise(raw: RawImage, mosaic: Floats, *, only_gain_one: bool = False) -> tuple[NDArray[np.uint16], int]:
    """The whole sensor [SH,SW] with `mosaic` [H,W] in its active area, and the gain on every count.

    Masked borders keep the counts of raw.stored, times the gain.
    """
    counts = to_counts(mosaic, raw.levels)
    gain = (
        1 if only_gain_one else choose_gain(counts, max(float(raw.white.max()), float(raw.stored.max()), 1.0))
    )
    top, left, bottom, right = raw.area
    sensor = raw.stored * np.uint16(gain)
    counts *= gain
    sensor[top:bottom, left:right] = np.clip(np.rint(counts), 0, HIGHEST_COUNT).astype(np.uint16)
    return sensor, gain
