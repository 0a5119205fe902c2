"""How a photograph was taken, from TIFF and EXIF tags."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from .errors import RawError
from .raw_image import Capture
from .tags import Tag
from .tiff import Directory, Tiff

DATE_FORMAT = "%Y:%m:%d %H:%M:%S"
_ISO_ELSEWHERE = 65_535
"""The 16-bit tag's way of saying that the ISO is higher than it can hold."""


def read_capture(tiff: Tiff) -> Capture:
    """The facts of the first directory and of its EXIF directory; damaged ones are left out."""
    first = tiff.chain[0]
    exif = tiff.linked(first, Tag.EXIF_IFD)
    places = [exif, first] if exif is not None else [first]
    iso = _first_number(tiff, places, Tag.ISO_SPEED)
    taken = next((text for place in places if (text := tiff.text(place, Tag.DATE_TIME_ORIGINAL))), "")
    return Capture(
        make=tiff.text(first, Tag.MAKE),
        model=tiff.text(first, Tag.MODEL),
        iso=iso if iso != _ISO_ELSEWHERE else None,
        exposure_s=_first_number(tiff, places, Tag.EXPOSURE_TIME),
        f_number=_first_number(tiff, places, Tag.F_NUMBER),
        focal_length_mm=_first_number(tiff, places, Tag.FOCAL_LENGTH),
        taken=_date(taken),
    )


def _first_number(tiff: Tiff, places: list[Directory], tag: Tag) -> float | None:
    for place in places:
        with suppress(RawError):
            values = tiff.numbers(place, tag)
            if values and values[0] > 0:
                return float(values[0])
    return None


def _date(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, DATE_FORMAT)
    except ValueError:
        return None
