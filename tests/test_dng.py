"""sk_deploy.dng: what is written reads back, in LibRaw and Adobe's SDK too, and nothing else changes."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import rawpy
import tifffile
from dng_layouts import DngLayout, noise_like_counts, scene, write_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_deploy.bayer import PHASES
from sk_deploy.cfa import find_cfa
from sk_deploy.dng import write_dng
from sk_deploy.errors import ConfigError, RawError, SkdnError
from sk_deploy.noise import NoiseProfile
from sk_deploy.preview import render
from sk_deploy.raw import RawImage, read_raw
from sk_deploy.tags import Tag
from sk_deploy.tiff import Tiff

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
NIKON = SHARED / "raw" / "nikon_d5000_gbrg_12bit_ljpeg_iso200.dng"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the project are not here")
SQUARES = tuple(int((index / 1023) ** 2 * 60_000) for index in range(1024))
SOFTWARE = "skdn test"


def write(raw: RawImage, mosaic: np.ndarray, target: Path, noise: NoiseProfile | None = None) -> RawImage:
    """Write and read back."""
    write_dng(raw, mosaic.astype(np.float32), target, noise=noise, software=SOFTWARE)
    return read_raw(target)


def parse(path: Path) -> Tiff:
    return Tiff(path.read_bytes(), path.name)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[DngLayout, int, int]:
    """A layout, and the height and width of its sensor; LibRaw wants 22 visible pixels each way."""
    height, width = draw(st.integers(32, 70)), draw(st.sampled_from([32, 41, 64, 143, 256, 270, 512]))
    lossless = draw(st.booleans())
    tile = draw(st.sampled_from([None, (16, 16), (32, 48), (64, 256)]))
    area, extent = None, (height, width)
    if draw(st.booleans()):
        top, left = draw(st.integers(0, 5)), draw(st.integers(0, 5))
        area = (top, left, height - draw(st.integers(0, 4)), width - draw(st.integers(0, 4)))
        extent = (area[2] - top, area[3] - left)
    repeat = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]))
    level = st.fractions(0, 64, max_denominator=100)
    black = tuple(draw(level) for _ in range(repeat[0] * repeat[1]))
    deltas = draw(st.booleans())
    table = draw(st.sampled_from([None, SQUARES]))
    layout = DngLayout(
        phase=draw(st.sampled_from(sorted(PHASES))),
        byteorder=draw(st.sampled_from("<>")),
        bigtiff=draw(st.booleans()),
        sub_ifd=draw(st.booleans()),
        tile=tile,
        rows_per_strip=None if tile else draw(st.sampled_from([None, 8, 24])),
        lossless_jpeg=lossless,
        bits=draw(st.sampled_from([12, 16] if lossless else [10, 12, 14, 16])),
        area=area,
        black=black,
        black_repeat=repeat,
        black_delta_rows=tuple(Fraction(n % 7, 3) for n in range(extent[0])) if deltas else (),
        black_delta_columns=tuple(Fraction(-n % 5, 4) for n in range(extent[1])) if deltas else (),
        white=None if table and draw(st.booleans()) else 60_000 if table else 1023,
        table=table,
        noise=draw(st.sampled_from([(), (1e-3, 1e-5)])),
        preview_jpeg=draw(st.booleans()),
        orientation=draw(st.integers(1, 8)),
    )
    return layout, height, width


@settings(max_examples=60, deadline=None)
@given(made=layouts(), seed=st.integers(0, 99))
def test_every_layout_keeps_an_identity_bit_for_bit_and_fractions_within_half_a_step(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[DngLayout, int, int], seed: int
) -> None:
    layout, height, width = made
    folder = tmp_path_factory.mktemp("layout")
    expected = write_layout(folder / "in.dng", noise_like_counts(seed, height, width), layout)
    original = (folder / "in.dng").read_bytes()
    raw = read_raw(folder / "in.dng")
    same = write(raw, raw.mosaic, folder / "same.dng")
    np.testing.assert_array_equal(same.stored, expected)
    np.testing.assert_array_equal(same.mosaic, raw.mosaic)

    counts = np.random.default_rng(seed).uniform(80, raw.white.max() - 1, raw.mosaic.shape)
    black = raw.black_rows[:, None] + raw.black_columns[None, :]
    black = black + np.tile(raw.black, (height, width))[: black.shape[0], : black.shape[1]]
    span = np.tile(raw.white - raw.black, (height, width))[: black.shape[0], : black.shape[1]]
    fractional = write(raw, (counts - black) / span, folder / "new.dng")
    gain = fractional.white.max() / raw.white.max()
    assert gain == (1 if layout.table else 64)
    found = fractional.mosaic * span + black
    assert np.abs(found - counts).max() <= 0.51 / gain + 0.01
    outside = np.ones(raw.stored.shape, bool)
    outside[raw.area[0] : raw.area[2], raw.area[1] : raw.area[3]] = False
    np.testing.assert_array_equal(fractional.stored[outside], raw.stored[outside] * gain)

    for path in (folder / "same.dng", folder / "new.dng"):
        written = path.read_bytes()
        pointer = slice(8, 16) if layout.bigtiff else slice(4, 8)
        assert written[pointer] != original[pointer]
        assert written[: pointer.start] == original[: pointer.start]
        assert written[pointer.stop : len(original)] == original[pointer.stop :]
        if not layout.bigtiff:  # which LibRaw cannot read
            with rawpy.imread(str(path)) as libraw:
                np.testing.assert_array_equal(libraw.raw_image, read_raw(path).stored)
    assert (same.phase, same.area, same.orientation) == (raw.phase, raw.area, raw.orientation)
    assert same.noise == raw.noise


def test_tags_of_the_mosaic(tmp_path: Path) -> None:
    layout = DngLayout(
        sub_ifd=True, table=SQUARES, white=60_000, bits=10, extra=((317, 3, 1, 1), (50972, 1, 16, bytes(16)))
    )
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 300, 300), layout)
    raw = read_raw(tmp_path / "in.dng")
    noise = NoiseProfile(2e-4, 3e-7)
    write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=noise, strength=0.25, software=SOFTWARE)
    tiff = parse(tmp_path / "out.dng")
    cfa = find_cfa(tiff)
    assert {int(tag) for tag in (Tag.TILE_OFFSETS, Tag.TILE_WIDTH)} <= set(cfa.entries)
    gone = (
        Tag.STRIP_OFFSETS,
        Tag.ROWS_PER_STRIP,
        Tag.STRIP_BYTE_COUNTS,
        Tag.LINEARIZATION_TABLE,
        Tag.PREDICTOR,
    )
    for directory in (cfa, tiff.chain[0]):
        digests = (Tag.RAW_IMAGE_DIGEST, Tag.NEW_RAW_IMAGE_DIGEST, Tag.RAW_DATA_UNIQUE_ID)
        assert not set(directory.entries) & set(digests)
    assert not set(cfa.entries) & set(gone)
    assert tiff.integers(cfa, Tag.NEW_SUBFILE_TYPE) == (0,)
    assert tiff.integers(cfa, Tag.BITS_PER_SAMPLE) == (16,)
    assert tiff.integers(cfa, Tag.COMPRESSION) == (7,)
    assert tiff.numbers(cfa, Tag.NOISE_REDUCTION_APPLIED) == (Fraction(1, 4),)
    assert tiff.numbers(cfa, Tag.NOISE_PROFILE) == (2e-4, 3e-7)
    assert tiff.text(tiff.chain[0], Tag.SOFTWARE) == f"camera firmware 1.0; {SOFTWARE}"


def test_levels_are_scaled_exactly(tmp_path: Path) -> None:
    black = (Fraction(641, 10), Fraction(1, 3), 7, Fraction(64))
    layout = DngLayout(black=black, black_repeat=(2, 2))
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), layout)
    raw = read_raw(tmp_path / "in.dng")
    write(raw, raw.mosaic * 0.9, tmp_path / "out.dng")
    tiff = parse(tmp_path / "out.dng")
    assert tiff.numbers(find_cfa(tiff), Tag.BLACK_LEVEL) == tuple(64 * level for level in black)
    assert tiff.numbers(find_cfa(tiff), Tag.WHITE_LEVEL) == (64 * 1023,)


def test_second_denoising_does_not_repeat_itself(tmp_path: Path) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), DngLayout())
    raw = read_raw(tmp_path / "in.dng")
    once = write(raw, raw.mosaic * 0.9, tmp_path / "once.dng")
    write(once, once.mosaic, tmp_path / "twice.dng")
    tiff = parse(tmp_path / "twice.dng")
    assert tiff.text(tiff.chain[0], Tag.SOFTWARE) == f"camera firmware 1.0; {SOFTWARE}"
    assert len(tiff.chain[0].children) == 1  # the preview of the first pass, refreshed


@pytest.mark.parametrize("jpeg", [False, True])
def test_preview_shows_the_new_picture(tmp_path: Path, jpeg: bool) -> None:
    counts = np.rint(scene(3, 400, 600) * 900 + 64).astype(np.uint16)
    layout = DngLayout(sub_ifd=True, preview_jpeg=jpeg, phase="RGGB")
    write_layout(tmp_path / "in.dng", counts, layout)
    raw = read_raw(tmp_path / "in.dng")
    half = raw.mosaic.copy()
    half[:, 300:] = 0
    write(raw, half, tmp_path / "out.dng")
    before, after = (tifffile.imread(tmp_path / name, key=0).astype(float) for name in ("in.dng", "out.dng"))
    assert after.shape == before.shape == (100, 150, 3)
    assert np.abs(after - before)[:, 5:70].mean() < 6  # tones and framing of the original
    assert after[:, 80:, 0].max() < before[:, 80:, 0].min()


def test_added_preview_is_the_scene(tmp_path: Path) -> None:
    counts = np.rint(scene(3, 400, 600) * 900 + 64).astype(np.uint16)
    write_layout(tmp_path / "in.dng", counts, DngLayout(phase="RGGB"))
    raw = read_raw(tmp_path / "in.dng")
    half = raw.mosaic.copy()
    half[:, 300:] = 0
    write(raw, half, tmp_path / "out.dng")
    tiff = parse(tmp_path / "out.dng")
    (preview,) = tiff.chain[0].children
    at, length = (tiff.integers(preview, tag)[0] for tag in (Tag.STRIP_OFFSETS, Tag.STRIP_BYTE_COUNTS))
    pixels = imagecodecs.jpeg8_decode(bytes(tiff.data[at : at + length]))
    assert pixels.shape == (200, 300, 3)
    assert pixels[:, :140].mean() > 60
    assert pixels[:, 160:].mean() < 8
    bright = cv2.resize(raw.mosaic[::2, 1::2], (300, 200), interpolation=cv2.INTER_AREA)[:, :140]
    assert np.corrcoef(bright.ravel(), pixels[:, :140, 1].ravel())[0, 1] > 0.9


def test_an_added_preview_is_exposed_as_the_mosaic_is(tmp_path: Path) -> None:
    """RawTherapee fits its rendering to a preview: a brightened one would change the look."""
    mosaic = np.full((80, 100), 0.18, np.float32)
    np.save(tmp_path / "in.npy", mosaic)
    write(read_raw(tmp_path / "in.npy", "RGGB"), mosaic, tmp_path / "out.dng")
    with rawpy.imread(str(tmp_path / "out.dng")) as libraw:
        pixels = imagecodecs.jpeg8_decode(libraw.extract_thumb().data)
    assert np.abs(pixels.astype(int) - 118).max() <= 2  # sRGB's middle grey


def test_a_preview_keeps_the_hues_of_the_old_one(tmp_path: Path) -> None:
    """Also where curves cannot give them: the old one is warm at the left and cold at the right."""
    mosaic = scene(3, 400, 600)
    warmth = np.linspace(0.8, 1.2, 300)[None, :, None] ** np.array([-1, 0, 1])
    old = np.clip(render_plain(mosaic) * warmth, 0, 255).astype(np.uint8)
    np.save(tmp_path / "in.npy", mosaic)
    raw = read_raw(tmp_path / "in.npy", "RGGB")
    same = render(raw, raw.mosaic, 200, 300, old)
    assert np.abs(same.astype(int) - old).mean() < 3
    darker = render(raw, raw.mosaic / 2, 200, 300, old)
    assert darker.mean() < 0.8 * old.mean()
    assert render(raw, raw.mosaic * 0, 200, 300, old).max() < 8


def render_plain(mosaic: np.ndarray) -> np.ndarray:
    """A half-size picture [h,w,3] of an RGGB mosaic, 0 to 255."""
    planes = [mosaic[::2, ::2], (mosaic[::2, 1::2] + mosaic[1::2, ::2]) / 2, mosaic[1::2, 1::2]]
    return np.sqrt(np.clip(np.stack(planes, axis=2), 0, 1)) * 255


def fix_bad_pixels(constant: int) -> bytes:
    """An OpcodeList1 with one FixBadPixelsConstant."""
    return struct.pack(">LLLLLLL", 1, 4, 0x01030000, 0, 8, constant, 0)


def test_bad_pixels_keep_their_mark(tmp_path: Path) -> None:
    counts = noise_like_counts(1, 40, 40) | np.uint16(1)
    counts[5, 5] = counts[20, 31] = 0
    layout = DngLayout(black=(0,), extra=((51008, 7, 28, fix_bad_pixels(0)),))
    write_layout(tmp_path / "in.dng", counts, layout)
    raw = read_raw(tmp_path / "in.dng")
    new = write(raw, raw.mosaic * 0.99 - 0.1, tmp_path / "out.dng")
    np.testing.assert_array_equal(np.argwhere(new.stored == 0), [[5, 5], [20, 31]])
    marked = DngLayout(black=(0,), extra=((51008, 7, 28, fix_bad_pixels(1001)),))
    write_layout(tmp_path / "in.dng", counts, marked)
    raw = read_raw(tmp_path / "in.dng")
    new = write(raw, raw.mosaic + 1e-4, tmp_path / "out.dng")
    tiff = parse(tmp_path / "out.dng")
    entry = find_cfa(tiff).entries[Tag.OPCODE_LIST_1]
    assert entry.value is not None
    assert bytes(entry.value) == fix_bad_pixels(1001 * 64)
    np.testing.assert_array_equal(new.stored == 1001 * 64, counts == 1001)


def test_mark_beyond_every_count_stays_beyond(tmp_path: Path) -> None:
    layout = DngLayout(extra=((51008, 7, 28, fix_bad_pixels(65_535)),))
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), layout)
    raw = read_raw(tmp_path / "in.dng")
    wanted = raw.mosaic * np.float32(0.99)
    new = write(raw, wanted, tmp_path / "out.dng")
    assert np.abs(new.mosaic - wanted).max() < 1e-4
    tiff = parse(tmp_path / "out.dng")
    entry = find_cfa(tiff).entries[Tag.OPCODE_LIST_1]
    assert entry.value is not None
    assert bytes(entry.value) == fix_bad_pixels(65_535 * 64)


def test_opcodes_on_stored_values_forbid_a_gain(tmp_path: Path) -> None:
    table = struct.pack(">LLLLL", 1, 7, 0x01030000, 0, 4) + bytes(4)  # MapTable
    extra = ((51008, 7, len(table), table),)
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), DngLayout(extra=extra))
    raw = read_raw(tmp_path / "in.dng")
    assert write(raw, raw.mosaic * 0.9, tmp_path / "out.dng").white.max() == 1023
    curved = DngLayout(extra=extra, table=SQUARES, white=60_000)
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), curved)
    raw = read_raw(tmp_path / "in.dng")
    with pytest.raises(RawError, match="MapTable"):
        write(raw, raw.mosaic, tmp_path / "never.dng")
    assert not (tmp_path / "never.dng").exists()


def test_new_dng_of_a_plain_mosaic(tmp_path: Path) -> None:
    counts = noise_like_counts(5, 61, 80)
    (tmp_path / "in.pgm").write_bytes(b"P5 80 61 1023\n" + counts.astype(">u2").tobytes())
    raw = read_raw(tmp_path / "in.pgm", "GBRG")
    same = write(raw, raw.mosaic, tmp_path / "same.dng", NoiseProfile(1e-4, 1e-6))
    np.testing.assert_array_equal(same.stored, counts)
    np.testing.assert_array_equal(same.mosaic, raw.mosaic)
    assert (same.phase, same.noise, same.is_dng) == ("GBRG", NoiseProfile(1e-4, 1e-6), True)
    wanted = raw.mosaic * 0.5 + 0.1
    new = write(raw, wanted, tmp_path / "new.dng")
    assert np.abs(new.mosaic - wanted).max() <= 0.51 / (64 * 1023)
    with rawpy.imread(str(tmp_path / "new.dng")) as libraw:
        np.testing.assert_array_equal(libraw.raw_image, new.stored)
        assert libraw.postprocess(half_size=True).shape == (31, 40, 3)


def test_new_dng_keeps_masked_borders(tmp_path: Path) -> None:
    layout = DngLayout(phase="BGGR", area=(1, 3, 60, 76), black=(60, 61, 62, 63), black_repeat=(2, 2))
    write_layout(tmp_path / "in.dng", noise_like_counts(8, 64, 80), layout)
    raw = dataclasses.replace(read_raw(tmp_path / "in.dng"), is_dng=False, orientation=6)
    same = write(raw, raw.mosaic, tmp_path / "out.dng")
    np.testing.assert_array_equal(same.stored, raw.stored)
    np.testing.assert_array_equal(same.mosaic, raw.mosaic)
    assert (same.phase, same.area, same.orientation) == ("BGGR", (1, 3, 60, 76), 6)
    np.testing.assert_allclose(same.colour.neutral, raw.colour.neutral, atol=1e-6)
    assert same.colour.xyz_to_camera is not None
    np.testing.assert_allclose(same.colour.xyz_to_camera, raw.colour.xyz_to_camera, atol=1e-4)


def test_new_dng_of_floats_keeps_negatives(tmp_path: Path) -> None:
    mosaic = np.random.default_rng(1).uniform(-0.05, 1.05, (40, 50)).astype(np.float32)
    np.save(tmp_path / "in.npy", mosaic)
    new = write(read_raw(tmp_path / "in.npy", "RGGB"), mosaic, tmp_path / "out.dng")
    assert np.abs(new.mosaic - mosaic).max() <= 0.51 / (61_440 - 4096)


@needs_shared
def test_new_dng_of_a_camera_raw(tmp_path: Path) -> None:
    raw = read_raw(SHARED / "raw" / "kodak_dc50_grbg.kdc")
    same = write(raw, raw.mosaic, tmp_path / "out.dng")
    np.testing.assert_array_equal(same.stored, raw.stored)
    assert (same.camera, same.iso, same.phase) == (raw.camera, raw.iso, raw.phase)
    assert same.capture.taken == raw.capture.taken
    assert same.capture.f_number == pytest.approx(raw.capture.f_number)


def refused(raw: RawImage, target: Path, message: str) -> None:
    with pytest.raises(SkdnError, match=message) as caught:
        write_dng(raw, raw.mosaic, target, noise=None, software=SOFTWARE)
    assert "\n" not in str(caught.value)


def test_original_is_never_overwritten(tmp_path: Path) -> None:
    original = tmp_path / "in.dng"
    write_layout(original, noise_like_counts(1, 40, 40), DngLayout())
    before = original.read_bytes()
    raw = read_raw(original)
    (tmp_path / "symbolic.dng").symlink_to(original)
    os.link(original, tmp_path / "hard.dng")
    for name in ("in.dng", "symbolic.dng", "hard.dng", f"../{tmp_path.name}/in.dng"):
        refused(raw, tmp_path / name, "is the original")
    assert original.read_bytes() == before


def test_failures_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), DngLayout())
    raw = read_raw(tmp_path / "in.dng")
    refused(raw, tmp_path / "absent" / "out.dng", "cannot be written")
    refused(raw, tmp_path / "in.dng" / "out.dng", "cannot be written")
    (tmp_path / "folder.dng").mkdir()
    refused(raw, tmp_path / "folder.dng", "cannot be written")

    def disk_full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "old.dng").write_bytes(b"an older output")
    monkeypatch.setattr(os, "fsync", disk_full)
    refused(raw, tmp_path / "old.dng", "No space left on device")
    assert (tmp_path / "old.dng").read_bytes() == b"an older output"

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=None, software=SOFTWARE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.dng", "in.dng", "old.dng"]


def test_wrong_results_and_originals_that_changed_are_named(tmp_path: Path) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), DngLayout())
    raw = read_raw(tmp_path / "in.dng")
    with pytest.raises(RawError, match="a result of"):
        write_dng(raw, raw.mosaic[1:], tmp_path / "out.dng", noise=None, software=SOFTWARE)
    with pytest.raises(RawError, match="no numbers"):
        write_dng(raw, raw.mosaic * np.float32("nan"), tmp_path / "out.dng", noise=None, software=SOFTWARE)
    with pytest.raises(ConfigError, match="strength 2"):
        write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=None, strength=2, software=SOFTWARE)
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 48, 40), DngLayout())
    refused(raw, tmp_path / "out.dng", "changed since it was read")
    (tmp_path / "in.dng").unlink()
    refused(raw, tmp_path / "out.dng", "cannot be read again")


ADOBE_LAYOUTS = [
    DngLayout(sub_ifd=True, preview_jpeg=True),
    DngLayout(
        byteorder=">", area=(1, 3, 300, 299), black=(60, 61, 62, Fraction(127, 2)), black_repeat=(2, 2)
    ),
    DngLayout(bigtiff=True, tile=(64, 64), lossless_jpeg=True),
    DngLayout(table=SQUARES, white=60_000, bits=10, rows_per_strip=9),
]


@pytest.mark.parametrize("layout", ADOBE_LAYOUTS, ids=str)
def test_adobe_reads_it(tmp_path: Path, layout: DngLayout) -> None:
    dngpy = pytest.importorskip("dngpy", reason="Adobe's SDK comes with the dev extra on Linux")
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 303, 301), layout)
    raw = read_raw(tmp_path / "in.dng")
    for mosaic in (raw.mosaic, raw.mosaic * 0.97):
        new = write(raw, mosaic, tmp_path / "out.dng")
        adobe = dngpy.Dng(str(tmp_path / "out.dng"))
        np.testing.assert_array_equal(adobe.raw_pixels[..., 0], new.stored)
        assert adobe.get_bayer_pattern() == raw.phase


@pytest.mark.parametrize("phase", PHASES)
def test_adobe_reads_new_dngs(tmp_path: Path, phase: str) -> None:
    """Of a plain mosaic of odd sides; with masked borders, black by site and an orientation. exiftool too."""
    dngpy = pytest.importorskip("dngpy", reason="Adobe's SDK comes with the dev extra on Linux")
    layout = DngLayout(
        phase=phase, area=(3, 2, 300, 297), black=(60, 61, 62, 63), black_repeat=(2, 2), orientation=8
    )
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 303, 301), layout)
    np.save(tmp_path / "in.npy", noise_like_counts(2, 101, 143, highest=65_535))
    masked = dataclasses.replace(read_raw(tmp_path / "in.dng"), is_dng=False)
    for raw in (masked, read_raw(tmp_path / "in.npy", phase)):
        new = write(raw, raw.mosaic * 0.97, tmp_path / "out.dng", NoiseProfile(1e-4, 1e-6))
        adobe = dngpy.Dng(str(tmp_path / "out.dng"))
        np.testing.assert_array_equal(adobe.raw_pixels[..., 0], new.stored)
        assert adobe.get_bayer_pattern() == new.phase == phase
        assert (new.orientation, new.area) == (raw.orientation, raw.area)
        if shutil.which("exiftool"):
            told = exiftool("-validate", "-warning", "-error", str(tmp_path / "out.dng"))
            assert told == ["Validate                        : OK"]


SURVIVORS = {
    "OpcodeList2": (51009, 7, 28, fix_bad_pixels(1)[:16] + bytes(12)),
    "OpcodeList3": (51022, 7, 4, bytes(4)),
    "DefaultUserCrop": (51125, 5, 4, (1, 10, 1, 10, 9, 10, 9, 10)),
    "BaselineExposure": (50730, 10, 1, (1, 3)),
    "AntiAliasStrength": (50738, 5, 1, (1, 2)),
    "LensInfo": (50736, 5, 4, (24, 1, 70, 1, 28, 10, 4, 1)),
    "CameraSerialNumber": (50735, 2, 0, "12345"),
    "XMP": (700, 1, 9, b"<x:xmp/> "),
    "private": (65000, 7, 5, b"maker"),
}


@pytest.mark.parametrize("sub_ifd", [False, True])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tags_that_skdn_does_not_know_survive(tmp_path: Path, sub_ifd: bool, bigtiff: bool) -> None:
    """Opcodes, crops, lens and maker's data, read by tifffile in both files: value by value."""
    layout = DngLayout(
        sub_ifd=sub_ifd,
        bigtiff=bigtiff,
        byteorder=">",
        area=(2, 3, 78, 97),
        crop=(1, 2, 70, 90),
        orientation=6,
        extra=tuple(SURVIVORS.values()),
    )
    write_layout(tmp_path / "in.dng", noise_like_counts(3, 80, 100), layout)
    raw = read_raw(tmp_path / "in.dng")
    new = write(raw, raw.mosaic * 0.9, tmp_path / "out.dng", NoiseProfile(1e-4, 1e-6))
    before, after = (all_tags(tmp_path / name) for name in ("in.dng", "out.dng"))
    changed = {name for name in before if after.get(name) != before[name]}
    stored_anew = {"BitsPerSample", "Compression", "StripOffsets", "StripByteCounts", "RowsPerStrip"}
    assert changed <= stored_anew | {
        "BlackLevel",
        "WhiteLevel",
        "Software",
        "RawImageDigest",
        "RawDataUniqueID",
    }
    assert {code for code, *_ in SURVIVORS.values()} <= {code for code, _ in all_codes(tmp_path / "out.dng")}
    assert (new.orientation, new.crop, new.area) == (6, (1, 2, 70, 90), (2, 3, 78, 97))


