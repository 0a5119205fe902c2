"""sk_deploy.tiff: strict parsing, and directories that other readers understand."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_deploy.errors import RawError
from sk_deploy.tags import Kind, Tag
from sk_deploy.tiff import Appendix, Entry, Layout, Tiff

LAYOUTS = [Layout(order, big) for order in "<>" for big in (False, True)]


def file_with(layout: Layout, entries: dict[int, Entry], following: int = 0) -> bytes:
    """A TIFF of one directory."""
    mark = {"<": b"II", ">": b"MM"}[layout.order]
    magic = struct.pack(f"{layout.order}H", 43 if layout.big else 42)
    header = mark + magic + (struct.pack(f"{layout.order}HH", 8, 0) if layout.big else b"")
    appendix = Appendix(len(header) + layout.slot_size, layout)
    start = appendix.append_directory(entries, following)
    pointer = struct.pack(f"{layout.order}{layout.offset_code}", start)
    return b"".join([header, pointer, *appendix.chunks])


def picture(layout: Layout) -> dict[int, Entry]:
    """The tags that tifffile wants of a 1×1 picture, plus values of every kind, inline and not."""
    return {
        Tag.IMAGE_WIDTH: layout.entry(Kind.SHORT, 1),
        Tag.IMAGE_LENGTH: layout.entry(Kind.LONG, 1),
        Tag.BITS_PER_SAMPLE: layout.entry(Kind.SHORT, 8),
        Tag.PHOTOMETRIC: layout.entry(Kind.SHORT, 1),
        Tag.STRIP_OFFSETS: layout.offsets([0]),
        Tag.STRIP_BYTE_COUNTS: layout.offsets([1]),
        Tag.SOFTWARE: layout.entry(Kind.ASCII, "skdn in a longer line"),
        Tag.CFA_PATTERN: layout.entry(Kind.BYTE, 0, 1, 1, 2),
        Tag.BLACK_LEVEL: layout.entry(Kind.RATIONAL, Fraction(1, 3), 64),
        Tag.COLOR_MATRIX_1: layout.entry(Kind.SRATIONAL, Fraction(-7, 5)),
        Tag.NOISE_PROFILE: layout.entry(Kind.DOUBLE, 1e-4, 2e-6),
    }


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_written_directory_reads_back_and_agrees_with_tifffile(layout: Layout) -> None:
    data = file_with(layout, picture(layout))
    tiff = Tiff(data)
    first = tiff.chain[0]
    assert tiff.layout == layout
    assert tiff.text(first, Tag.SOFTWARE) == "skdn in a longer line"
    assert tiff.integers(first, Tag.CFA_PATTERN) == (0, 1, 1, 2)
    assert tiff.numbers(first, Tag.BLACK_LEVEL) == (Fraction(1, 3), 64)
    assert tiff.numbers(first, Tag.COLOR_MATRIX_1) == (Fraction(-7, 5),)
    assert tiff.numbers(first, Tag.NOISE_PROFILE) == (1e-4, 2e-6)
    with tifffile.TiffFile(io.BytesIO(data)) as other:
        tags = other.pages[0].tags
        assert tags[Tag.SOFTWARE].value == "skdn in a longer line"
        assert tags[Tag.BLACK_LEVEL].value == (1, 3, 64, 1)
        assert tags[Tag.COLOR_MATRIX_1].value == (-7, 5)
        assert tags[Tag.NOISE_PROFILE].value == (1e-4, 2e-6)


def test_copied_entries_keep_the_bytes_of_their_slot() -> None:
    layout = Layout("<", False)
    tiff = Tiff(file_with(layout, picture(layout)))
    appendix = Appendix(len(tiff.data), layout)
    appendix.append_directory(tiff.chain[0].entries)
    copied = b"".join(appendix.chunks)
    assert all(entry.slot in copied for entry in tiff.chain[0].entries.values())
    assert len(copied) == 2 + 12 * len(tiff.chain[0].entries) + 4  # values are pointed to, not copied


def test_of_duplicate_entries_the_last_counts() -> None:
    double = struct.pack("<2sHLH", b"II", 42, 8, 2)
    double += struct.pack("<HHLL", Tag.IMAGE_WIDTH, 4, 1, 5) + struct.pack("<HHLL", Tag.IMAGE_WIDTH, 4, 1, 7)
    tiff = Tiff(double + bytes(4))
    assert tiff.integers(tiff.chain[0], Tag.IMAGE_WIDTH) == (7,)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_cycle_of_directories_is_refused(layout: Layout) -> None:
    data = file_with(layout, {})
    start = Tiff(data).chain[0].offset
    with pytest.raises(RawError, match="cycle"):
        Tiff(file_with(layout, {}, following=start))
    looped = file_with(layout, {Tag.SUB_IFDS: layout.offsets([start])})
    with pytest.raises(RawError, match="cycle"):
        Tiff(looped)


def test_long_chain_is_refused() -> None:
    chained = struct.pack("<2sHL", b"II", 42, 8)
    for number in range(300):
        chained += struct.pack("<HL", 0, 8 + 6 * (number + 1))
    with pytest.raises(RawError, match="more than"):
        Tiff(chained + bytes(6))


@pytest.mark.parametrize(
    "data", [b"", b"II", b"II*\0", b"II*\0\0\0\0\0", b"MM\0+\0\0\0\0", b"not a TIFF at all"]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(RawError):
        Tiff(data)


def test_values_outside_the_file_are_refused_when_read_and_kept_when_copied() -> None:
    lying = struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, Tag.BLACK_LEVEL, 4, 2**31, 26, 0)
    tiff = Tiff(lying)
    entry = tiff.chain[0].entries[Tag.BLACK_LEVEL]
    assert entry.value is None
    assert entry.slot == struct.pack("<L", 26)
    with pytest.raises(RawError, match="BLACK_LEVEL points outside"):
        tiff.numbers(tiff.chain[0], Tag.BLACK_LEVEL)


@pytest.mark.parametrize("value", [-1.0, 0.5, float("nan"), float("inf")])
def test_integer_tags_hold_whole_numbers(value: float) -> None:
    layout = Layout("<", False)
    tiff = Tiff(file_with(layout, {Tag.IMAGE_WIDTH: layout.entry(Kind.DOUBLE, value)}))
    with pytest.raises(RawError, match=r"expected (whole )?numbers"):
        tiff.integers(tiff.chain[0], Tag.IMAGE_WIDTH)


def test_rationals_that_do_not_fit_are_rounded_not_wrapped() -> None:
    layout = Layout("<", False)
    large, fine = Fraction(2**40 + 1, 3 * 2**20), Fraction(1, 2**40 + 1)
    tiff = Tiff(file_with(layout, {Tag.BLACK_LEVEL: layout.entry(Kind.RATIONAL, large, fine)}))
    found = tiff.numbers(tiff.chain[0], Tag.BLACK_LEVEL)
    assert float(found[0]) == pytest.approx(float(large), rel=1e-6)
    assert float(found[1]) == pytest.approx(float(fine), abs=1e-9)
    tiff = Tiff(file_with(layout, {Tag.COLOR_MATRIX_1: layout.entry(Kind.SRATIONAL, 2**40, -(2**40))}))
    assert tiff.numbers(tiff.chain[0], Tag.COLOR_MATRIX_1) == (2**31 - 1, 1 - 2**31)


def test_classic_tiff_stops_at_4_gib() -> None:
    appendix = Appendix(2**32 - 10, Layout("<", False))
    with pytest.raises(RawError, match="4 GiB"):
        appendix.append(bytes(16))
    assert Appendix(2**32 - 10, Layout("<", True)).append(bytes(16)) == 2**32 - 10


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_raise_raw_error_and_nothing_else(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    damaged = bytearray(file_with(layout, picture(layout)))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    try:
        tiff = Tiff(bytes(damaged[:cut]))
        for tag in picture(layout):
            tiff.integers(tiff.chain[0], Tag(tag))
    except RawError:
        pass
