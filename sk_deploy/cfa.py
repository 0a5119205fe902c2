"""What a DNG says of its mosaic: where the CFA directory is, and the facts in it.

DNG specification 1.7, chapter 4. CFAPattern, BlackLevel and the BlackLevel deltas count from the origin of
ActiveArea. Levels are kept as exact fractions, so that a rescaled copy of them is exact too.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .claims import check_claim
from .errors import ConfigError, RawError
from .noise import NoiseProfile
from .tags import Tag
from .tiff import Directory, Tiff

CFA_PHOTOMETRIC = 32803
LINEAR_RAW_PHOTOMETRIC = 34892
UNCOMPRESSED = 1
MAX_LEVEL = 65_536
"""Of black and white: counts have 16 bits, and some writers state the first count that cannot occur."""


@dataclass(frozen=True)
class CfaFacts:
    """The facts of a DNG's CFA directory."""

    height: int
    width: int
    """Of the stored array, masked borders included."""
    area: tuple[int, int, int, int]
    """ActiveArea: top, left, bottom, right."""
    phase: str
    """Of the active area's first pixel."""
    black: NDArray[np.float32]
    """[2,2] raw counts."""
    black_rows: NDArray[np.float32]
    """[H] of the active area, raw counts to add to `black` (BlackLevelDeltaV)."""
    black_columns: NDArray[np.float32]
    """[W] of the active area (BlackLevelDeltaH)."""
    white: float
    """Raw counts."""
    noise: NoiseProfile | None
    crop: tuple[int, int, int, int]
    """Default crop inside the active area: top, left, height, width."""


def is_dng(tiff: Tiff) -> bool:
    """Whether the first directory has a DNGVersion."""
    return Tag.DNG_VERSION in tiff.chain[0].entries


def find_cfa(tiff: Tiff) -> Directory:
    """The directory of the main mosaic: photometric CFA, not a reduced copy, the largest.

    Raises RawError, naming what the file holds instead, where there is none.
    """
    everything = [directory for top in tiff.chain for directory in top.walk()]
    full = [d for d in everything if not tiff.integer(d, Tag.NEW_SUBFILE_TYPE, 0) & 1]
    mosaics = [d for d in full if tiff.integer(d, Tag.PHOTOMETRIC, 0) == CFA_PHOTOMETRIC]
    if not mosaics:
        if any(tiff.integer(d, Tag.PHOTOMETRIC, 0) == LINEAR_RAW_PHOTOMETRIC for d in everything):
            raise RawError(
                f"{tiff.name}: a linear DNG, already demosaiced: skdn needs the camera's Bayer mosaic"
            )
        raise RawError(f"{tiff.name}: a DNG without a Bayer mosaic: nothing to denoise")
    return max(mosaics, key=lambda d: _pixels(tiff, d))


def read_facts(tiff: Tiff, cfa: Directory) -> CfaFacts:
    """Check that `cfa` is a Bayer mosaic whose pixels are in the file, and read its facts.

    Raises RawError for other patterns, for several or floating-point samples, absurd dimensions or areas, and
    for a truncated file.
    """
    height, width = _shape(tiff, cfa)
    _check_samples(tiff, cfa)
    _check_pixels_present(tiff, cfa, height, width)
    area = _area(tiff, cfa, height, width)
    active_height, active_width = area[2] - area[0], area[3] - area[1]
    return CfaFacts(
        height=height,
        width=width,
        area=area,
        phase=read_phase(tiff, cfa),
        black=read_black(tiff, cfa),
        black_rows=_deltas(tiff, cfa, Tag.BLACK_LEVEL_DELTA_V, active_height),
        black_columns=_deltas(tiff, cfa, Tag.BLACK_LEVEL_DELTA_H, active_width),
        white=float(white_level(tiff, cfa)),
        noise=read_noise(tiff, cfa),
        crop=_crop(tiff, cfa, active_height, active_width),
    )


def white_level(tiff: Tiff, cfa: Directory) -> Fraction:
    """WhiteLevel in counts after linearisation; without the tag, the highest count that can occur."""
    given = tiff.numbers(cfa, Tag.WHITE_LEVEL)
    if given:
        if not 0 < given[0] <= MAX_LEVEL:
            raise RawError(
                f"{tiff.name}: white level {float(given[0]):g}, expected 1 to {MAX_LEVEL}: damaged"
            )
        return Fraction(given[0])
    table = tiff.integers(cfa, Tag.LINEARIZATION_TABLE)
    return Fraction(max(table) if table else 2 ** bits_per_sample(tiff, cfa) - 1)


def bits_per_sample(tiff: Tiff, cfa: Directory) -> int:
    """BitsPerSample of the stored values."""
    return tiff.integer(cfa, Tag.BITS_PER_SAMPLE, 1)


def _pixels(tiff: Tiff, directory: Directory) -> int:
    width, height = (tiff.integer(directory, tag, 0) for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH))
    return width * height


def _shape(tiff: Tiff, cfa: Directory) -> tuple[int, int]:
    width, height = (tiff.integer(cfa, tag, 0) for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH))
    check_claim(tiff.name, height, width)
    return height, width


def _check_samples(tiff: Tiff, cfa: Directory) -> None:
    if (samples := tiff.integer(cfa, Tag.SAMPLES_PER_PIXEL, 1)) != 1:
        raise RawError(f"{tiff.name}: a mosaic of {samples} samples a pixel, expected 1")
    if tiff.integer(cfa, Tag.SAMPLE_FORMAT, 1) != 1 or not 2 <= bits_per_sample(tiff, cfa) <= 16:
        bits = bits_per_sample(tiff, cfa)
        raise RawError(f"{tiff.name}: a mosaic of {bits}-bit or floating-point samples, expected 8 to 16 bit")
    if tiff.integer(cfa, Tag.CFA_LAYOUT, 1) != 1:
        raise RawError(f"{tiff.name}: a staggered colour filter array, expected a rectangular Bayer mosaic")


