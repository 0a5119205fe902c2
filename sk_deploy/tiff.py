"""TIFF directories, as raw files use them: parse strictly, and lay out rewritten copies at a file's end.

Classic and BigTIFF, both byte orders. Every offset and count is checked against the file before a value is
read; values are views into the file, so a lying count costs no memory. TIFF 6.0 section 2; BigTIFF as libtiff
describes it. Nothing here knows what a tag means.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from .errors import RawError
from .tags import Kind, Tag

Number = int | float | Fraction

MAX_DIRECTORIES = 256
"""More directories than any camera writes; this and the next two guard against files made to be slow."""
MAX_ENTRIES = 1024
"""Of one directory. Directories may overlap, so a small file could claim millions."""
MAX_VALUES = 65_536
"""Of one numeric tag: the longest linearisation table, and a strip for every row."""


_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_CODES = {
    1: "B",
    3: "H",
    4: "L",
    6: "b",
    7: "B",
    8: "h",
    9: "l",
    11: "f",
    12: "d",
    13: "L",
    16: "Q",
    17: "q",
    18: "Q",
}


@dataclass(frozen=True)
class Entry:
    """One field of a directory."""

    kind: int
    count: int
    value: memoryview | bytes | None
    """The value's bytes in file order; None where the file does not hold them: outside it, inside its header
    (which changes when a directory moves), or of unknown type."""
    slot: bytes = b""
    """The value-or-offset bytes as the original directory has them; empty for an entry that is new."""


@dataclass
class Directory:
    """An image file directory (IFD) and the SubIFDs below it."""

    offset: int
    entries: dict[int, Entry]
    next: int
    children: list[Directory] = field(default_factory=list)

    def walk(self) -> Iterator[Directory]:
        """This directory, then everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Layout:
    """How a TIFF file writes numbers."""

    order: str
    """"<" little endian, ">" big endian, as `struct` names them."""
    big: bool
    """BigTIFF: offsets have 8 bytes."""

    @property
    def offset_code(self) -> str:
        """The `struct` code of an offset."""
        return "Q" if self.big else "L"

    @property
    def slot_size(self) -> int:
        """Bytes of a value that fits inside its directory entry."""
        return 8 if self.big else 4

    def entry(self, kind: Kind, *values: Number | str | bytes) -> Entry:
        """A new entry: ASCII of one string, UNDEFINED of one bytes object, rationals of Fractions or ints."""
        data, count = self._encode(kind, values)
        return Entry(kind, count, data)

    def offsets(self, values: Sequence[int]) -> Entry:
        """A new entry of file offsets or byte counts: LONG, or LONG8 in BigTIFF."""
        return self.entry(Kind.LONG8 if self.big else Kind.LONG, *values)

    def _encode(self, kind: Kind, values: Sequence[Number | str | bytes]) -> tuple[bytes, int]:
        if kind == Kind.ASCII:
            text = str(values[0]).encode("ascii", "replace") + b"\0"
            return text, len(text)
        if kind == Kind.UNDEFINED:
            (blob,) = values
            assert isinstance(blob, bytes)
            return blob, len(blob)
        if kind in (Kind.RATIONAL, Kind.SRATIONAL):
            code, limit = ("L", 2**32) if kind == Kind.RATIONAL else ("l", 2**31)
            parts = [part for value in values for part in _ratio(Fraction(value), limit)]  # type: ignore[arg-type]
            return struct.pack(f"{self.order}{len(parts)}{code}", *parts), len(values)
        return struct.pack(f"{self.order}{len(values)}{_CODES[kind]}", *values), len(values)


