"""Reading raw files: DNGs, what else LibRaw decodes to a Bayer mosaic, and plain mosaics of known phase.

A file's content decides what it is, not its name. LibRaw parses untrusted bytes: a caller that reads many
files does so in a worker process, so that a crash costs one file.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np

from .bayer import PHASES
from .cfa import is_dng
from .errors import RawError
from .levels import Levels, check_levels
from .libraw import NotARaw, read_camera
from .mat import is_mat
from .plain import PlainMosaic, is_headerless, read_mat_mosaic, read_plain
from .raw_dng import read_dng
from .raw_image import Capture, Colour, RawImage, camera_name
from .sidd_metadata import metadata_path, read_sidd_metadata
from .tags import Tag
from .tiff import Tiff, is_tiff

MAX_FILE_BYTES = 2**32
"""A classic TIFF's limit, and more than the largest mosaic takes; more is not read into memory."""

__all__ = ["Capture", "Colour", "RawImage", "read_raw"]


def read_raw(
    path: str | Path,
    pattern: str | None = None,
    levels: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> RawImage:
    """Read a camera raw, or, given its phase in `pattern`, a plain TIFF, PNG, PGM, .npy or .mat mosaic.

    A raw that names its own phase needs no `pattern`, and one that contradicts `pattern` is refused. `levels`
    are black and white of plain mosaics that do not name theirs, in their own counts; `size`, width and
    height, is that of pixels of 8 or 16 bit (little-endian) without a header. A .mat holds SIDD's variable
    `x` and takes phase and noise from a METADATA file beside it. Raises RawError, one line, for whatever is
    not a complete Bayer mosaic.
    """
    path = Path(path)
    if pattern is not None and pattern not in PHASES:
        raise RawError(f"pattern {pattern!r}: expected one of {', '.join(PHASES)}")
    if levels is not None and not 0 <= levels[0] < levels[1]:
        raise RawError(f"levels {levels[0]:g} and {levels[1]:g}: expected black below white, from 0 up")
    if size is not None and min(size) < 2:
        raise RawError(f"size {size[0]}×{size[1]}: expected width and height of 2 pixels or more")
    data = _read_bytes(path)
    raw = None if is_headerless(data, size) else _read_with_phase(path, data)
    if raw is None:
        plain = read_plain(data, path.name, levels, size)
        if plain is None:
            raise RawError(f"{path.name}: not a raw file that LibRaw or skdn knows{_about_size(data, size)}")
        return _from_plain(path, plain, pattern)
    _check_pattern(path, raw.phase, pattern)
    return raw


def _about_size(data: bytes, size: tuple[int, int] | None) -> str:
    if size is None:
        return "; a mosaic without a header needs its size (--size WxH)"
    return f", and its {len(data)} bytes are not {size[0]}×{size[1]} pixels of 8 or 16 bit"


def _check_pattern(path: Path, phase: str, pattern: str | None) -> None:
    if pattern not in (None, phase):
        raise RawError(f"{path.name}: its mosaic is {phase}, not {pattern}: leave the pattern out")


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise RawError(f"{path}: a folder, expected a raw file")
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # reading a pipe or a device might never end
            raise RawError(f"{path}: not a file, expected a raw photograph")
        if about.st_size > MAX_FILE_BYTES:
            raise RawError(f"{path}: {about.st_size / 2**30:.1f} GiB, larger than any photograph (4 GiB)")
        data = path.read_bytes()
    except FileNotFoundError:
        raise RawError(f"{path}: no such file") from None
    except OSError as error:
        raise RawError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise RawError(f"{path.name}: an empty file")
    return data


def _read_with_phase(path: Path, data: bytes) -> RawImage | None:
    """Read a raw that names its own phase; None for a plain mosaic or a foreign file."""
    if is_mat(data):
        return _from_mat(path, data)
    tiff = None
    if is_tiff(data):
        try:
            tiff = Tiff(data, path.name)
        except RawError:
            if path.suffix.lower() == ".dng":
                raise
    if tiff is not None and is_dng(tiff):
        return read_dng(path, tiff)
    if tiff is not None and not tiff.text(tiff.chain[0], Tag.MAKE):
        return None  # LibRaw would call any grey TIFF an RGGB raw
    try:
        return read_camera(path, tiff)
    except NotARaw:
        return None


def _from_mat(path: Path, data: bytes) -> RawImage | None:
    """SIDD's mosaics, where a METADATA file is beside them; else None, for they are plain ones."""
    metadata_file = metadata_path(path)
    if metadata_file is None:
        return None
    metadata = read_sidd_metadata(metadata_file)
    raw = _from_plain(path, read_mat_mosaic(data, path.name), metadata.phase)
    return replace(
        raw,
        noise=None if "GT_RAW" in path.name else metadata.noise,
        camera=camera_name(metadata.capture),
        iso=metadata.capture.iso,
        capture=metadata.capture,
    )


def _from_plain(path: Path, plain: PlainMosaic, pattern: str | None) -> RawImage:
    phase = plain.phase or pattern
    if phase is None:
        phases = ", ".join(PHASES)
        raise RawError(f"{path.name}: a plain mosaic does not name its phase: give it (--pattern {phases})")
    _check_pattern(path, phase, pattern)
    height, width = plain.counts.shape
    levels = Levels(
        black=np.full((2, 2), plain.black, np.float32),
        white=np.full((2, 2), plain.white, np.float32),
        rows=np.zeros(height, np.float32),
        columns=np.zeros(width, np.float32),
    )
    check_levels(path.name, levels)
    return RawImage(
        path=path,
        phase=phase,
        black=levels.black,
        white=levels.white,
        noise=plain.noise,
        camera="",
        iso=None,
        orientation=1,
        stored=plain.counts,
        area=(0, 0, height, width),
        crop=(0, 0, height, width),
        black_rows=levels.rows,
        black_columns=levels.columns,
        exact=plain.exact,
    )