def _check_pixels_present(tiff: Tiff, cfa: Directory, height: int, width: int) -> None:
    offsets = tiff.integers(cfa, Tag.TILE_OFFSETS) or tiff.integers(cfa, Tag.STRIP_OFFSETS)
    counts = tiff.integers(cfa, Tag.TILE_BYTE_COUNTS) or tiff.integers(cfa, Tag.STRIP_BYTE_COUNTS)
    if not offsets or len(offsets) != len(counts):
        raise RawError(f"{tiff.name}: {len(offsets)} strips or tiles, {len(counts)} byte counts: damaged")
    end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
    if end > len(tiff.data):
        raise RawError(f"{tiff.name}: truncated: its pixels end at byte {end}, the file at {len(tiff.data)}")
    if sum(counts) > len(tiff.data):
        raise RawError(f"{tiff.name}: its strips or tiles overlap: damaged")
    if tiff.integer(cfa, Tag.COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED:
        needed = height * width * bits_per_sample(tiff, cfa) // 8
        if sum(counts) < needed:
            raise RawError(
                f"{tiff.name}: holds {sum(counts)} bytes of pixels where {needed} are needed: damaged"
            )


def _area(tiff: Tiff, cfa: Directory, height: int, width: int) -> tuple[int, int, int, int]:
    area = tiff.integers(cfa, Tag.ACTIVE_AREA, (0, 0, height, width))
    if len(area) != 4 or not (area[0] + 2 <= area[2] <= height and area[1] + 2 <= area[3] <= width):
        raise RawError(f"{tiff.name}: active area {area} of a {width}×{height} mosaic: damaged")
    return area[0], area[1], area[2], area[3]


def read_phase(tiff: Tiff, cfa: Directory) -> str:
    """CFAPattern. Raises RawError for what is no Bayer mosaic."""
    rows, columns = (*tiff.integers(cfa, Tag.CFA_REPEAT_PATTERN_DIM, (2, 2)), 0)[:2]
    pattern = tiff.integers(cfa, Tag.CFA_PATTERN)
    colours = "".join("RGB"[code] if code < 3 else "?" for code in pattern)
    if (rows, columns) != (2, 2) or colours not in PHASES:
        kind = {(6, 6): "X-Trans", (4, 4): "quad-Bayer"}.get((rows, columns), colours or "unknown")
        raise RawError(
            f"{tiff.name}: a {rows}×{columns} colour pattern ({kind}), expected a 2×2 Bayer mosaic"
        )
    return colours


def read_black(tiff: Tiff, cfa: Directory) -> NDArray[np.float32]:
    """BlackLevel [2,2], zeros where there is none. Raises RawError for other repeats and absurd levels."""
    rows, columns = (*tiff.integers(cfa, Tag.BLACK_LEVEL_REPEAT_DIM, (1, 1)), 0)[:2]
    levels = [float(level) for level in tiff.numbers(cfa, Tag.BLACK_LEVEL)] or [0.0] * (rows * columns)
    if not {rows, columns} <= {1, 2} or len(levels) != rows * columns:
        if not levels or len(set(levels)) > 1:
            raise RawError(
                f"{tiff.name}: {len(levels)} black levels in {rows}×{columns}, expected at most 2×2"
            )
        rows, columns, levels = 1, 1, levels[:1]
    if not all(0 <= level <= MAX_LEVEL for level in levels):
        raise RawError(f"{tiff.name}: black levels {levels}, expected 0 to {MAX_LEVEL}: damaged")
    pattern = np.array(levels, np.float32).reshape(rows, columns)
    return np.tile(pattern, (2 // rows, 2 // columns))


def _deltas(tiff: Tiff, cfa: Directory, tag: Tag, length: int) -> NDArray[np.float32]:
    deltas = [float(delta) for delta in tiff.numbers(cfa, tag)] or [0.0] * length
    if len(deltas) != length or any(abs(delta) > MAX_LEVEL for delta in deltas):
        raise RawError(f"{tiff.name}: tag {tag.name} has {len(deltas)} values for {length} lines: damaged")
    return np.array(deltas, np.float32)


def read_noise(tiff: Tiff, cfa: Directory) -> NoiseProfile | None:
    """NoiseProfile, the mean over its planes; None where there is none that makes sense."""
    try:
        values = [float(value) for value in tiff.numbers(cfa, Tag.NOISE_PROFILE)]
    except RawError:
        return None
    if len(values) < 2 or len(values) % 2:
        return None
    try:
        return NoiseProfile(float(np.mean(values[0::2])), float(np.mean(values[1::2])))
    except ConfigError:  # writers that know nothing fill in zeros
        return None


def _crop(tiff: Tiff, cfa: Directory, height: int, width: int) -> tuple[int, int, int, int]:
    left, top = (*(int(n) for n in tiff.numbers(cfa, Tag.DEFAULT_CROP_ORIGIN)), 0, 0)[:2]
    across, down = (*(int(n) for n in tiff.numbers(cfa, Tag.DEFAULT_CROP_SIZE)), 0, 0)[:2]
    if min(left, top) < 0 or not (0 < across <= width - left and 0 < down <= height - top):
        return 0, 0, height, width
    return top, left, down, across