def _ratio(value: Fraction, limit: int) -> tuple[int, int]:
    """Numerator and denominator below `limit`: exact where that is possible, else the nearest below."""
    if value.denominator >= limit:
        value = value.limit_denominator(limit - 1)
    if abs(value) >= limit:
        return (limit - 1 if value > 0 else 1 - limit), 1
    while abs(value.numerator) >= limit:
        value = value.limit_denominator(max(value.denominator // 2, 1))
    return value.numerator, value.denominator


def is_tiff(data: bytes | memoryview) -> bool:
    """Whether `data` starts as a classic or Big TIFF does."""
    return bytes(data[:4]) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class Tiff:
    """A parsed TIFF file: its directories in file order, and typed access to their values.

    Raises RawError for anything that is not a TIFF, for a directory outside the file, and for cycles.
    """

    def __init__(self, data: bytes | memoryview, name: str = "file") -> None:
        self.data = memoryview(data)
        self.name = name
        self.layout, first = self._header()
        self._seen: set[int] = set()
        self.chain: list[Directory] = []
        while first:
            self.chain.append(self._directory(first))
            first = self.chain[-1].next
        if not self.chain:
            raise RawError(f"{name}: a TIFF header without a single directory")

    def _header(self) -> tuple[Layout, int]:
        order = {b"II": "<", b"MM": ">"}.get(bytes(self.data[:2]))
        if order is None or len(self.data) < 8:
            raise RawError(f"{self.name}: not a TIFF file")
        (magic,) = struct.unpack_from(f"{order}H", self.data, 2)
        if magic == 43:
            if len(self.data) < 16 or struct.unpack_from(f"{order}HH", self.data, 4) != (8, 0):
                raise RawError(f"{self.name}: a broken BigTIFF header")
            return Layout(order, True), int(struct.unpack_from(f"{order}Q", self.data, 8)[0])
        if magic != 42:
            raise RawError(f"{self.name}: not a TIFF file")
        return Layout(order, False), int(struct.unpack_from(f"{order}L", self.data, 4)[0])

    @property
    def header_size(self) -> int:
        """Bytes of the header, whose last 4 or 8 point to the first directory."""
        return 16 if self.layout.big else 8

    def _directory(self, offset: int) -> Directory:
        if offset in self._seen:
            raise RawError(f"{self.name}: its TIFF directories form a cycle (at byte {offset})")
        if len(self._seen) == MAX_DIRECTORIES:
            raise RawError(f"{self.name}: more than {MAX_DIRECTORIES} TIFF directories")
        self._seen.add(offset)
        directory = self._entries(offset)
        subs = self.integers(directory, Tag.SUB_IFDS, at_most=MAX_DIRECTORIES)
        directory.children = [self._directory(sub) for sub in subs if sub]
        return directory

    def _entries(self, offset: int) -> Directory:
        layout, size = self.layout, len(self.data)
        count_size, entry_size = (8, 20) if layout.big else (2, 12)
        if offset < self.header_size:
            raise RawError(f"{self.name}: a TIFF directory at byte {offset}, inside the header: damaged")
        if offset + count_size > size:
            raise RawError(f"{self.name}: truncated: a TIFF directory at byte {offset} of a file of {size}")
        (count,) = struct.unpack_from(f"{layout.order}{'Q' if layout.big else 'H'}", self.data, offset)
        at = offset + count_size
        end = at + count * entry_size
        if end + layout.slot_size > size:
            raise RawError(
                f"{self.name}: truncated: {count} TIFF entries at byte {offset} of a file of {size}"
            )
        if count > MAX_ENTRIES:
            raise RawError(
                f"{self.name}: a TIFF directory of {count} entries, at most {MAX_ENTRIES} make sense"
            )
        entries = {}
        for position in range(at, end, entry_size):  # of duplicates the last one counts, as in LibRaw
            tag, kind = struct.unpack_from(f"{layout.order}HH", self.data, position)
            entries[tag] = self._entry(kind, position + 4)
        (following,) = struct.unpack_from(f"{layout.order}{layout.offset_code}", self.data, end)
        return Directory(offset, entries, following)

    def _entry(self, kind: int, position: int) -> Entry:
        code, width = self.layout.offset_code, self.layout.slot_size
        (count,) = struct.unpack_from(f"{self.layout.order}{code}", self.data, position)
        slot = position + width
        length = count * _SIZES.get(kind, 0)
        start = slot
        if length > width:
            (start,) = struct.unpack_from(f"{self.layout.order}{code}", self.data, slot)
        known = kind in _SIZES and self.header_size <= start and start + length <= len(self.data)
        value = self.data[start : start + length] if known else None
        return Entry(kind, count, value, bytes(self.data[slot : slot + width]))

    def linked(self, directory: Directory, tag: Tag) -> Directory | None:
        """The directory (EXIF, GPS) that `tag` points to; None without the tag or where it points nowhere."""
        offset = self.integers(directory, tag)
        try:
            return self._entries(offset[0]) if offset else None
        except RawError:
            return None

    def numbers(self, directory: Directory, tag: Tag, at_most: int = MAX_VALUES) -> tuple[Number, ...]:
        """The values of a numeric tag, all finite; () without it.

        Raises RawError for other types, missing bytes, and more than `at_most` values.
        """
        entry = directory.entries.get(tag)
        if entry is None:
            return ()
        if entry.value is None:
            raise RawError(f"{self.name}: tag {tag.name} points outside the file: it is truncated or damaged")
        order, count = self.layout.order, entry.count
        if count > at_most:
            raise RawError(
                f"{self.name}: tag {tag.name} has {count} values, at most {at_most} make sense: damaged"
            )
        if entry.kind in (Kind.RATIONAL, Kind.SRATIONAL):
            code = "L" if entry.kind == Kind.RATIONAL else "l"
            parts = struct.unpack(f"{order}{2 * count}{code}", entry.value)
            pairs = zip(parts[::2], parts[1::2], strict=True)
            return tuple(Fraction(top, bottom) if bottom else Fraction(0) for top, bottom in pairs)
        if entry.kind not in _CODES:
            raise RawError(f"{self.name}: tag {tag.name} holds type {entry.kind}, expected numbers")
        values: tuple[int | float, ...] = struct.unpack(f"{order}{count}{_CODES[entry.kind]}", entry.value)
        if not all(map(math.isfinite, values)):
            raise RawError(f"{self.name}: tag {tag.name} holds {values[:4]}, expected numbers: damaged")
        return values

    def integers(
        self, directory: Directory, tag: Tag, default: tuple[int, ...] = (), at_most: int = MAX_VALUES
    ) -> tuple[int, ...]:
        """The values of an integer tag, or `default`. Raises RawError where one is no whole number ≥ 0."""
        values = self.numbers(directory, tag, at_most)
        if any(value < 0 or value != int(value) for value in values):
            raise RawError(f"{self.name}: tag {tag.name} holds {values[:4]}, expected whole numbers")
        return tuple(int(value) for value in values) or default

    def integer(self, directory: Directory, tag: Tag, default: int) -> int:
        """The first value of an integer tag that has few, or `default`. Raises RawError like `integers`."""
        return self.integers(directory, tag, (default,), at_most=16)[0]

    def text(self, directory: Directory, tag: Tag) -> str:
        """An ASCII tag without padding; "" where it is missing or no text."""
        entry = directory.entries.get(tag)
        if entry is None or entry.value is None or entry.kind != Kind.ASCII:
            return ""
        return bytes(entry.value).split(b"\0")[0].decode("utf-8", "replace").strip()


class Appendix:
    """Bytes that follow `start` bytes of file: values and directories, each at an even offset."""

    def __init__(self, start: int, layout: Layout) -> None:
        self.layout = layout
        self.chunks: list[bytes] = [b"\0"] * (start % 2)
        self.end = start + start % 2

    def append(self, data: bytes) -> int:
        """Add `data` and return its offset in the file. Raises RawError beyond 4 GiB of classic TIFF."""
        at = self.end
        self.chunks.append(data + b"\0" * (len(data) % 2))
        self.end += len(self.chunks[-1])
        if not self.layout.big and self.end >= 2**32:
            raise RawError("the output would exceed 4 GiB, the limit of a TIFF file: crop the input")
        return at

    def append_directory(self, entries: Mapping[int, Entry], following: int = 0) -> int:
        """Add a directory whose next link is `following`; new values go before it. Returns its offset."""
        layout = self.layout
        body = bytearray()
        for tag in sorted(entries):
            entry = entries[tag]
            slot = entry.slot
            if not slot:
                assert entry.value is not None
                value = bytes(entry.value)
                if len(value) > layout.slot_size:
                    value = struct.pack(f"{layout.order}{layout.offset_code}", self.append(value))
                slot = value.ljust(layout.slot_size, b"\0")
            body += struct.pack(f"{layout.order}HH{layout.offset_code}", tag, entry.kind, entry.count) + slot
        count = struct.pack(f"{layout.order}{'Q' if layout.big else 'H'}", len(entries))
        link = struct.pack(f"{layout.order}{layout.offset_code}", following)
        return self.append(count + bytes(body) + link)
