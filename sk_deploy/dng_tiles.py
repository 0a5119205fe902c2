"""The pixels of a DNG's mosaic: 256×256 tiles of lossless JPEG.

Each tile is coded as if pairs of neighbouring columns were one pixel of two components, so that predictor 1
(the same component to the left) sees the same colour: 0.9 bytes a pixel of a 12-bit photograph, where one
component would take 1.45. LibRaw and Adobe's SDK read it; predictor 6, which some encoders use, darktable
refuses.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .counts import Sensor
from .devices import cpu_threads
from .tags import Kind, Tag
from .tiff import Appendix, Entry

TILE_PX = 256
LOSSLESS_JPEG = 7


def append_tiles(appendix: Appendix, sensor: Sensor) -> dict[int, Entry]:
    """Add a sensor's counts as tiles, and return the directory entries that describe them."""
    offsets, lengths = [], []
    width = tile_width_px(sensor.shape[1])
    with ThreadPoolExecutor(cpu_threads()) as pool:
        for top in range(0, sensor.shape[0], TILE_PX):
            counts = sensor.rows(top, top + TILE_PX)
            tiles = [counts[:, left : left + width] for left in range(0, sensor.shape[1], width)]
            for coded in pool.map(partial(_encode, width=width), tiles):
                offsets.append(appendix.append(coded))
                lengths.append(len(coded))
    layout = appendix.layout
    return {
        Tag.IMAGE_WIDTH: layout.entry(Kind.LONG, sensor.shape[1]),
        Tag.IMAGE_LENGTH: layout.entry(Kind.LONG, sensor.shape[0]),
        Tag.BITS_PER_SAMPLE: layout.entry(Kind.SHORT, 16),
        Tag.SAMPLES_PER_PIXEL: layout.entry(Kind.SHORT, 1),
        Tag.COMPRESSION: layout.entry(Kind.SHORT, LOSSLESS_JPEG),
        Tag.TILE_WIDTH: layout.entry(Kind.SHORT, width),
        Tag.TILE_LENGTH: layout.entry(Kind.SHORT, TILE_PX),
        Tag.TILE_OFFSETS: layout.offsets(offsets),
        Tag.TILE_BYTE_COUNTS: layout.offsets(lengths),
    }


def tile_width_px(sensor_width: int) -> int:
    """256, or the widest multiple of 16 below it that LibRaw reads.

    LibRaw 0.22 misplaces rows where a tile is wider than the sensor, or the sensor exactly two tiles wide.
    """
    width = max(16, min(TILE_PX, sensor_width // 16 * 16))
    return width - 16 if 2 * width == sensor_width and width > 16 else width


def _encode(counts: NDArray[np.uint16], width: int) -> bytes:
    """One tile [h,w], padded to full size at the right and bottom by repeating its edge."""
    padded = np.pad(counts, ((0, TILE_PX - counts.shape[0]), (0, width - counts.shape[1])), mode="edge")
    pairs = padded.reshape(TILE_PX, width // 2, 2)
    return bytes(imagecodecs.jpeg_encode(pairs, lossless=True, predictor=1, bitspersample=16))
