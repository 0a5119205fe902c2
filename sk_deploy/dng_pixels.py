"""Decoding a DNG's mosaic: uncompressed and lossless JPEG, in strips and tiles.

Written here rather than left to LibRaw, which reads lossless JPEG in several strips as rubbish, cannot read
BigTIFF, and takes four times as long. Other compressions (lossy JPEG, deflate, JPEG XL) remain LibRaw's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cfa import UNCOMPRESSED, bits_per_sample
from .claims import check_claim
from .counts import HIGHEST_COUNT
from .errors import RawError
from .jpeg import LOSSLESS, read_frame
from .tags import Tag
from .tiff import Directory, Tiff

_JPEG = 7


def decode_counts(tiff: Tiff, cfa: Directory, height: int, width: int) -> NDArray[np.uint16] | None:
    """The linearised counts [height,width]; None for a storage that is LibRaw's to decode.

    Raises RawError where the file holds less than the whole mosaic. `cfa.read_facts` has checked that strips
    and tiles lie inside the file.
    """
    compression = tiff.integer(cfa, Tag.COMPRESSION, UNCOMPRESSED)
    unusual = (
        Tag.ROW_INTERLEAVE_FACTOR,
        Tag.COLUMN_INTERLEAVE_FACTOR,
        Tag.SUB_TILE_BLOCK_SIZE,
        Tag.FILL_ORDER,
    )
    if any(set(tiff.integers(cfa, tag, (1,))) != {1} for tag in unusual):
        return None
    tile_height, tile_width, blocks = _blocks(tiff, cfa, height, width)
    if compression == _JPEG and all(_is_lossless(block) for block in blocks):
        decode = _decode_lossless
        check_claim(tiff.name, height, width, at_most=8 * sum(map(len, blocks)))  # a code takes a bit
    elif compression == UNCOMPRESSED:
        decode = _decode_uncompressed
    else:
        return None
    table = _linearisation(tiff, cfa)
    counts = np.empty((height, width), np.uint16)
    across = -(-width // tile_width)
    for number, block in enumerate(blocks):
        top, left = number // across * tile_height, number % across * tile_width
        rows = min(tile_height, height - top)
        pixels = decode(tiff, cfa, block, rows, tile_width)
        if table is not None:
            pixels = table[np.minimum(pixels, min(len(table) - 1, HIGHEST_COUNT))]
        counts[top : top + rows, left : left + tile_width] = pixels[:, : width - left]
    return counts


def _linearisation(tiff: Tiff, cfa: Directory) -> NDArray[np.uint16] | None:
    """What stored values stand for; the last of them also for all above."""
    table = tiff.integers(cfa, Tag.LINEARIZATION_TABLE)
    if table and max(table) > HIGHEST_COUNT:
        raise RawError(f"{tiff.name}: a linearisation table up to {max(table)}, expected 16 bits: damaged")
    return np.array(table, np.uint16) if table else None


def _blocks(tiff: Tiff, cfa: Directory, height: int, width: int) -> tuple[int, int, list[memoryview]]:
    """Height and width of a strip or tile, and the bytes of each, row by row."""
    if Tag.TILE_OFFSETS in cfa.entries:
        tile_height = tiff.integer(cfa, Tag.TILE_LENGTH, 0)
        tile_width = tiff.integer(cfa, Tag.TILE_WIDTH, 0)
        offsets, lengths = tiff.integers(cfa, Tag.TILE_OFFSETS), tiff.integers(cfa, Tag.TILE_BYTE_COUNTS)
    else:
        tile_height, tile_width = min(height, tiff.integer(cfa, Tag.ROWS_PER_STRIP, height)), width
        offsets, lengths = tiff.integers(cfa, Tag.STRIP_OFFSETS), tiff.integers(cfa, Tag.STRIP_BYTE_COUNTS)
    if not (0 < tile_height < 2**20 and 0 < tile_width < 2**20 and tile_height * tile_width < 2**30):
        raise RawError(f"{tiff.name}: tiles of {tile_width}×{tile_height} pixels: damaged")
    expected = -(-height // tile_height) * -(-width // tile_width)
    if len(offsets) != expected:
        raise RawError(
            f"{tiff.name}: {len(offsets)} strips or tiles where {expected} make the mosaic: damaged"
        )
    blocks = [tiff.data[at : at + length] for at, length in zip(offsets, lengths, strict=True)]
    return tile_height, tile_width, blocks


def _decode_uncompressed(
    tiff: Tiff, cfa: Directory, block: memoryview, rows: int, width: int
) -> NDArray[np.uint16]:
    """Rows start at whole bytes; depths other than 8 and 16 are packed, highest bit first."""
    bits = bits_per_sample(tiff, cfa)
    row_bytes = -(-width * bits // 8)
    if len(block) < rows * row_bytes:
        found = len(block)
        raise RawError(f"{tiff.name}: a strip or tile of {found} bytes, {rows * row_bytes} needed: damaged")
    data = bytes(block[: rows * row_bytes])
    if bits in (8, 16):
        kind = np.dtype("u1") if bits == 8 else np.dtype(f"{tiff.layout.order}u2")
        pixels = np.frombuffer(data, kind)
    else:
        import imagecodecs

        pixels = imagecodecs.packints_decode(data, "u2" if bits > 8 else "u1", bits, runlen=width)
    return pixels.reshape(rows, width).astype(np.uint16, copy=False)


def _decode_lossless(
    tiff: Tiff, cfa: Directory, block: memoryview, rows: int, width: int
) -> NDArray[np.uint16]:
    """The frame's samples in order fill the rows, however many components share them."""
    import imagecodecs

    frame = read_frame(block)
    if frame is None or frame.samples > 8 * len(block):  # each takes a bit at least
        raise RawError(f"{tiff.name}: a lossless JPEG tile that claims more than its bytes can hold: damaged")
    try:
        samples = imagecodecs.jpeg8_decode(bytes(block))
    except (imagecodecs.Jpeg8Error, ValueError) as error:
        raise RawError(f"{tiff.name}: a damaged lossless JPEG tile ({error})") from error
    if samples.size < rows * width or samples.size % width:
        raise RawError(
            f"{tiff.name}: a lossless JPEG of {samples.size} samples in a {width}×{rows} tile: damaged"
        )
    return samples.reshape(-1, width)[:rows].astype(np.uint16, copy=False)


def _is_lossless(block: memoryview) -> bool:
    frame = read_frame(block)
    return frame is not None and frame.marker == LOSSLESS
