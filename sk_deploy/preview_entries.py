"""The previews inside a DNG: finding, decoding and replacing them, and adding one."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .claims import MAX_SIDE_PX
from .errors import RawError
from .jpeg import BASELINE, EXTENDED, count_scans, read_frame
from .preview import Pixels, encode_jpeg, fitting_size, render
from .raw_image import RawImage
from .tags import Kind, Tag
from .tiff import Appendix, Directory, Entry, Layout, Tiff

_REDUCED, _REDUCED_ALTERNATIVE = 1, 0x10001
"""NewSubfileType of a preview, and of one that another rendering made."""
_UNCOMPRESSED, _OLD_JPEG, _JPEG = 1, 6, 7
_RGB, _YCBCR = 2, 6
_SRGB = 2
_MAX_SCANS = 16
"""Of a preview's JPEG, thumbnails inside it included."""
_MOST_PIXELS = 4
"""Of all previews together, as a multiple of the mosaic's."""
_SMALL_PIXELS = 10_000_000
"""That previews may have beside a mosaic of any size."""


def find_previews(tiff: Tiff, cfa: Directory) -> list[Directory]:
    """The directories that hold a reduced colour picture of the photograph.

    Raises RawError where they would be far larger than the photograph: each is developed and coded anew.
    """
    everything = [directory for top in tiff.chain for directory in top.walk()]
    previews = [
        directory for directory in everything if directory is not cfa and _is_preview(tiff, directory)
    ]
    pixels = sum(_pixels(tiff, preview) for preview in previews)
    if pixels > max(_MOST_PIXELS * _pixels(tiff, cfa), _SMALL_PIXELS):
        raise RawError(f"{tiff.name}: {len(previews)} previews of {pixels / 1e6:.0f} MP together: damaged")
    return previews


def _pixels(tiff: Tiff, directory: Directory) -> int:
    return tiff.integer(directory, Tag.IMAGE_WIDTH, 0) * tiff.integer(directory, Tag.IMAGE_LENGTH, 0)


def _is_preview(tiff: Tiff, directory: Directory) -> bool:
    try:
        kind = tiff.integer(directory, Tag.NEW_SUBFILE_TYPE, _REDUCED)
        photometric = tiff.integer(directory, Tag.PHOTOMETRIC, _YCBCR)
        samples = tiff.integer(directory, Tag.SAMPLES_PER_PIXEL, 3)
        bits = tiff.integer(directory, Tag.BITS_PER_SAMPLE, 8)
        width, height = (tiff.integer(directory, tag, 0) for tag in (Tag.IMAGE_WIDTH, Tag.IMAGE_LENGTH))
    except RawError:
        return False
    picture = photometric in (_RGB, _YCBCR) and (samples, bits) == (3, 8)
    sane = 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX
    return kind in (_REDUCED, _REDUCED_ALTERNATIVE) and picture and sane


def decode_preview(tiff: Tiff, preview: Directory) -> Pixels | None:
    """The old preview [h,w,3]; None where it is damaged or of a kind that is not worth decoding."""
    try:
        offsets = tiff.integers(preview, Tag.STRIP_OFFSETS) or tiff.integers(preview, Tag.JPEG_OFFSET)
        lengths = tiff.integers(preview, Tag.STRIP_BYTE_COUNTS) or tiff.integers(preview, Tag.JPEG_LENGTH)
        compression = tiff.integer(preview, Tag.COMPRESSION, _UNCOMPRESSED)
        height, width = (tiff.integers(preview, tag)[0] for tag in (Tag.IMAGE_LENGTH, Tag.IMAGE_WIDTH))
        if sum(lengths) > len(tiff.data):
            return None
        strips = [tiff.data[at : at + size] for at, size in zip(offsets, lengths, strict=True)]
        if compression == _UNCOMPRESSED:
            return np.frombuffer(b"".join(strips), np.uint8, height * width * 3).reshape(height, width, 3)
        frame = read_frame(strips[0])
        if frame is None or frame.marker not in (BASELINE, EXTENDED) or frame.samples > 4 * height * width:
            return None
        if count_scans(coded := bytes(strips[0])) > _MAX_SCANS:
            return None
        pixels: NDArray[np.uint8] = imagecodecs.jpeg8_decode(coded)
    except (RawError, ValueError, IndexError, imagecodecs.Jpeg8Error):
        return None
    return pixels if len(strips) == 1 and pixels.ndim == 3 and pixels.shape[2] == 3 else None


