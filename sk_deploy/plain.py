"""Plain Bayer mosaics: TIFF, PNG and PGM of one channel, NumPy and MATLAB arrays, pixels without a header.

Their phase must be given, and the size of those without a header: 8 bit, or 16 bit little-endian.

Integers run from black 0 to the highest value of their type (a PGM's own maximum, a TIFF's bits), and floats
from black 0 to white 1, unless other levels are given. A TIFF may have DNG's tags for phase, levels and
noise, as skdn's own have.
"""

from __future__ import annotations

import io
import logging
import math
import re
from dataclasses import dataclass, replace
from tokenize import TokenError

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray

from .cfa import bits_per_sample, read_black, read_noise, read_phase, white_level
from .claims import DEFLATE_AT_BEST, check_claim
from .errors import RawError
from .mat import is_mat, read_mat
from .noise import NoiseProfile
from .tags import Tag
from .tiff import Directory, Tiff, is_tiff

FLOAT_BLACK, FLOAT_WHITE = 4096, 61_440
"""Counts that stand for 0 and 1 of a float mosaic: room for −0.07 to 1.07."""

_HIGHEST_COUNT = 65_535

_PGM_HEADER = re.compile(
    rb"P5(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})\s"
)


@dataclass(frozen=True, eq=False)
class PlainMosaic:
    """Pixels and levels of a file without metadata."""

    counts: NDArray[np.uint16]
    """[H,W]."""
    black: float | NDArray[np.float32]
    """One for all, or [2,2]."""
    white: float
    exact: NDArray[np.float32] | None = None
    """[H,W] of a float file, normalised, not rounded to counts."""
    phase: str | None = None
    """Of a TIFF that names it."""
    noise: NoiseProfile | None = None
    """Of a TIFF that names it."""


def is_headerless(data: bytes, size: tuple[int, int] | None) -> bool:
    """Whether `data` is just as long as pixels of 8 or 16 bit of that width and height are."""
    return size is not None and len(data) in (math.prod(size), 2 * math.prod(size))


def read_plain(
    data: bytes,
    name: str,
    levels: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> PlainMosaic | None:
    """Decode a plain mosaic by its length or its first bytes; None where `data` is none of these formats.

    `levels`, black and white, are for what does not name its own, `size`, width and height, for what has no
    header. Raises RawError for colour images, other sample types and damaged files.
    """
    plain = _read_plain(data, name, levels, size)
    if plain is None or levels is None or plain.exact is not None or plain.phase is not None:
        return plain
    if levels[1] > _HIGHEST_COUNT:
        raise RawError(
            f"{name}: white level {levels[1]:g} of 16-bit counts, expected {_HIGHEST_COUNT} at most"
        )
    return replace(plain, black=levels[0], white=levels[1])


def _read_plain(
    data: bytes, name: str, levels: tuple[float, float] | None, size: tuple[int, int] | None
) -> PlainMosaic | None:
    if size is not None and is_headerless(data, size):
        return _from_headerless(data, name, *size)
    if data.startswith(b"\x93NUMPY"):
        return _from_float(_decode_npy(data, name), name, levels)
    if is_mat(data):
        return read_mat_mosaic(data, name, levels)
    if data.startswith(b"P5"):
        return _decode_pgm(data, name)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _from_integers(_decode_png(data, name), name)
    if is_tiff(data):
        return _from_tiff(data, name)
    return None


def read_mat_mosaic(data: bytes, name: str, levels: tuple[float, float] | None = None) -> PlainMosaic:
    """The variable `x` of a MATLAB file: SIDD's mosaics are floats in [0,1]. Raises RawError."""
    return _from_float(read_mat(data, "x", name), name, levels)


def _from_headerless(data: bytes, name: str, width: int, height: int) -> PlainMosaic:
    check_claim(name, height, width)
    kind = np.dtype("<u2" if len(data) > width * height else "u1")
    return _from_integers(np.frombuffer(data, kind).reshape(height, width), name)


def _from_integers(pixels: NDArray[np.generic], name: str) -> PlainMosaic:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16) or min(pixels.shape) < 2:
        shape = "×".join(str(side) for side in pixels.shape)
        raise RawError(f"{name}: {shape} of {pixels.dtype}, expected a mosaic: one channel of 8 or 16 bit")
    return PlainMosaic(pixels.astype(np.uint16), black=0, white=255 if pixels.dtype == np.uint8 else 65_535)


