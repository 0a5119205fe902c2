"""Reading raw files: anything that LibRaw decodes to a Bayer mosaic, and plain mosaics of known phase.

A DNG's facts (active area, phase, levels, noise) are read from its own tags, because LibRaw averages
BlackLevelDelta and rounds BlackLevel; LibRaw decodes its pixels. Other raws take all their facts from LibRaw.
LibRaw parses untrusted bytes: a caller that reads many files does so in a worker process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .cfa import find_cfa, is_dng, read_facts
from .counts import Levels, normalise
from .errors import RawError
from .noise import NoiseProfile
from .plain import PlainMosaic, read_plain
from .tiff import Tag, Tiff


@dataclass(frozen=True, eq=False)
class Shot:
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
    """How LibRaw develops a camera's colours."""

    xyz_to_camera: NDArray[np.float64] | None = None
    """[3,3], illuminant D65, as DNG's ColorMatrix; None where LibRaw does not know the camera."""
    camera_to_srgb: NDArray[np.float64] | None = None
    """[3,3] from white-balanced camera RGB to linear sRGB."""
    neutral: NDArray[np.float64] = field(default_factory=lambda: np.ones(3))
    """[3] camera RGB of a grey surface, green 1, as DNG's AsShotNeutral."""


@dataclass(frozen=True, eq=False)
class RawImage:
    """A Bayer mosaic and what is needed to denoise it and to write it back."""

    path: Path
    mosaic: NDArray[np.float32]
    """[H,W] of the active area: (raw − black) / (white − black), negatives and values above 1 kept."""
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
    shot: Shot = field(default_factory=Shot)
    is_dng: bool = False
    """Whether `path` is a DNG, so that the output can be the patched original."""

    @property
    def levels(self) -> Levels:
        """Black and white, for `counts`."""
        return Levels(self.black, self.white, self.black_rows, self.black_columns)


def read_raw(path: Path, pattern: str | None = None) -> RawImage:
    """Read a camera raw, or, given its phase in `pattern`, a plain TIFF, PNG, PGM or .npy mosaic.

    A raw that names its own phase needs no `pattern`, and one that contradicts `pattern` is refused. Raises
    RawError, one line, for whatever is not a complete Bayer mosaic.
    """
    if pattern is not None and pattern not in PHASES:
        raise RawError(f"pattern {pattern!r}: expected one of {', '.join(PHASES)}")
    data = _read_bytes(path)
    try:
        tiff = Tiff(data, path.name)
    except RawError:
        tiff = None
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") and path.suffix.lower() == ".dng":
            raise
    if tiff is not None and is_dng(tiff):
        raw = _read_dng(path, tiff)
    elif tiff is None and (plain := read_plain(data, path.name)) is not None:
        return _from_plain(path, plain, pattern)
    else:
        try:
            raw = _read_camera(path, tiff)
        except _NotARaw:
            plain = read_plain(data, path.name) if tiff is not None else None
            if plain is None:
                raise RawError(f"{path.name}: not a raw file that LibRaw knows") from None
            return _from_plain(path, plain, pattern)
    if pattern not in (None, raw.phase):
        raise RawError(f"{path.name}: its mosaic is {raw.phase}, not {pattern}: leave the pattern out")
    return raw


class _NotARaw(Exception):
    """LibRaw does not know the format."""


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise RawError(f"{path}: a folder, expected a raw file")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RawError(f"{path}: no such file") from None
    except OSError as error:
        raise RawError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise RawError(f"{path.name}: an empty file")
    return data


def _read_dng(path: Path, tiff: Tiff) -> RawImage:
    cfa = find_cfa(tiff)
    facts = read_facts(tiff, cfa)
    with _libraw(path) as libraw:
        stored = _flat(path, libraw)
        colour, other = _colour(libraw), libraw.other
    if stored.shape != (facts.height, facts.width):
        found = f"{stored.shape[1]}×{stored.shape[0]}"
        raise RawError(f"{path.name}: LibRaw decodes {found} pixels of a {facts.width}×{facts.height} mosaic")
    shot = _shot(tiff, other)
    top, left, bottom, right = facts.area
    levels = Levels(
        facts.black, np.full((2, 2), facts.white, np.float32), facts.black_rows, facts.black_columns
    )
    _check_levels(path, levels)
    return RawImage(
        path=path,
        mosaic=normalise(stored[top:bottom, left:right], levels),
        phase=facts.phase,
        black=levels.black,
        white=levels.white,
        noise=facts.noise,
        camera=_camera(shot),
        iso=shot.iso,
        orientation=tiff.integers(tiff.chain[0], Tag.ORIENTATION, (1,))[0],
        stored=stored,
        area=facts.area,
        crop=facts.crop,
        black_rows=facts.black_rows,
        black_columns=facts.black_columns,
        colour=colour,
        shot=shot,
        is_dng=True,
    )


