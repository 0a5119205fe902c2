"""A complete new DNG for a raw that is not one: the mosaic, levels, colour, EXIF basics and a preview.

Layout as Adobe's converter writes it: the first directory is a small preview with the camera's facts, the
mosaic is a SubIFD. DNG specification 1.7. A camera that LibRaw has no matrix for is taken to see linear sRGB.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .cfa import CFA_PHOTOMETRIC
from .counts import quantise
from .dng_tiles import append_tiles
from .exif import DATE_FORMAT
from .preview_entries import preview_entries
from .raw_image import RawImage
from .srgb import SRGB_TO_XYZ
from .tags import Kind, Tag
from .tiff import Appendix, Entry, Layout
from .treatment import Treatment

_HEADER = b"II*\0"
_D65 = 21


def build(raw: RawImage, mosaic: NDArray[np.float32], treatment: Treatment) -> list[bytes | memoryview]:
    """The chunks of a DNG whose picture is `mosaic` [H,W] on raw's scale."""
    layout = Layout("<", big=False)
    appendix = Appendix(8, layout)
    sensor = quantise(raw, mosaic)
    cfa = _mosaic_entries(layout, raw, sensor.gain, treatment) | append_tiles(appendix, sensor)
    first = {
        **preview_entries(appendix, raw, mosaic),
        **_camera_entries(layout, raw, treatment.software),
        Tag.SUB_IFDS: layout.offsets([appendix.append_directory(cfa)]),
        Tag.EXIF_IFD: layout.offsets([appendix.append_directory(_exif_entries(layout, raw))]),
    }
    start = appendix.append_directory(first)
    return [_HEADER + start.to_bytes(4, "little"), *appendix.chunks]


def _mosaic_entries(layout: Layout, raw: RawImage, gain: int, treatment: Treatment) -> dict[int, Entry]:
    black = [Fraction(float(level)) * gain for level in raw.black.ravel()]
    top, left, height, width = raw.crop
    entries: dict[int, Entry] = {
        Tag.NEW_SUBFILE_TYPE: layout.entry(Kind.LONG, 0),
        Tag.PHOTOMETRIC: layout.entry(Kind.SHORT, CFA_PHOTOMETRIC),
        Tag.PLANAR_CONFIGURATION: layout.entry(Kind.SHORT, 1),
        Tag.CFA_REPEAT_PATTERN_DIM: layout.entry(Kind.SHORT, 2, 2),
        Tag.CFA_PATTERN: layout.entry(Kind.BYTE, *("RGB".index(colour) for colour in raw.phase)),
        Tag.CFA_PLANE_COLOR: layout.entry(Kind.BYTE, 0, 1, 2),
        Tag.CFA_LAYOUT: layout.entry(Kind.SHORT, 1),
        Tag.BLACK_LEVEL_REPEAT_DIM: layout.entry(Kind.SHORT, 2, 2),
        Tag.BLACK_LEVEL: layout.entry(Kind.RATIONAL, *black),
        Tag.WHITE_LEVEL: layout.entry(Kind.LONG, round(float(raw.white.max()) * gain)),
        Tag.DEFAULT_CROP_ORIGIN: layout.entry(Kind.LONG, left, top),
        Tag.DEFAULT_CROP_SIZE: layout.entry(Kind.LONG, width, height),
        Tag.ACTIVE_AREA: layout.entry(Kind.LONG, *raw.area),
        Tag.NOISE_REDUCTION_APPLIED: layout.entry(Kind.RATIONAL, treatment.reduction),
    }
    if treatment.profile is not None:
        entries[Tag.NOISE_PROFILE] = layout.entry(Kind.DOUBLE, *treatment.profile)
    return entries


def _camera_entries(layout: Layout, raw: RawImage, software: str) -> dict[int, Entry]:
    matrix = raw.colour.xyz_to_camera if raw.colour.xyz_to_camera is not None else np.linalg.inv(SRGB_TO_XYZ)
    entries: dict[int, Entry] = {
        Tag.ORIENTATION: layout.entry(Kind.SHORT, raw.orientation),
        Tag.SOFTWARE: layout.entry(Kind.ASCII, software),
        Tag.DNG_VERSION: layout.entry(Kind.BYTE, 1, 4, 0, 0),
        Tag.DNG_BACKWARD_VERSION: layout.entry(Kind.BYTE, 1, 1, 0, 0),
        Tag.UNIQUE_CAMERA_MODEL: layout.entry(Kind.ASCII, raw.camera or "Unknown"),
        Tag.COLOR_MATRIX_1: layout.entry(Kind.SRATIONAL, *(_ten_thousandths(x) for x in matrix.ravel())),
        Tag.AS_SHOT_NEUTRAL: layout.entry(Kind.RATIONAL, *(_millionths(x) for x in raw.colour.neutral)),
        Tag.CALIBRATION_ILLUMINANT_1: layout.entry(Kind.SHORT, _D65),
    }
    if raw.capture.make:
        entries[Tag.MAKE] = layout.entry(Kind.ASCII, raw.capture.make)
    if raw.capture.model:
        entries[Tag.MODEL] = layout.entry(Kind.ASCII, raw.capture.model)
    if raw.capture.taken:
        entries[Tag.DATE_TIME] = layout.entry(Kind.ASCII, raw.capture.taken.strftime(DATE_FORMAT))
    return entries


def _exif_entries(layout: Layout, raw: RawImage) -> dict[int, Entry]:
    capture = raw.capture
    entries: dict[int, Entry] = {Tag.EXIF_VERSION: layout.entry(Kind.UNDEFINED, b"0230")}
    for tag, value in (
        (Tag.EXPOSURE_TIME, capture.exposure_s),
        (Tag.F_NUMBER, capture.f_number),
        (Tag.FOCAL_LENGTH, capture.focal_length_mm),
    ):
        if value:
            entries[tag] = layout.entry(Kind.RATIONAL, Fraction(value).limit_denominator(100_000))
    if capture.iso and capture.iso < 65_535:
        entries[Tag.ISO_SPEED] = layout.entry(Kind.SHORT, round(capture.iso))
    if capture.taken:
        entries[Tag.DATE_TIME_ORIGINAL] = layout.entry(Kind.ASCII, capture.taken.strftime(DATE_FORMAT))
    return entries


def _ten_thousandths(value: float) -> Fraction:
    return Fraction(round(value * 10_000), 10_000)


def _millionths(value: float) -> Fraction:
    return Fraction(round(value * 1_000_000), 1_000_000)
