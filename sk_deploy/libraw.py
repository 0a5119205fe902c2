"""Raws that LibRaw decodes (`rawpy`): every camera's own format, and DNGs in compressions of their own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .errors import RawError
from .exif import read_capture
from .levels import Levels, check_levels
from .raw_image import Capture, Colour, RawImage, camera_name
from .tiff import Tiff


def read_camera(path: Path, tiff: Tiff | None) -> RawImage:
    """A raw that is not a DNG: every fact from LibRaw, the camera's name from its TIFF tags if it has any.

    Raises NotARaw for pixels of 8 or 16 bit without a header, which LibRaw takes for some camera's by their
    number: phase and levels would be a guess.
    """
    with open_libraw(path) as libraw:
        sizes = libraw.sizes
        pixels = sizes.raw_height * sizes.raw_width
        if path.stat().st_size in (pixels, 2 * pixels):
            raise NotARaw
        stored = flat_counts(path, libraw)
        area = (
            sizes.top_margin,
            sizes.left_margin,
            sizes.top_margin + sizes.height,
            sizes.left_margin + sizes.width,
        )
        height, width = area[2] - area[0], area[3] - area[1]
        if min(height, width) < 2 or area[2] > stored.shape[0] or area[3] > stored.shape[1]:
            raise RawError(
                f"{path.name}: an active area {area} of a {stored.shape[1]}×{stored.shape[0]} mosaic: damaged"
            )
        phase, site_colours = _sites(path, libraw)
        black = np.array(libraw.black_level_per_channel, np.float32)[site_colours]
        white = np.full((2, 2), libraw.white_level, np.float32)
        colour, other = _colour(libraw), libraw.other
    capture = _capture(tiff, other)
    levels = Levels(black, white, np.zeros(height, np.float32), np.zeros(width, np.float32))
    check_levels(path.name, levels)
    return RawImage(
        path=path,
        phase=phase,
        black=black,
        white=white,
        noise=None,
        camera=camera_name(capture),
        iso=capture.iso,
        orientation={3: 3, 5: 8, 6: 6}.get(sizes.flip, 1),
        stored=stored,
        area=area,
        crop=(0, 0, height, width),
        black_rows=levels.rows,
        black_columns=levels.columns,
        colour=colour,
        capture=capture,
    )


class NotARaw(Exception):
    """LibRaw does not know the format."""


@contextmanager
def open_libraw(path: Path) -> Iterator[Any]:
    """An opened rawpy.RawPy, whose errors become RawError, or NotARaw for an unknown format."""
    import rawpy

    try:
        with rawpy.imread(_named(path)) as libraw:
            yield libraw
    except rawpy.LibRawFileUnsupportedError:
        raise NotARaw from None
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise RawError(f"{path.name}: LibRaw cannot decode it ({reason}): truncated or damaged?") from error


def _named(path: Path) -> str | io.BytesIO:
    """What rawpy takes: a name in UTF-8, or the bytes of a file whose name is in an older encoding."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return io.BytesIO(path.read_bytes())
    return str(path)


def flat_counts(path: Path, libraw: Any) -> NDArray[np.uint16]:
    """The whole sensor, copied out of LibRaw."""
    import rawpy

    if libraw.raw_type != rawpy.RawType.Flat:
        raise RawError(f"{path.name}: several colours a pixel (Foveon or linear), expected a Bayer mosaic")
    stored = np.array(libraw.raw_image, dtype=np.uint16)
    if min(stored.shape) < 2:
        raise RawError(f"{path.name}: a mosaic of {stored.shape[1]}×{stored.shape[0]} pixels")
    return stored


def _sites(path: Path, libraw: Any) -> tuple[str, NDArray[np.uint8]]:
    """The phase of the visible area, and LibRaw's colour numbers [2,2] of its first cell."""
    pattern = libraw.raw_pattern
    if pattern is None or pattern.shape != (2, 2):
        kind = "no colour pattern (monochrome)" if pattern is None else "an X-Trans or other pattern"
        raise RawError(f"{path.name}: {kind}, expected a 2×2 Bayer mosaic")
    sites: NDArray[np.uint8] = np.array(libraw.raw_colors_visible[:2, :2])
    names = libraw.color_desc.decode()
    phase = "".join(names[site] for site in sites.ravel())
    if phase not in PHASES:
        raise RawError(f"{path.name}: a mosaic of {phase}, expected red, green and blue in a Bayer pattern")
    return phase, sites


def _colour(libraw: Any) -> Colour:
    xyz_to_camera = np.array(libraw.rgb_xyz_matrix, np.float64)[:3]
    camera_to_srgb = np.array(libraw.color_matrix, np.float64)[:, :3]
    gains = np.array(libraw.camera_whitebalance, np.float64)[:3]
    if not (np.all(np.isfinite(gains)) and np.all(gains > 0)):
        gains = np.ones(3)
    return Colour(
        xyz_to_camera=xyz_to_camera if xyz_to_camera.any() else None,
        camera_to_srgb=camera_to_srgb if camera_to_srgb.any() else None,
        neutral=gains[1] / gains,
    )


def _capture(tiff: Tiff | None, other: Any) -> Capture:
    """Camera and ISO from TIFF tags where there are any, the rest from LibRaw."""
    tagged = Capture() if tiff is None else read_capture(tiff)
    dated = other.timestamp is not None and other.timestamp.year > 1970
    return Capture(
        make=tagged.make,
        model=tagged.model,
        iso=tagged.iso or other.iso_speed or None,
        exposure_s=tagged.exposure_s or other.shutter_speed or None,
        f_number=tagged.f_number or other.aperture or None,
        focal_length_mm=tagged.focal_length_mm or other.focal_length or None,
        taken=other.timestamp if dated else None,
    )
