"""Writing a new mosaic into a copy of its own DNG, append-only.

Every byte of the original stays where it is, except the header's pointer to the first directory. New tiles,
new previews and rewritten copies of the directories that lead to them follow at the end of the file. So maker
notes, EXIF, GPS, XMP, profiles and opcode lists keep their offsets and their bytes, even the parts that no
parser but the maker's understands.
"""

from __future__ import annotations

import dataclasses
import struct
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .cfa import find_cfa, white_level
from .counts import quantise
from .dng_tiles import append_tiles
from .errors import RawError
from .opcodes import StoredOpcodes, read_opcodes, replace_bad_pixel_counts
from .preview import render
from .preview_entries import decode_preview, find_previews, preview_entries, replace_preview
from .raw_image import RawImage
from .tags import Kind, Tag
from .tiff import Appendix, Directory, Entry, Layout, Number, Tiff
from .treatment import Treatment

Edits = dict[int, Entry | None]
"""Tag -> its new entry, or None to drop it."""

_STALE = (
    # How the old pixels were stored.
    Tag.STRIP_OFFSETS,
    Tag.ROWS_PER_STRIP,
    Tag.STRIP_BYTE_COUNTS,
    Tag.FILL_ORDER,
    Tag.PREDICTOR,
    Tag.JPEG_TABLES,
    Tag.JPEG_OFFSET,
    Tag.JPEG_LENGTH,
    Tag.MIN_SAMPLE_VALUE,
    Tag.MAX_SAMPLE_VALUE,
    Tag.SUB_TILE_BLOCK_SIZE,
    Tag.ROW_INTERLEAVE_FACTOR,
    Tag.COLUMN_INTERLEAVE_FACTOR,
    Tag.LINEARIZATION_TABLE,
)
_DIGESTS = (Tag.RAW_IMAGE_DIGEST, Tag.NEW_RAW_IMAGE_DIGEST, Tag.RAW_DATA_UNIQUE_ID)
"""Of the old pixels; a reader that checks them would call the new ones damaged."""


def patch(
    original: bytes, raw: RawImage, mosaic: NDArray[np.float32], treatment: Treatment
) -> list[bytes | memoryview]:
    """The chunks of a DNG that is `original`, the file of `raw`, with `mosaic` [H,W] as its picture.

    Raises RawError where `original` no longer holds the mosaic that `raw` was read from.
    """
    tiff = Tiff(original, raw.path.name)
    cfa, first = find_cfa(tiff), tiff.chain[0]
    if tiff.integers(cfa, Tag.IMAGE_LENGTH) + tiff.integers(cfa, Tag.IMAGE_WIDTH) != raw.stored.shape:
        raise RawError(f"{raw.path.name}: changed since it was read: read it again")
    appendix = Appendix(len(original), tiff.layout)
    edits: dict[int, Edits] = {directory.offset: {} for top in tiff.chain for directory in top.walk()}
    edits[cfa.offset].update(_mosaic_edits(tiff, cfa, appendix, raw, mosaic, treatment))
    for directory in (cfa, first):
        edits[directory.offset].update(dict.fromkeys(_DIGESTS))
    edits[first.offset][Tag.SOFTWARE] = _note(tiff, first, treatment.software)

    previews = find_previews(tiff, cfa)
    for preview in previews:
        old = decode_preview(tiff, preview)
        height, width = (tiff.integers(preview, tag)[0] for tag in (Tag.IMAGE_LENGTH, Tag.IMAGE_WIDTH))
        pixels = render(raw, mosaic, height, width, old)
        edits[preview.offset].update(replace_preview(tiff, preview, appendix, pixels, treatment.software))
    added = [] if previews else [appendix.append_directory(preview_entries(appendix, raw, mosaic))]

    start = _append_chain(tiff, appendix, edits, added)
    return [*_with_first_directory(tiff, start), *appendix.chunks]