def _from_float(
    pixels: NDArray[np.generic], name: str, levels: tuple[float, float] | None = None
) -> PlainMosaic:
    if pixels.dtype.kind != "f":
        return _from_integers(pixels, name)
    if pixels.ndim != 2 or min(pixels.shape) < 2 or not np.all(np.isfinite(pixels)):
        raise RawError(f"{name}: an array of shape {pixels.shape}, expected a finite mosaic [height, width]")
    black, white = levels or (0, 1)
    exact = ((pixels.astype(np.float64) - black) / (white - black)).astype(np.float32)
    if exact.min() < -1 or exact.max() > 4:
        low, high = exact.min(), exact.max()
        raise RawError(
            f"{name}: floats from {low:g} to {high:g}, expected black 0 and white 1, or --levels BLACK,WHITE"
        )
    counts = np.rint(exact * (FLOAT_WHITE - FLOAT_BLACK) + FLOAT_BLACK)
    return PlainMosaic(np.clip(counts, 0, 65_535).astype(np.uint16), FLOAT_BLACK, FLOAT_WHITE, exact)


def _decode_npy(data: bytes, name: str) -> NDArray[np.generic]:
    try:
        file = io.BytesIO(data)
        read_header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}.get(read_magic(file))
        if read_header is None:
            raise ValueError("its version is for arrays of other things than numbers")
        shape, _, kind = read_header(file)
        if kind.kind in "fiu" and math.prod(shape) * kind.itemsize > len(data) - file.tell():
            raise ValueError(f"{shape} of {kind} in a file of {len(data)} bytes")
        array: NDArray[np.generic] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, TokenError) as error:
        raise RawError(f"{name}: a damaged NumPy array ({_first_line(error)})") from error
    return array


def _decode_pgm(data: bytes, name: str) -> PlainMosaic:
    header = _PGM_HEADER.match(data)
    width, height, white = (int(number) for number in header.groups()) if header else (0, 0, 0)
    if header is None or not 1 <= white <= 65_535:
        raise RawError(f"{name}: a PGM whose header makes no sense: expected P5, width, height, maximum")
    check_claim(name, height, width)
    kind = np.dtype(">u2" if white > 255 else "u1")
    if len(data) - header.end() < width * height * kind.itemsize:
        raise RawError(
            f"{name}: truncated: a {width}×{height} PGM needs {width * height * kind.itemsize} bytes"
        )
    pixels = np.frombuffer(data, kind, width * height, header.end()).reshape(height, width)
    return PlainMosaic(pixels.astype(np.uint16), black=0, white=white)


def _decode_png(data: bytes, name: str) -> NDArray[np.generic]:
    import imagecodecs

    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    check_claim(name, height, width, at_most=8 * DEFLATE_AT_BEST * len(data))
    try:
        pixels: NDArray[np.generic] = imagecodecs.png_decode(data)
    except (imagecodecs.PngError, ValueError) as error:
        raise RawError(f"{name}: a damaged PNG ({_first_line(error)})") from error
    return pixels


def _from_tiff(data: bytes, name: str) -> PlainMosaic:
    tiff = Tiff(data, name)
    page = tiff.chain[0]
    _check_tiff(tiff, page)
    plain = replace(
        _from_integers(_decode_tiff(data, name), name), white=2 ** bits_per_sample(tiff, page) - 1
    )
    if Tag.CFA_PATTERN not in page.entries:
        return plain
    return replace(
        plain,
        black=read_black(tiff, page),
        white=float(white_level(tiff, page)),
        phase=read_phase(tiff, page),
        noise=read_noise(tiff, page),
    )


def _check_tiff(tiff: Tiff, page: Directory) -> None:
    """Refuse what claims more pixels than its strips or tiles can hold: missing ones would be read as 0."""
    width, height = (tiff.integer(page, tag, 0) for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH))
    stored = sum(tiff.integers(page, Tag.TILE_BYTE_COUNTS) or tiff.integers(page, Tag.STRIP_BYTE_COUNTS))
    check_claim(tiff.name, height, width, at_most=8 * DEFLATE_AT_BEST * min(stored, len(tiff.data)))


def _decode_tiff(data: bytes, name: str) -> NDArray[np.generic]:
    import tifffile

    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it complains of is in our error
    try:
        pixels: NDArray[np.generic] = tifffile.imread(io.BytesIO(data), key=0)
    except Exception as error:  # tifffile raises whatever its codecs raise
        raise RawError(f"{name}: neither a camera raw nor a readable TIFF ({_first_line(error)})") from error
    return pixels


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
