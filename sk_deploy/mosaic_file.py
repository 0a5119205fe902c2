"""A denoised mosaic for programs of one's own: a 16-bit TIFF, or a NumPy array of floats.

Both hold the active area. The TIFF's counts have the levels of a DNG's (`counts`), and its tags name them and
the phase, as a DNG's do: skdn reads it again without being told. The array is normalised to black 0 and
white 1, and nothing is rounded or clipped.
"""

from __future__ import annotations

import dataclasses
import io
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .counts import quantise
from .raw_image import RawImage
from .tags import Kind, Tag
from .treatment import Treatment


def encode_npy(raw: RawImage, mosaic: NDArray[np.float32], treatment: Treatment) -> list[memoryview]:
    """The bytes of a .npy file of `mosaic` [H,W] float32."""
    file = io.BytesIO()
    np.save(file, mosaic.astype(np.float32, copy=False))
    return [file.getbuffer()]


def encode_tiff(raw: RawImage, mosaic: NDArray[np.float32], treatment: Treatment) -> list[memoryview]:
    """The bytes of a TIFF: `mosaic` [H,W] as uint16, with DNG's tags for phase, levels and noise."""
    import tifffile

    height, width = mosaic.shape
    rows, columns = np.zeros(height, np.float32), np.zeros(width, np.float32)
    sensor = quantise(dataclasses.replace(raw, black_rows=rows, black_columns=columns), mosaic)
    top, left, bottom, right = raw.area
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        sensor.rows(top, bottom)[:, left:right],
        photometric="minisblack",  # which every program shows, as a grey picture
        metadata=None,
        software=treatment.software,
        extratags=_tags(raw, sensor.gain, treatment),
    )
    return [file.getbuffer()]


def _tags(raw: RawImage, gain: int, treatment: Treatment) -> list[tuple[int, int, int, Any, bool]]:
    black = [Fraction(float(level)).limit_denominator(10_000) * gain for level in raw.black.ravel()]
    tags: list[tuple[int, int, int, Any]] = [
        (Tag.CFA_REPEAT_PATTERN_DIM, Kind.SHORT, 2, (2, 2)),
        (Tag.CFA_PATTERN, Kind.BYTE, 4, bytes("RGB".index(colour) for colour in raw.phase)),
        (Tag.BLACK_LEVEL_REPEAT_DIM, Kind.SHORT, 2, (2, 2)),
        (Tag.BLACK_LEVEL, Kind.RATIONAL, 4, [part for level in black for part in level.as_integer_ratio()]),
        (Tag.WHITE_LEVEL, Kind.LONG, 1, round(float(raw.white.max()) * gain)),
    ]
    if treatment.profile is not None:
        tags.append((Tag.NOISE_PROFILE, Kind.DOUBLE, 2, treatment.profile))
    return [(*tag, True) for tag in tags]
