"""OpcodeList1 of a DNG: what the reader does to stored values before it linearises them.

Lists 2 and 3 act on values that are normalised by black and white, so a rescaled mosaic keeps them.
List 1 acts on stored counts (DNG specification 1.7, chapter 7):

- Positions (FixBadPixelsList, warps, TrimBounds) and factors (GainMap, ScalePerRow) hold at any gain.
- FixBadPixelsConstant marks bad sites by a count. The sites keep the mark, times the gain, no other site may
  have it, and the opcode's constant follows.
- MapTable, MapPolynomial and DeltaPerRow or -Column hold at gain 1 only, and only where counts were linear
  already; so do factors where they were not, since the table that came after them is applied before them now.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .errors import RawError

_FIX_BAD_PIXELS_CONSTANT = 4
_MOST_MARKS = 8
"""Each costs a pass over the mosaic."""
_VALUES = {7: "MapTable", 8: "MapPolynomial", 10: "DeltaPerRow", 11: "DeltaPerColumn"}
_FACTORS = {3: "FixVignetteRadial", 9: "GainMap", 12: "ScalePerRow", 13: "ScalePerColumn"}


@dataclass(frozen=True)
class StoredOpcodes:
    """What OpcodeList1 demands of the counts that are stored."""

    only_gain_one: bool = False
    bad_pixel_counts: tuple[int, ...] = ()
    """The counts, before linearisation, that mark bad pixels."""


def read_opcodes(data: bytes, name: str, *, linearised: bool) -> StoredOpcodes:
    """Read an OpcodeList1, always big endian. `linearised`: a LinearizationTable was applied to the counts.

    Raises RawError for a damaged list, and for opcodes that cannot act on linearised counts.
    """
    only_gain_one, marks = False, []
    for code, parameters in _opcodes(data, name):
        if code == _FIX_BAD_PIXELS_CONSTANT:
            marks.append(struct.unpack_from(">L", data, parameters)[0])
        if linearised and code in _VALUES | _FACTORS:
            found = (_VALUES | _FACTORS)[code]
            raise RawError(f"{name}: its opcode {found} acts before its linearisation table: not supported")
        only_gain_one |= code in _VALUES
    if len(marks) > _MOST_MARKS:
        raise RawError(f"{name}: its opcodes mark bad pixels by {len(marks)} counts, expected one: damaged")
    return StoredOpcodes(only_gain_one, tuple(marks))


def replace_bad_pixel_counts(data: bytes, name: str, marks: Sequence[int]) -> bytes:
    """The list with the constants of its FixBadPixelsConstant opcodes replaced, in order."""
    changed, following = bytearray(data), iter(marks)
    for code, parameters in _opcodes(data, name):
        if code == _FIX_BAD_PIXELS_CONSTANT:
            struct.pack_into(">L", changed, parameters, next(following))
    return bytes(changed)


def _opcodes(data: bytes, name: str) -> Iterator[tuple[int, int]]:
    """The number of each opcode, and where its parameters start."""
    at = 4
    try:
        for _ in range(struct.unpack_from(">L", data)[0]):
            code, _version, _flags, length = struct.unpack_from(">LLLL", data, at)
            if at + 16 + length > len(data) or (code == _FIX_BAD_PIXELS_CONSTANT and length < 4):
                raise RawError(f"{name}: OpcodeList1 is cut short: damaged")
            yield code, at + 16
            at += 16 + length
    except struct.error:
        raise RawError(f"{name}: OpcodeList1 is cut short: damaged") from None
