"""Reading DNGs: every fact from their own tags, since LibRaw averages BlackLevelDelta and rounds levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cfa import CfaFacts, find_cfa, read_facts
from .dng_colour import read_colour
from .dng_pixels import decode_counts
from .errors import RawError
from .exif import read_capture
from .levels import Levels, check_levels
from .libraw import NotARaw, flat_counts, open_libraw
from .raw_image import RawImage, camera_name
from .tags import Tag
from .tiff import Tiff


def read_dng(path: Path, tiff: Tiff) -> RawImage:
    """The main mosaic of a DNG. Raises RawError for linear, X-Trans, damaged and truncated ones."""
    version = tiff.integers(tiff.chain[0], Tag.DNG_VERSION)
    if len(version) != 4 or version[0] != 1:
        raise RawError(f"{path.name}: DNGVersion {version[:4]}, expected (1, …) of four numbers: damaged")
    cfa = find_cfa(tiff)
    facts = read_facts(tiff, cfa)
    stored = decode_counts(tiff, cfa, facts.height, facts.width)
    if stored is None:
        stored = _decode_with_libraw(path, facts)
    elif not tiff.layout.big:
        _check_with_libraw(path, facts)
    white = np.full((2, 2), facts.white, np.float32)
    levels = Levels(facts.black, white, facts.black_rows, facts.black_columns)
    check_levels(path.name, levels)
    capture = read_capture(tiff)
    orientation = tiff.integers(tiff.chain[0], Tag.ORIENTATION, (1,))[0]
    return RawImage(
        path=path,
        phase=facts.phase,
        black=levels.black,
        white=levels.white,
        noise=facts.noise,
        camera=camera_name(capture),
        iso=capture.iso,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        stored=stored,
        area=facts.area,
        crop=facts.crop,
        black_rows=facts.black_rows,
        black_columns=facts.black_columns,
        colour=read_colour(tiff),
        capture=capture,
        is_dng=True,
    )


def _decode_with_libraw(path: Path, facts: CfaFacts) -> NDArray[np.uint16]:
    try:
        with open_libraw(path) as libraw:
            stored = flat_counts(path, libraw)
    except NotARaw:
        raise RawError(f"{path.name}: a DNG in a compression that LibRaw does not know") from None
    if stored.shape != (facts.height, facts.width):
        found = f"{stored.shape[1]}×{stored.shape[0]}"
        raise RawError(f"{path.name}: LibRaw decodes {found} pixels of a {facts.width}×{facts.height} mosaic")
    return stored


def _check_with_libraw(path: Path, facts: CfaFacts) -> None:
    """Refuse what LibRaw, and so most programs, would not open: the output is patched from it.

    LibRaw cannot read BigTIFF at all.
    """
    try:
        with open_libraw(path) as libraw:
            found = libraw.sizes.raw_height, libraw.sizes.raw_width
    except NotARaw:
        raise RawError(f"{path.name}: LibRaw does not recognise it as a DNG: damaged, or too small") from None
    if found != (facts.height, facts.width):
        raise RawError(
            f"{path.name}: LibRaw finds {found[1]}×{found[0]} pixels, its mosaic has "
            f"{facts.width}×{facts.height}: damaged"
        )