def mosaic_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first directory, and the mosaic's where that is another."""
    first = file.pages[0]
    below = [page for page in first.pages or [] if page.photometric == 32803]
    return [first, *below]


def all_codes(path: Path) -> list[tuple[int, object]]:
    with tifffile.TiffFile(path) as file:
        return [(tag.code, tag.value) for page in mosaic_pages(file) for tag in page.tags]


def all_tags(path: Path) -> dict[str, object]:
    """Name -> value of every tag but pointers; the mosaic's where the preview has it too."""
    with tifffile.TiffFile(path) as file:
        tags = {tag.name: tag.value for page in mosaic_pages(file) for tag in page.tags}
    return {name: value for name, value in tags.items() if name != "SubIFDs"}


def exiftool(*arguments: str) -> list[str]:
    program = shutil.which("exiftool")
    if program is None:
        pytest.skip("exiftool is not installed (Debian: libimage-exiftool-perl)")
    run = subprocess.run([program, *arguments], capture_output=True, check=False)
    return run.stdout.decode("utf-8", "replace").splitlines()


@needs_shared
def test_nikon_loses_nothing_but_what_was_meant(tmp_path: Path) -> None:
    raw = read_raw(NIKON)
    target = tmp_path / "out.dng"
    write_dng(raw, raw.mosaic * 0.99, target, noise=NoiseProfile(1e-5, 1e-7), software=SOFTWARE)
    listing = ("-a", "-u", "-G1", "-s", "--System:all")
    before, after = (set(exiftool(*listing, str(path))) for path in (NIKON, target))
    names = {line.split(":")[0].split("]")[1].strip() for line in before - after}
    lost = {"RawDataUniqueID", "RawImageDigest"}
    storage = {"StripOffsets", "TileLength", "TileOffsets", "TileByteCounts", "WhiteLevel", "Software"}
    preview = {"PreviewImageStart", "PreviewImageLength", "PreviewImage"}
    assert names <= lost | storage | preview
    assert {line.split(":")[0].split("]")[1].strip() for line in after - before} - names == {
        "NoiseProfile",
        "NoiseReductionApplied",
    }
    assert exiftool("-validate", "-a", "-warning", str(target)) == exiftool(
        "-validate", "-a", "-warning", str(NIKON)
    )


