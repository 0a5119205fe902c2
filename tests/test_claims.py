"""Files that claim more than they hold are refused in one line, fast, and before memory is asked for."""

from __future__ import annotations

import io
import resource
import struct
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import scipy.io
import tifffile
from dng_layouts import DngLayout, noise_like_counts, write_layout

from sk_deploy.cfa import find_cfa
from sk_deploy.dng import write_dng
from sk_deploy.errors import RawError
from sk_deploy.preview_entries import decode_preview, find_previews
from sk_deploy.raw import read_raw
from sk_deploy.tags import Tag
from sk_deploy.tiff import Tiff

COUNTS = noise_like_counts(4, 48, 64)
UNDEFINED = 7
GROWTH_MIB = 64
"""What a refusal may cost; the files claim gigabytes."""


def dng(**layout: object) -> bytes:
    file = io.BytesIO()
    write_layout(file, COUNTS, DngLayout(**layout))  # type: ignore[arg-type]
    return file.getvalue()


def with_field(data: bytes, tag: int, **parts: int) -> bytes:
    """A little-endian classic TIFF with type, count or value of one entry of the first directory replaced."""
    changed = bytearray(data)
    (start,) = struct.unpack_from("<L", data, 4)
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            for part, value in parts.items():
                at, code = {"kind": (2, "<H"), "count": (4, "<L"), "value": (8, "<L")}[part]
                struct.pack_into(code, changed, entry + at, value)
    return bytes(changed)


def larger_jpeg() -> bytes:
    """A DNG of one lossless tile whose own header claims 65500×65500 pixels, of two samples each."""
    data = bytearray(dng(lossless_jpeg=True, tile=(48, 64)))
    at = data.index(b"\xff\xc3")
    struct.pack_into(">HH", data, at + 5, 65_500, 65_500)
    return bytes(data)


def hollow_jpeg() -> bytes:
    """A mosaic of 400 megapixels in one lossless tile of a few hundred bytes."""
    data = dng(lossless_jpeg=True, tile=(48, 64))
    for tag, value in ((256, 20_000), (257, 20_000), (322, 20_000), (323, 20_000)):
        data = with_field(data, tag, kind=4, value=value)
    return data


def shared_strips() -> bytes:
    """A mosaic of 60,000 rows that are all the same 100 bytes."""
    data = dng(bits=8, white=255, black=(3,))
    for tag, value in ((256, 60_000), (257, 60_000), (278, 1)):
        data = with_field(data, tag, value=value)
    offsets, lengths = len(data), len(data) + 4 * 60_000
    data += struct.pack("<L", 600) * 60_000 + struct.pack("<L", 60_000) * 60_000
    data = with_field(
        with_field(data, 273, kind=4, count=60_000, value=offsets), 279, count=60_000, value=lengths
    )
    return with_field(data, 279, kind=4)


def overlapping_directories() -> bytes:
    """256 directories of 65,535 entries each, in less than a megabyte."""
    data = bytearray(bytes(range(256)) * 3200)
    struct.pack_into("<2sHL", data, 0, b"II", 42, 8)
    for number in range(256):
        at = 8 + 14 * number
        struct.pack_into("<H", data, at, 65_535)
        struct.pack_into("<L", data, at + 2 + 12 * 65_535, at + 14)
    return bytes(data)


def endless_sub_directories() -> bytes:
    data = dng() + bytes(4_000_000)
    return with_field(data, 272, kind=4, count=1_000_000, value=8).replace(
        struct.pack("<HHL", 272, 4, 1_000_000), struct.pack("<HHL", 330, 4, 1_000_000)
    )


def endless_levels() -> bytes:
    data = dng(black_repeat=(2, 2), black=(64,) * 4)
    return with_field(data + bytes(8_000_000), 50714, count=1_000_000, value=len(data))


def png() -> bytes:
    data = bytearray(imagecodecs.png_encode(COUNTS))
    struct.pack_into(">LL", data, 16, 22_000, 22_000)
    struct.pack_into(">L", data, 29, __import__("zlib").crc32(data[12:29]))
    return bytes(data)


def sparse_tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, COUNTS, metadata=None)
    data = file.getvalue()
    for tag, value in ((256, 20_000), (257, 20_000), (278, 20_000)):
        data = with_field(data, tag, kind=4, value=value)
    return data


def npy() -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (20_000, 20_000)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + bytes(100)


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    return file.getvalue()


def hollow_hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as content:
        content.create_dataset("x", (20_000, 20_000), "f8", chunks=(100, 100))
    return file.getvalue()


