"""Synthetic DNGs of every layout, for tests: written by tifffile, so independent of skdn's own TIFF code."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 10, 12
JPEG_COMPRESSION = 7
CFA_PHOTOMETRIC = 32803


@dataclass(frozen=True)
class DngLayout:
    """How a synthetic DNG stores its mosaic; the defaults are the plainest file."""

    phase: str = "RGGB"
    """Of the active area's first pixel."""
    byteorder: str = "<"
    bigtiff: bool = False
    sub_ifd: bool = False
    """The mosaic in a SubIFD under a preview, as Adobe's converter writes; else in the first directory."""
    tile: tuple[int, int] | None = None
    """Height and width of a tile; None for strips."""
    rows_per_strip: int | None = None
    """None for one strip."""
    lossless_jpeg: bool = False
    bits: int = 16
    """BitsPerSample; 10, 12 and 14 are packed."""
    area: tuple[int, int, int, int] | None = None
    """ActiveArea: top, left, bottom, right."""
    black: tuple[Fraction | int, ...] = (64,)
    black_repeat: tuple[int, int] = (1, 1)
    black_delta_rows: tuple[Fraction, ...] = ()
    black_delta_columns: tuple[Fraction, ...] = ()
    white: int | None = 1023
    table: tuple[int, ...] | None = None
    """LinearizationTable."""
    noise: tuple[float, ...] = ()
    """NoiseProfile: shot and read of one or three planes."""
    crop: tuple[int, int, int, int] | None = None
    """DefaultCropOrigin and DefaultCropSize as top, left, height, width."""
    preview_jpeg: bool = False
    orientation: int = 1
    extra: tuple[tuple[int, int, int, Any], ...] = ()
    """More tags of the mosaic's directory: code, type, count, value."""


def noise_like_counts(seed: int, height: int, width: int, highest: int = 1023) -> NDArray[np.uint16]:
    """Counts [H,W] that use the whole range, so that any misplaced or changed pixel shows."""
    counts = np.random.default_rng(seed).integers(0, highest + 1, (height, width), dtype=np.uint16)
    counts[0, 0], counts[-1, -1] = highest, 0
    return counts


def scene(seed: int, height: int, width: int) -> NDArray[np.float32]:
    """A smooth mosaic [H,W] in [0,1] with distinct colours: gradients and a few discs."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    light = 0.1 + 0.3 * x + 0.2 * y
    for _ in range(6):
        cy, cx, radius, level = generator.uniform((0, 0, 0.03, 0), (1, 1, 0.25, 0.9))
        light = np.where((y - cy) ** 2 + (x - cx) ** 2 < radius**2, level, light)
    colour = np.tile(np.array([[0.5, 1.0], [1.0, 0.7]]), (height // 2 + 1, width // 2 + 1))[:height, :width]
    mosaic: NDArray[np.float32] = (light * colour).astype(np.float32)
    return mosaic


def write_layout(path: Path, counts: NDArray[np.uint16], layout: DngLayout) -> NDArray[np.uint16]:
    """Write `counts` [SH,SW] as a DNG, and return the counts that a reader should see (linearised)."""
    with tifffile.TiffWriter(path, byteorder=layout.byteorder, bigtiff=layout.bigtiff) as writer:
        if layout.sub_ifd:
            writer.write(
                _preview(counts),
                photometric="rgb",
                subfiletype=1,
                subifds=1,
                metadata=None,
                software="camera firmware 1.0",
                extratags=_camera_tags(layout),
                **_jpeg_preview(layout),
            )
            writer.write(**_mosaic(counts, layout), extratags=_mosaic_tags(counts.shape, layout))
        else:
            tags = _camera_tags(layout) + _mosaic_tags(counts.shape, layout)
            writer.write(**_mosaic(counts, layout), software="camera firmware 1.0", extratags=tags)
    return counts if layout.table is None else np.array(layout.table, np.uint16)[counts]


def _preview(counts: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The counts as a dim, warm picture of quarter size."""
    height, width = counts.shape[0] // 4, counts.shape[1] // 4
    grey = counts[: 4 * height, : 4 * width].reshape(height, 4, width, 4).mean(axis=(1, 3)) / counts.max()
    picture: NDArray[np.uint8] = np.rint(grey[..., None] * np.array([200, 160, 120])).astype(np.uint8)
    return picture


def _jpeg_preview(layout: DngLayout) -> dict[str, Any]:
    return {"compression": "jpeg", "compressionargs": {"level": 90}} if layout.preview_jpeg else {}


