"""Small valid files of every format that skdn reads, and seeded ways to damage them, for the fuzz tests.

The offsets of every TIFF directory entry are known, so that counts, types and offsets are hit as often as
pixels are. Written without skdn's own TIFF code.
"""

from __future__ import annotations

import io
import random
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from dng_layouts import ASCII, BYTE, SHORT, DngLayout, noise_like_counts, write_layout
from sidd_layouts import write_hdf5, write_older

INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    8,
    255,
    256,
    65_535,
    65_536,
    2**24,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
DEFLATE = 8

LAYOUTS = (
    DngLayout(),
    DngLayout(byteorder=">", bits=12, sub_ifd=True, area=(1, 1, 40, 40), rows_per_strip=7),
    DngLayout(bigtiff=True, sub_ifd=True, tile=(16, 32), lossless_jpeg=True, bits=12),
    DngLayout(bigtiff=True, byteorder=">", bits=10, black=(60, 61, 62, 63), black_repeat=(2, 2)),
    DngLayout(sub_ifd=True, preview_jpeg=True, tile=(48, 64), lossless_jpeg=True, noise=(1e-3, 1e-6)),
    DngLayout(byteorder=">", tile=(32, 32), crop=(2, 4, 40, 50), noise=(1e-3, 1e-6) * 3, orientation=6),
    DngLayout(bits=8, white=255, black=(3,), table=tuple(range(0, 1024, 4)), sub_ifd=True),
    DngLayout(
        black_delta_rows=tuple(Fraction(i, 7) for i in range(48)),
        black_delta_columns=tuple(Fraction(-i, 9) for i in range(64)),
        bits=14,
    ),
    DngLayout(
        extra=((51008, 7, 32, struct.pack(">LLLLLLLL", 1, 4, 0x01030000, 0, 8, 70, 0, 0)[:32]),),
        phase="GBRG",
    ),
)


@dataclass(frozen=True)
class Seed:
    """A valid file."""

    suffix: str
    data: bytes
    entries: tuple[int, ...] = ()
    """Where the directory entries of a TIFF start."""
    order: str = "<"
    big: bool = False


def raw_seeds(folder: Path) -> list[Seed]:
    """Files that name their own phase: DNGs of many layouts, one for LibRaw to decode, and a camera's."""
    seeds = []
    for number, layout in enumerate(LAYOUTS):
        path = folder / f"{number}.dng"
        write_layout(path, noise_like_counts(number, 48, 64, 255 if layout.bits == 8 else 1023), layout)
        seeds.append(_tiff_seed(path))
    for suffix in (".dng", ".nef"):
        path = folder / f"libraw{suffix}"
        _write_for_libraw(path, suffix == ".dng")
        seeds.append(_tiff_seed(path))
    return seeds


def plain_seeds(folder: Path) -> list[Seed]:
    """Mosaics without a phase: NumPy, PGM, PNG, TIFF, and MATLAB's of either generation."""
    counts = noise_like_counts(3, 40, 52, 65_535)
    floats = (counts / 65_535).astype(np.float32)
    array = io.BytesIO()
    np.save(array, counts)
    tifffile.imwrite(folder / "plain.tif", counts, metadata=None, compression="deflate", rowsperstrip=9)
    return [
        Seed(".npy", array.getvalue()),
        Seed(".pgm", b"P5\n# a comment\n52 40\n65535\n" + counts.astype(">u2").tobytes()),
        Seed(".png", bytes(imagecodecs.png_encode(counts))),
        _tiff_seed(folder / "plain.tif"),
        Seed(".mat", write_hdf5(folder / "new.mat", x=floats).read_bytes()),
        Seed(".mat", write_older(folder / "old.mat", x=floats).read_bytes()),
    ]


def _write_for_libraw(path: Path, dng: bool) -> None:
    """A mosaic that skdn leaves to LibRaw: a deflated DNG, or a camera's uncompressed TIFF."""
    tags = [
        (271, ASCII, 0, "NIKON CORPORATION", True),
        (272, ASCII, 0, "NIKON D70", True),
        (33421, SHORT, 2, (2, 2), True),
        (33422, BYTE, 4, bytes([0, 1, 1, 2]), True),
    ]
    if dng:
        tags += [
            (50706, BYTE, 4, bytes([1, 4, 0, 0]), True),
            (50708, ASCII, 0, "Synthetic One", True),
            (50717, 4, 1, 1023, True),
        ]
    tifffile.imwrite(
        path,
        noise_like_counts(5, 256, 256),
        photometric=32803,
        subfiletype=0,
        metadata=None,
        extratags=tags,
        compression=DEFLATE if dng else None,
    )


def _tiff_seed(path: Path) -> Seed:
    with tifffile.TiffFile(path) as file:
        pages = [page for top in file.pages for page in (top, *(top.pages or ()))]
        big, order = file.is_bigtiff, file.byteorder
        header, size = (8, 20) if big else (2, 12)
        entries = tuple(page.offset + header + size * i for page in pages for i in range(len(page.tags)))
    return Seed(path.suffix, path.read_bytes(), entries, order, big)


def mutate(seed: Seed, rng: random.Random) -> bytes:
    """A damaged copy: one to four injuries, of bytes, fields of the directories, or whole pieces."""
    data = bytearray(seed.data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        injure = rng.choice((_flip, _flip, _field, _field, _field, _number, _cut, _drop, _repeat))
        injure(data, seed, rng)
        if not data:
            break
    return bytes(data)


def _flip(data: bytearray, seed: Seed, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(min(len(data), rng.choice((64, 4096, 2**30))))] = rng.randrange(256)


def _field(data: bytearray, seed: Seed, rng: random.Random) -> None:
    """Tag, type, count or value of one directory entry; bytes anywhere in other formats."""
    if not seed.entries:
        return _number(data, seed, rng)
    width = 8 if seed.big else 4
    at, size = rng.choice(((0, 2), (2, 2), (4, width), (4 + width, width), (4 + width, 2)))
    _put(data, rng.choice(seed.entries) + at, size, seed, rng)
    return None


def _number(data: bytearray, seed: Seed, rng: random.Random) -> None:
    _put(data, rng.randrange(len(data)), rng.choice((1, 2, 4, 8)), seed, rng)


def _put(data: bytearray, at: int, size: int, seed: Seed, rng: random.Random) -> None:
    inside = rng.choice(seed.entries) if seed.entries else rng.randrange(len(data) + 1)
    value = rng.choice((*INTERESTING, len(data), len(data) - 1, inside, rng.randrange(2**16)))
    order = "little" if seed.order == "<" else "big"
    data[at : at + size] = (value % 2 ** (8 * size)).to_bytes(size, order)


def _cut(data: bytearray, seed: Seed, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(data: bytearray, seed: Seed, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 16, 512))]


def _repeat(data: bytearray, seed: Seed, rng: random.Random) -> None:
    at, to = rng.randrange(len(data)), rng.randrange(len(data))
    data[to:to] = data[at : at + rng.choice((1, 2, 16, 512))]