@needs_shared
def test_nikon_develops_the_same(tmp_path: Path) -> None:
    raw = read_raw(NIKON)
    np.testing.assert_array_equal(write(raw, raw.mosaic, tmp_path / "same.dng").stored, raw.stored)
    pictures = []
    for path in (NIKON, tmp_path / "same.dng"):
        with rawpy.imread(str(path)) as libraw:
            pictures.append(libraw.postprocess(half_size=True, use_camera_wb=True))
    np.testing.assert_array_equal(*pictures)
    new = write(raw, raw.mosaic + 0.3 / 3840, tmp_path / "new.dng")  # stored at a gain
    assert new.white.max() == 16 * 3840
    with rawpy.imread(str(tmp_path / "new.dng")) as libraw:
        scaled = libraw.postprocess(half_size=True, use_camera_wb=True)
    assert np.abs(scaled.astype(int) - pictures[0]).mean() < 1  # same colours, same brightness


@needs_shared
@pytest.mark.parametrize("name", ["burst_imx296/frame_00.dng", "raw/pidng_640x480_gbrg_10bit.dng"])
def test_small_cameras(tmp_path: Path, name: str) -> None:
    raw = read_raw(SHARED / name)
    np.testing.assert_array_equal(write(raw, raw.mosaic, tmp_path / "same.dng").stored, raw.stored)
    warned = exiftool("-a", "-validate", "-warning", str(SHARED / name))[1:]  # the first line counts them
    assert set(exiftool("-a", "-validate", "-warning", str(tmp_path / "same.dng"))[1:]) <= set(warned)


@pytest.mark.parametrize("is_dng", [True, False])
def test_a_noise_profile_without_shot_noise_is_valid(tmp_path: Path, is_dng: bool) -> None:
    """Adobe's SDK and exiftool call a shot noise of 0 invalid; an estimate may find none left."""
    np.save(tmp_path / "shot.npy", scene_mosaic := np.full((64, 64), 0.25, np.float32))
    raw = read_raw(tmp_path / "shot.npy", "RGGB")
    if is_dng:
        write_dng(raw, scene_mosaic, tmp_path / "shot.dng", noise=None, software="test")
        raw = read_raw(tmp_path / "shot.dng")
    write_dng(raw, raw.mosaic, tmp_path / "out.dng", noise=NoiseProfile(0.0, 1e-8), software="test")
    written = read_raw(tmp_path / "out.dng").noise
    assert written is not None
    assert 0 < written.shot < 1e-8