def _mosaic(counts: NDArray[np.uint16], layout: DngLayout) -> dict[str, Any]:
    """What tifffile needs for the mosaic; strips and tiles are coded here, so that every depth is right."""
    height, width = counts.shape
    rows, columns = layout.tile or (layout.rows_per_strip or height, width)
    blocks = []
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            block = counts[top : top + rows, left : left + columns]
            if layout.tile:
                block = np.pad(block, ((0, rows - block.shape[0]), (0, columns - block.shape[1])))
            blocks.append(_encode(block, layout))
    options: dict[str, Any] = {"tile": layout.tile} if layout.tile else {"rowsperstrip": rows}
    if layout.lossless_jpeg:
        options["compression"] = JPEG_COMPRESSION
    elif layout.bits not in (8, 16):
        options["bitspersample"] = layout.bits
    return options | {
        "data": iter(blocks),
        "shape": counts.shape,
        "dtype": np.uint8 if layout.bits == 8 else np.uint16,
        "photometric": CFA_PHOTOMETRIC,
        "subfiletype": 0,
        "metadata": None,
    }


def _encode(block: NDArray[np.uint16], layout: DngLayout) -> bytes:
    """One strip or tile. Rows of packed samples start at whole bytes, highest bit first in any byte order."""
    if layout.lossless_jpeg:
        pairs = block.reshape(block.shape[0], -1, 2) if block.shape[1] % 2 == 0 else block
        return bytes(imagecodecs.jpeg8_encode(pairs, lossless=True, predictor=1, bitspersample=layout.bits))
    if layout.bits in (8, 16):
        return block.astype("u1" if layout.bits == 8 else f"{layout.byteorder}u2").tobytes()
    bits = (block[:, :, None] >> np.arange(layout.bits - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8).reshape(block.shape[0], -1), axis=1).tobytes()


def _camera_tags(layout: DngLayout) -> list[tuple[int, int, int, Any, bool]]:
    matrix = [7309, -1403, -519, -8474, 16008, 2622, -2433, 2826, 8064]
    return [
        (271, ASCII, 0, "Synthetic", True),
        (272, ASCII, 0, "Synthetic One", True),
        (274, SHORT, 1, layout.orientation, True),
        (50706, BYTE, 4, bytes([1, 4, 0, 0]), True),
        (50707, BYTE, 4, bytes([1, 1, 0, 0]), True),
        (50708, ASCII, 0, "Synthetic One", True),
        (50721, SRATIONAL, 9, tuple(part for value in matrix for part in (value, 10_000)), True),
        (50728, RATIONAL, 3, (1, 2, 1, 1, 2, 3), True),
        (50778, SHORT, 1, 21, True),
        (50972, BYTE, 16, bytes(range(16)), True),
        (50781, BYTE, 16, bytes(range(16)), True),
    ]


def _mosaic_tags(shape: tuple[int, int], layout: DngLayout) -> list[tuple[int, int, int, Any, bool]]:
    tags: list[tuple[int, int, int, Any]] = [
        (33421, SHORT, 2, (2, 2)),
        (33422, BYTE, 4, bytes("RGB".index(colour) for colour in layout.phase)),
        (50710, BYTE, 3, bytes([0, 1, 2])),
        (50711, SHORT, 1, 1),
        (50713, SHORT, 2, layout.black_repeat),
        (50714, RATIONAL, len(layout.black), _ratios(layout.black)),
        *layout.extra,
    ]
    if layout.white is not None:
        tags.append((50717, LONG, 1, layout.white))
    if layout.area:
        tags.append((50829, LONG, 4, layout.area))
    if layout.black_delta_columns:
        tags.append((50715, SRATIONAL, len(layout.black_delta_columns), _ratios(layout.black_delta_columns)))
    if layout.black_delta_rows:
        tags.append((50716, SRATIONAL, len(layout.black_delta_rows), _ratios(layout.black_delta_rows)))
    if layout.table:
        tags.append((50712, SHORT, len(layout.table), layout.table))
    if layout.noise:
        tags.append((51041, DOUBLE, len(layout.noise), layout.noise))
    if layout.crop:
        top, left, height, width = layout.crop
        tags.append((50719, LONG, 2, (left, top)))
        tags.append((50720, LONG, 2, (width, height)))
    return [(*tag, True) for tag in tags]


def _ratios(values: tuple[Fraction | int, ...]) -> tuple[int, ...]:
    return tuple(
        part for value in values for part in (Fraction(value).numerator, Fraction(value).denominator)
    )