def deflated_mat() -> bytes:
    """A megabyte of zeros in a kilobyte, that claims 20,000 × 20,000 numbers."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"x": np.zeros((300, 300))})
    return file.getvalue().replace(struct.pack("<LL", 300, 300), struct.pack("<LL", 30_000, 30_000))


ABSURD: dict[str, tuple[Callable[[], bytes], str]] = {
    "larger_jpeg.dng": (larger_jpeg, "claims more than its bytes can hold"),
    "hollow_jpeg.dng": (hollow_jpeg, "claims 20000×20000 pixels, its bytes hold"),
    "shared_strips.dng": (shared_strips, "claims 60000×60000|overlap"),
    "directories.dng": (overlapping_directories, "a TIFF directory of 65535 entries"),
    "sub_directories.dng": (endless_sub_directories, "SUB_IFDS has 1000000 values"),
    "levels.dng": (endless_levels, "BLACK_LEVEL has 1000000 values"),
    "dimensions.dng": (lambda: with_field(dng(), 256, value=2**31), "claims 2147483648×48 pixels"),
    "count.dng": (lambda: with_field(dng(), 273, count=2**32 - 1), "STRIP_OFFSETS points outside"),
    "offset.dng": (lambda: with_field(dng(), 273, value=2**32 - 1), "its pixels end at byte"),
    "picture.png": (png, "claims 22000×22000 pixels, its bytes hold"),
    "sparse.tif": (sparse_tiff, "claims 20000×20000 pixels, its bytes hold"),
    "array.npy": (npy, "a damaged NumPy array"),
    "pickled.npy": (pickled, "a damaged NumPy array"),
    "picture.pgm": (lambda: b"P5 999999999 999999999 255 " + bytes(99), "claims 999999999×999999999"),
    "hollow.mat": (hollow_hdf5, "which its bytes cannot hold"),
    "old.mat": (deflated_mat, "claims .30000, 30000. numbers"),
}


@pytest.fixture(scope="module")
def reader():
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_claims_cost_nothing(tmp_path: Path, reader: ProcessPoolExecutor, name: str) -> None:
    make, says = ABSURD[name]
    (tmp_path / name).write_bytes(make())
    assert (tmp_path / name).stat().st_size < 9_000_000
    message, growth_mib, seconds = reader.submit(refusal, tmp_path / name).result(20)
    assert pytest.approx(0, abs=GROWTH_MIB) == growth_mib
    assert seconds < 5
    assert "\n" not in message
    with pytest.raises(RawError, match=says):
        raise RawError(message)


def refusal(path: Path) -> tuple[str, int, float]:
    """The error of reading a file, by how many MiB the peak memory grew, and how long it took."""
    _warm_up(path)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        read_raw(path, None if path.suffix == ".dng" else "RGGB")
        message = "it was read"
    except RawError as error:
        message = str(error)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return message, growth // 1024, time.perf_counter() - started


def _warm_up(path: Path) -> None:
    """Have the libraries loaded whose own memory is not the question."""
    import rawpy  # noqa: F401

    small = io.BytesIO()
    scipy.io.savemat(small, {"y": np.zeros(3)})
    path.with_name("small.mat").write_bytes(small.getvalue())
    for name in (path.with_name("small.mat"),):
        with pytest.raises(RawError):
            read_raw(name, "RGGB")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"tag": 50706, "value": 0}, "DNGVersion"),
        ({"tag": 50706, "count": 2**31}, "DNG_VERSION points outside"),
        ({"tag": 50714, "value": 2}, "BLACK_LEVEL points outside"),
        ({"tag": 50717, "value": 2**31}, "white level 2.14748e.09, expected"),
        ({"tag": 50717, "kind": 11, "value": 0x7F800000}, "WHITE_LEVEL holds .inf"),
        ({"tag": 50714, "kind": 11, "value": 0xFF7FFFFF}, "black levels"),
        ({"tag": 50714, "kind": 9, "value": 2**32 - 5}, "black levels .-5"),
    ],
)
def test_absurd_facts_are_refused(tmp_path: Path, damage: dict[str, int], says: str) -> None:
    """The value of BlackLevel at byte 2 would change with the pointer to the first directory."""
    (tmp_path / "in.dng").write_bytes(with_field(dng(), **damage))
    with pytest.raises(RawError, match=says) as refused:
        read_raw(tmp_path / "in.dng")
    assert "\n" not in str(refused.value)


def test_an_active_area_that_libraw_believes_is_refused(tmp_path: Path) -> None:
    """With another magic number it is no TIFF, but LibRaw reads it, and its area is wider than its mosaic."""
    data = bytearray(with_field(dng(area=(2, 2, 40, 40)), 256, value=39))
    data[2] = 0x6F
    (tmp_path / "in.dng").write_bytes(data)
    with pytest.raises(RawError, match=r"an active area .2, 2, 40, 40. of a 39×48 mosaic"):
        read_raw(tmp_path / "in.dng")


def test_a_noise_profile_that_is_no_number_is_none(tmp_path: Path) -> None:
    (tmp_path / "in.dng").write_bytes(dng(noise=(float("nan"), 1e-6)))
    assert read_raw(tmp_path / "in.dng").noise is None


def test_mosaics_in_other_files_are_refused(tmp_path: Path) -> None:
    """HDF5 can link to any file of the machine."""
    secret = np.random.default_rng(0).integers(0, 255, 60 * 60, np.uint8)
    secret.tofile(tmp_path / "secret")
    with h5py.File(tmp_path / "external.mat", "w") as file:
        file.create_dataset("x", (60, 60), "u1", external=[(str(tmp_path / "secret"), 0, 3600)])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = secret.reshape(60, 60)
    with h5py.File(tmp_path / "link.mat", "w") as file:
        file["x"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "x")
    with h5py.File(tmp_path / "virtual.mat", "w") as file:
        layout = h5py.VirtualLayout((60, 60), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (60, 60))
        file.create_virtual_dataset("x", layout)
    for name, says in (
        ("external", "in other files"),
        ("virtual", "in other files"),
        ("link", "no variable"),
    ):
        with pytest.raises(RawError, match=says):
            read_raw(tmp_path / f"{name}.mat", "RGGB")


def refuse_to_write(folder: Path, data: bytes, says: str) -> None:
    (folder / "in.dng").write_bytes(data)
    raw = read_raw(folder / "in.dng")
    started = time.perf_counter()
    with pytest.raises(RawError, match=says):
        write_dng(raw, raw.mosaic, folder / "out.dng", noise=None, software="test")
    assert time.perf_counter() - started < 2
    assert not (folder / "out.dng").exists()


def test_previews_far_larger_than_the_photograph_are_refused(tmp_path: Path) -> None:
    data = dng(sub_ifd=True)
    for tag, value in ((256, 65_000), (257, 65_000)):
        data = with_field(data, tag, kind=4, value=value)
    refuse_to_write(tmp_path, data, "1 previews of 4225 MP together")


def test_a_preview_whose_jpeg_claims_more_is_not_decoded(tmp_path: Path) -> None:
    data = bytearray(dng(sub_ifd=True, preview_jpeg=True))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 65_500, 65_500)
    (tmp_path / "in.dng").write_bytes(data)
    raw = read_raw(tmp_path / "in.dng")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=None, software="test")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024 * GROWTH_MIB
    np.testing.assert_array_equal(read_raw(tmp_path / "out.dng").stored, COUNTS)


def test_a_preview_of_endless_scans_is_not_decoded(tmp_path: Path) -> None:
    """A hundred scans of a picture that is black in each, as a progressive JPEG may have."""
    data = dng(sub_ifd=True, preview_jpeg=True)
    at = data.index(b"\xff\xda")
    tiff = Tiff(data)
    (preview,) = find_previews(tiff, find_cfa(tiff))
    assert decode_preview(tiff, preview) is not None
    offset, length = (tiff.integer(preview, tag, 0) for tag in (Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS))
    coded = data[offset:at] + 100 * data[at : offset + length - 2] + b"\xff\xd9"
    changed = with_field(with_field(data + coded, 273, value=len(data)), 279, value=len(coded))
    tiff = Tiff(changed)
    assert decode_preview(tiff, find_previews(tiff, find_cfa(tiff))[0]) is None


def test_opcodes_that_mark_by_thousands_of_counts_are_refused(tmp_path: Path) -> None:
    opcode = struct.pack(">LLLLLL", 4, 0x01030000, 0, 8, 70, 0)
    opcodes = struct.pack(">L", 5000) + 5000 * opcode
    refuse_to_write(tmp_path, dng(extra=((51008, UNDEFINED, len(opcodes), opcodes),)), "by 5000 counts")


def test_photographs_too_small_for_libraw_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", COUNTS[:21])
    raw = read_raw(tmp_path / "in.npy", "RGGB")
    with pytest.raises(RawError, match="64×21 pixels, LibRaw reads no DNG below 22×22"):
        write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=None, software="test")