def _read_camera(path: Path, tiff: Tiff | None) -> RawImage:
    """A raw that is not a DNG: every fact from LibRaw, the camera's name from its TIFF tags if it has any."""
    with _libraw(path) as libraw:
        stored = _flat(path, libraw)
        sizes = libraw.sizes
        area = (
            sizes.top_margin,
            sizes.left_margin,
            sizes.top_margin + sizes.height,
            sizes.left_margin + sizes.width,
        )
        site_colours = np.array(libraw.raw_colors_visible[:2, :2])
        phase = _libraw_phase(path, libraw, site_colours)
        black = np.array(libraw.black_level_per_channel, np.float32)[site_colours]
        white = np.full((2, 2), libraw.white_level, np.float32)
        colour, other = _colour(libraw), libraw.other
    shot = _shot(tiff, other)
    height, width = area[2] - area[0], area[3] - area[1]
    levels = Levels(black, white, np.zeros(height, np.float32), np.zeros(width, np.float32))
    _check_levels(path, levels)
    return RawImage(
        path=path,
        mosaic=normalise(stored[area[0] : area[2], area[1] : area[3]], levels),
        phase=phase,
        black=black,
        white=white,
        noise=None,
        camera=_camera(shot),
        iso=shot.iso,
        orientation={3: 3, 5: 8, 6: 6}.get(sizes.flip, 1),
        stored=stored,
        area=area,
        crop=(0, 0, height, width),
        black_rows=levels.rows,
        black_columns=levels.columns,
        colour=colour,
        shot=shot,
    )


def _from_plain(path: Path, plain: PlainMosaic, pattern: str | None) -> RawImage:
    if pattern is None:
        raise RawError(
            f"{path.name}: a plain mosaic does not name its phase: give --pattern RGGB, GRBG, GBRG or BGGR"
        )
    height, width = plain.counts.shape
    black, white = (np.full((2, 2), level, np.float32) for level in (plain.black, plain.white))
    levels = Levels(black, white, np.zeros(height, np.float32), np.zeros(width, np.float32))
    return RawImage(
        path=path,
        mosaic=normalise(plain.counts, levels) if plain.exact is None else plain.exact,
        phase=pattern,
        black=black,
        white=white,
        noise=None,
        camera="",
        iso=None,
        orientation=1,
        stored=plain.counts,
        area=(0, 0, height, width),
        crop=(0, 0, height, width),
        black_rows=levels.rows,
        black_columns=levels.columns,
    )


@contextmanager
def _libraw(path: Path) -> Iterator[Any]:
    """An opened rawpy.RawPy, whose errors become RawError, or _NotARaw for an unknown format."""
    import rawpy

    try:
        with rawpy.imread(str(path)) as libraw:
            yield libraw
    except rawpy.LibRawFileUnsupportedError:
        raise _NotARaw from None
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise RawError(f"{path.name}: LibRaw cannot decode it ({reason}): truncated or damaged?") from error


def _flat(path: Path, libraw: Any) -> NDArray[np.uint16]:
    """The whole sensor, copied out of LibRaw."""
    import rawpy

    if libraw.raw_type != rawpy.RawType.Flat:
        raise RawError(f"{path.name}: several colours a pixel (Foveon or linear), expected a Bayer mosaic")
    stored = np.array(libraw.raw_image, dtype=np.uint16)
    if min(stored.shape) < 2:
        raise RawError(f"{path.name}: a mosaic of {stored.shape[1]}×{stored.shape[0]} pixels")
    return stored


def _libraw_phase(path: Path, libraw: Any, site_colours: NDArray[np.uint8]) -> str:
    pattern = libraw.raw_pattern
    names = libraw.color_desc.decode()
    colours = "".join(names[site] for site in site_colours.ravel())
    if pattern is None or pattern.shape != (2, 2) or colours not in PHASES:
        shape = "no" if pattern is None else "×".join(str(side) for side in pattern.shape)
        kind = "X-Trans" if shape == "6×6" else "monochrome" if libraw.num_colors == 1 else colours
        raise RawError(f"{path.name}: {shape} colour pattern ({kind}), expected a 2×2 Bayer mosaic")
    return colours


def _check_levels(path: Path, levels: Levels) -> None:
    if not np.all(levels.white > levels.black):
        black, white = levels.black.max(), levels.white.min()
        raise RawError(
            f"{path.name}: black level {black:g} is not below white level {white:g}: damaged metadata"
        )


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


def _shot(tiff: Tiff | None, other: Any) -> Shot:
    """Camera and ISO from TIFF tags where there are any, the rest from LibRaw."""
    make = model = ""
    iso = other.iso_speed or None
    if tiff is not None:
        first = tiff.chain[0]
        make, model = tiff.text(first, Tag.MAKE), tiff.text(first, Tag.MODEL)
        exif = tiff.linked(first, Tag.EXIF_IFD)
        with suppress(RawError):
            tagged = (exif and tiff.integers(exif, Tag.ISO_SPEED)) or tiff.integers(first, Tag.ISO_SPEED)
            iso = float(tagged[0]) if tagged and 0 < tagged[0] < 65_535 else iso
    return Shot(
        make=make,
        model=model,
        iso=iso,
        exposure_s=other.shutter_speed or None,
        f_number=other.aperture or None,
        focal_length_mm=other.focal_length or None,
        taken=other.timestamp if other.timestamp and other.timestamp.year > 1970 else None,
    )


def _camera(shot: Shot) -> str:
    """Make and model, without saying the make twice."""
    first_word = shot.make.split(" ")[0]
    if first_word and shot.model.lower().startswith(first_word.lower()):
        return shot.model
    return f"{shot.make} {shot.model}".strip()
