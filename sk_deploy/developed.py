"""A mosaic as a picture to look at: full size, upright, cropped, in sRGB with 8 bits, PNG or JPEG.

For judging at a glance what was done; the raw converter of your choice makes more of the DNG. Colours and
tones are those of a preview that is added to a DNG (`preview`), exposed so that the brightest hundredth of
the original is white: two treatments of one photograph can be compared. LibRaw interpolates (AHD).
"""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .cfa import CFA_PHOTOMETRIC
from .dng import LEAST_SIDE_PX
from .errors import RawError
from .preview import Floats, Pixels, brightest, encode_jpeg, to_linear_srgb, white_at, white_gains
from .raw_image import RawImage
from .tags import Kind, Tag
from .treatment import Treatment

_BAND_ROWS = 256
"""Rows that are developed at a time: floats of a whole photograph would take much memory."""
_WHITE = 65_535


def develop(raw: RawImage, mosaic: Floats) -> Pixels:
    """`mosaic` [H,W] as sRGB [h,w,3]: the default crop, turned by the EXIF orientation.

    Raises RawError for a mosaic of fewer than 22×22 pixels.
    """
    if min(mosaic.shape) < LEAST_SIDE_PX:
        found = f"{mosaic.shape[1]}×{mosaic.shape[0]}"
        raise RawError(f"{raw.path.name}: {found} pixels, LibRaw develops {LEAST_SIDE_PX}×{LEAST_SIDE_PX} up")
    top, left, height, width = raw.crop
    tones = white_at(brightest(raw))
    camera = _interpolate(_balance(raw, mosaic), raw.phase)[top : top + height, left : left + width]
    shown = np.empty(camera.shape, np.uint8)
    for row in range(0, height, _BAND_ROWS):
        band = camera[row : row + _BAND_ROWS].astype(np.float32) / np.float32(_WHITE)
        shown[row : row + _BAND_ROWS] = tones.apply(to_linear_srgb(raw, band))
    return upright(shown, raw.orientation)


def encode_developed_png(raw: RawImage, mosaic: Floats, treatment: Treatment) -> list[bytes]:
    """The bytes of a PNG of `develop`'s picture."""
    return [bytes(imagecodecs.png_encode(develop(raw, mosaic), level=3))]


def encode_developed_jpeg(raw: RawImage, mosaic: Floats, treatment: Treatment) -> list[bytes]:
    """The bytes of a JPEG of `develop`'s picture."""
    return [encode_jpeg(develop(raw, mosaic), "444")]


def upright(picture: Pixels, orientation: int) -> Pixels:
    """A picture [h,w,3] as it is to be seen, by its EXIF orientation 1 to 8."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _balance(raw: RawImage, mosaic: Floats) -> NDArray[np.uint16]:
    """Counts [H,W] of black 0 in which grey surfaces are grey, so that edges can be told from colours."""
    balanced = mosaic * np.float32(_WHITE)
    gains = white_gains(raw)
    row, column = PHASES[raw.phase]
    balanced[row::2, column::2] *= gains[0]
    balanced[row::2, 1 - column :: 2] *= gains[1]
    balanced[1 - row :: 2, column::2] *= gains[1]
    balanced[1 - row :: 2, 1 - column :: 2] *= gains[2]
    counts: NDArray[np.uint16] = np.rint(np.clip(balanced, 0, _WHITE)).astype(np.uint16)
    return counts


def _interpolate(counts: NDArray[np.uint16], phase: str) -> NDArray[np.uint16]:
    """Camera RGB [H,W,3] of a balanced mosaic. LibRaw is given nothing that another program wrote."""
    import rawpy

    with rawpy.imread(io.BytesIO(_least_dng(counts, phase))) as libraw:
        rgb: NDArray[np.uint16] = libraw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.AHD,
            output_color=rawpy.ColorSpace.raw,
            output_bps=16,
            gamma=(1, 1),
            no_auto_bright=True,
            user_wb=[1.0, 1.0, 1.0, 1.0],
            user_black=0,
            user_sat=_WHITE,
        )
    return rgb


def _least_dng(counts: NDArray[np.uint16], phase: str) -> bytes:
    """A DNG that says as little as LibRaw needs."""
    import tifffile

    tags: list[tuple[int, int, int, Any, bool]] = [
        (Tag.DNG_VERSION, Kind.BYTE, 4, bytes([1, 4, 0, 0]), True),
        (Tag.CFA_REPEAT_PATTERN_DIM, Kind.SHORT, 2, (2, 2), True),
        (Tag.CFA_PATTERN, Kind.BYTE, 4, bytes("RGB".index(colour) for colour in phase), True),
    ]
    file = io.BytesIO()
    tifffile.imwrite(file, counts, photometric=CFA_PHOTOMETRIC, subfiletype=0, metadata=None, extratags=tags)
    return file.getvalue()