def replace_preview(
    tiff: Tiff, preview: Directory, appendix: Appendix, pixels: Pixels, software: str
) -> dict[int, Entry | None]:
    """Append `pixels` in the way the preview was stored, and return what changes in its directory."""
    layout = tiff.layout
    edits: dict[int, Entry | None] = dict.fromkeys(
        (Tag.PREVIEW_SETTINGS_DIGEST, Tag.JPEG_TABLES, Tag.PREDICTOR)
    )
    if Tag.PREVIEW_APPLICATION_NAME in preview.entries:
        edits[Tag.PREVIEW_APPLICATION_NAME] = layout.entry(Kind.ASCII, software)
        edits[Tag.PREVIEW_APPLICATION_VERSION] = None
    if Tag.PREVIEW_COLOR_SPACE in preview.entries:
        edits[Tag.PREVIEW_COLOR_SPACE] = layout.entry(Kind.LONG, _SRGB)
    if tiff.integer(preview, Tag.COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        return edits | _strip(layout, appendix, pixels, pixels.tobytes()) | _kind(layout, preview)
    full_colour = tiff.integers(preview, Tag.YCBCR_SUBSAMPLING, (2, 2)) == (1, 1)
    coded = encode_jpeg(pixels, "444" if full_colour else "420")
    if Tag.JPEG_OFFSET in preview.entries:
        edits[Tag.JPEG_OFFSET] = layout.offsets([appendix.append(coded)])
        edits[Tag.JPEG_LENGTH] = layout.offsets([len(coded)])
        return edits
    edits |= _strip(layout, appendix, pixels, coded) | _jpeg_entries(layout, 1 if full_colour else 2)
    return edits | _kind(layout, preview)


def _kind(layout: Layout, preview: Directory) -> dict[int, Entry | None]:
    """The preview's own NewSubfileType, where it has one."""
    return {
        Tag.NEW_SUBFILE_TYPE: preview.entries.get(Tag.NEW_SUBFILE_TYPE) or layout.entry(Kind.LONG, _REDUCED)
    }


def preview_entries(appendix: Appendix, raw: RawImage, mosaic: NDArray[np.float32]) -> dict[int, Entry]:
    """Append a JPEG preview for a file that has none, and return its directory's entries."""
    layout = appendix.layout
    pixels = render(raw, mosaic, *fitting_size(raw), old=None)
    entries = _strip(layout, appendix, pixels, encode_jpeg(pixels, "420")) | _jpeg_entries(layout, 2)
    return {tag: entry for tag, entry in entries.items() if entry is not None}


def _strip(layout: Layout, appendix: Appendix, pixels: Pixels, data: bytes) -> dict[int, Entry | None]:
    """The entries of a picture [h,w,3] in one strip, and no tiles."""
    height, width = pixels.shape[:2]
    tiles = (Tag.TILE_WIDTH, Tag.TILE_LENGTH, Tag.TILE_OFFSETS, Tag.TILE_BYTE_COUNTS)
    return {
        **dict.fromkeys(tiles),
        Tag.NEW_SUBFILE_TYPE: layout.entry(Kind.LONG, _REDUCED),
        Tag.IMAGE_WIDTH: layout.entry(Kind.LONG, width),
        Tag.IMAGE_LENGTH: layout.entry(Kind.LONG, height),
        Tag.BITS_PER_SAMPLE: layout.entry(Kind.SHORT, 8, 8, 8),
        Tag.COMPRESSION: layout.entry(Kind.SHORT, _UNCOMPRESSED),
        Tag.PHOTOMETRIC: layout.entry(Kind.SHORT, _RGB),
        Tag.SAMPLES_PER_PIXEL: layout.entry(Kind.SHORT, 3),
        Tag.ROWS_PER_STRIP: layout.entry(Kind.LONG, height),
        Tag.PLANAR_CONFIGURATION: layout.entry(Kind.SHORT, 1),
        Tag.STRIP_OFFSETS: layout.offsets([appendix.append(data)]),
        Tag.STRIP_BYTE_COUNTS: layout.offsets([len(data)]),
    }


def _jpeg_entries(layout: Layout, subsampling: int) -> dict[int, Entry | None]:
    return {
        Tag.COMPRESSION: layout.entry(Kind.SHORT, _JPEG),
        Tag.PHOTOMETRIC: layout.entry(Kind.SHORT, _YCBCR),
        Tag.YCBCR_SUBSAMPLING: layout.entry(Kind.SHORT, subsampling, subsampling),
        Tag.YCBCR_POSITIONING: layout.entry(Kind.SHORT, 1 if subsampling == 2 else 2),
    }