def _mosaic_edits(
    tiff: Tiff,
    cfa: Directory,
    appendix: Appendix,
    raw: RawImage,
    mosaic: NDArray[np.float32],
    treatment: Treatment,
) -> Edits:
    """Append the mosaic, and return what changes in its directory."""
    table = tiff.integers(cfa, Tag.LINEARIZATION_TABLE)
    opcodes = b""
    if (entry := cfa.entries.get(Tag.OPCODE_LIST_1)) is not None and entry.value is not None:
        opcodes = bytes(entry.value)
    demands = read_opcodes(opcodes, tiff.name, linearised=bool(table)) if opcodes else StoredOpcodes()
    sensor = quantise(raw, mosaic, only_gain_one=demands.only_gain_one)
    gain = sensor.gain
    layout = tiff.layout
    edits: Edits = dict.fromkeys(_STALE)
    if demands.bad_pixel_counts:
        marks = [table[min(mark, len(table) - 1)] if table else mark for mark in demands.bad_pixel_counts]
        sensor = dataclasses.replace(sensor, marks=tuple(marks))
        changed = replace_bad_pixel_counts(
            opcodes, tiff.name, [min(mark * gain, 2**32 - 1) for mark in marks]
        )
        edits[Tag.OPCODE_LIST_1] = layout.entry(Kind.UNDEFINED, changed)
    edits[Tag.NEW_SUBFILE_TYPE] = layout.entry(Kind.LONG, 0)
    edits[Tag.WHITE_LEVEL] = layout.entry(Kind.LONG, round(white_level(tiff, cfa) * gain))
    edits[Tag.NOISE_REDUCTION_APPLIED] = layout.entry(Kind.RATIONAL, treatment.reduction)
    if gain != 1:
        if levels := tiff.numbers(cfa, Tag.BLACK_LEVEL):
            edits[Tag.BLACK_LEVEL] = _levels(layout, [Fraction(level) * gain for level in levels])
        for tag in (Tag.BLACK_LEVEL_DELTA_H, Tag.BLACK_LEVEL_DELTA_V):
            if deltas := tiff.numbers(cfa, tag):
                edits[tag] = layout.entry(Kind.SRATIONAL, *(Fraction(delta) * gain for delta in deltas))
    if treatment.profile is not None:
        edits[Tag.NOISE_PROFILE] = layout.entry(Kind.DOUBLE, *treatment.profile)
    return edits | append_tiles(appendix, sensor)


def _levels(layout: Layout, levels: list[Fraction]) -> Entry:
    whole = all(level.denominator == 1 for level in levels)
    values: list[Number] = [int(level) for level in levels] if whole else list(levels)
    return layout.entry(Kind.LONG if whole else Kind.RATIONAL, *values)


def _note(tiff: Tiff, first: Directory, software: str) -> Entry:
    """Software, after what the camera wrote there. (ProcessingSoftware would be new, but is no DNG tag.)"""
    earlier = tiff.text(first, Tag.SOFTWARE)
    note = software if not earlier else earlier if software in earlier else f"{earlier}; {software}"
    return tiff.layout.entry(Kind.ASCII, note)


def _append_chain(tiff: Tiff, appendix: Appendix, edits: dict[int, Edits], added: list[int]) -> int:
    """Rewrite the directories that change, back to front, and return the offset of the first."""
    following = 0
    for top in reversed(tiff.chain):
        extra = added if top is tiff.chain[0] else []
        following = _append_changed(tiff.layout, appendix, top, edits, following, extra)
    return following


def _append_changed(
    layout: Layout,
    appendix: Appendix,
    directory: Directory,
    edits: dict[int, Edits],
    following: int,
    added: list[int],
) -> int:
    """The offset of `directory`: its own where nothing in or below it changes, else that of a new copy."""
    children = [_append_changed(layout, appendix, c, edits, c.next, []) for c in directory.children] + added
    changes = dict(edits[directory.offset])
    if children != [child.offset for child in directory.children]:
        changes[Tag.SUB_IFDS] = layout.offsets(children)
    if not changes and following == directory.next:
        return directory.offset
    merged = directory.entries | changes
    return appendix.append_directory({tag: e for tag, e in merged.items() if e is not None}, following)


def _with_first_directory(tiff: Tiff, offset: int) -> list[bytes | memoryview]:
    width = tiff.layout.slot_size
    pointer = struct.pack(f"{tiff.layout.order}{tiff.layout.offset_code}", offset)
    return [tiff.data[: tiff.header_size - width], pointer, tiff.data[tiff.header_size :]]
