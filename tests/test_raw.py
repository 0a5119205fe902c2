"""sk_deploy.raw: every layout is read as it was written, and everything else is refused in one line."""

from __future__ import annotations

import io
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng_layouts import DngLayout, noise_like_counts, write_layout
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_deploy.bayer import PHASES
from sk_deploy.cfa import find_cfa, read_facts
from sk_deploy.dng_pixels import decode_counts
from sk_deploy.errors import RawError
from sk_deploy.raw import read_raw
from sk_deploy.tiff import Tiff

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the data beside the project are not here")
SQUARES = tuple(int((index / 1023) ** 2 * 60_000) for index in range(1024))


@pytest.mark.parametrize(
    "layout",
    [
        DngLayout(),
        DngLayout(byteorder=">"),
        DngLayout(bigtiff=True),
        DngLayout(bigtiff=True, byteorder=">", sub_ifd=True),
        DngLayout(sub_ifd=True, preview_jpeg=True),
        DngLayout(tile=(64, 48)),
        DngLayout(rows_per_strip=7),
        DngLayout(bits=8, white=255, black=(4,)),
        DngLayout(bits=10, byteorder=">"),
        DngLayout(bits=12, rows_per_strip=7),
        DngLayout(bits=14, tile=(32, 32)),
        DngLayout(lossless_jpeg=True),
        DngLayout(lossless_jpeg=True, rows_per_strip=7, byteorder=">"),
        DngLayout(lossless_jpeg=True, tile=(64, 64), bits=12),
        DngLayout(table=SQUARES, white=60_000, bits=10),
        DngLayout(table=SQUARES, white=60_000, lossless_jpeg=True, tile=(64, 64), byteorder=">"),
    ],
    ids=str,
)
def test_counts_of_every_layout(tmp_path: Path, layout: DngLayout) -> None:
    counts = noise_like_counts(1, 101, 143, highest=255 if layout.bits == 8 else 1023)
    expected = write_layout(tmp_path / "in.dng", counts, layout)
    raw = read_raw(tmp_path / "in.dng")
    np.testing.assert_array_equal(raw.stored, expected)
    black, white = float(layout.black[0]), float(layout.white or 0)
    np.testing.assert_allclose(raw.mosaic, (expected - black) / (white - black), atol=1e-6)
    assert raw.mosaic.min() < 0  # not clipped
    assert (raw.camera, raw.orientation, raw.is_dng) == ("Synthetic One", 1, True)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("origin", [(0, 0), (0, 1), (1, 0), (3, 5)])
def test_phase_and_black_count_from_the_active_area(
    tmp_path: Path, phase: str, origin: tuple[int, int]
) -> None:
    top, left = origin
    black = (10, 20, 30, Fraction(81, 2))
    layout = DngLayout(phase=phase, area=(top, left, 60, 77), black=black, black_repeat=(2, 2))
    sites = np.array(black, np.float32).reshape(2, 2)
    counts = np.full((64, 80), 7, np.uint16)
    counts[top:60, left:77] = np.tile(np.rint(sites), (32, 40))[: 60 - top, : 77 - left]
    write_layout(tmp_path / "in.dng", counts, layout)
    raw = read_raw(tmp_path / "in.dng")
    assert raw.mosaic.shape == (60 - top, 77 - left)
    assert raw.phase == phase
    np.testing.assert_array_equal(raw.black, sites)
    assert np.abs(raw.mosaic).max() < 1e-3  # each site is at its own black


def test_black_of_two_columns_and_deltas_add_up(tmp_path: Path) -> None:
    rows = tuple(Fraction(row % 5, 2) for row in range(40))
    columns = tuple(Fraction(-column, 8) for column in range(50))
    layout = DngLayout(
        black=(64, 80),
        black_repeat=(1, 2),
        black_delta_rows=rows,
        black_delta_columns=columns,
        area=(2, 3, 42, 53),
    )
    counts = noise_like_counts(2, 44, 60)
    write_layout(tmp_path / "in.dng", counts, layout)
    raw = read_raw(tmp_path / "in.dng")
    base = np.tile([64.0, 80.0], (40, 25))
    black = base + np.array(rows, float)[:, None] + np.array(columns, float)[None, :]
    np.testing.assert_allclose(raw.mosaic, (counts[2:42, 3:53] - black) / (1023 - base), atol=1e-6)


def test_facts_of_a_dng(tmp_path: Path) -> None:
    layout = DngLayout(
        noise=(1e-3, 1e-5, 2e-3, 2e-5, 3e-3, 3e-5), crop=(4, 6, 30, 40), orientation=6, white=None, bits=12
    )
    write_layout(tmp_path / "in.dng", noise_like_counts(3, 48, 64), layout)
    raw = read_raw(tmp_path / "in.dng")
    assert raw.noise is not None
    assert (raw.noise.shot, raw.noise.read) == pytest.approx((2e-3, 2e-5))
    assert raw.crop == (4, 6, 30, 40)
    assert raw.orientation == 6
    np.testing.assert_array_equal(raw.white, 4095)  # the highest 12-bit count where WhiteLevel is missing
    np.testing.assert_allclose(raw.colour.neutral, [0.5, 1, 2 / 3])
    assert raw.colour.camera_to_srgb is not None
    np.testing.assert_allclose(raw.colour.camera_to_srgb.sum(axis=1), 1, atol=1e-9)  # grey stays grey


@pytest.mark.parametrize("noise", [(), (0.0, 0.0), (1e-3,)])
def test_useless_noise_profiles_are_none(tmp_path: Path, noise: tuple[float, ...]) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(3, 48, 64), DngLayout(noise=noise))
    assert read_raw(tmp_path / "in.dng").noise is None


def test_linear_response_without_white_level_ends_at_the_table(tmp_path: Path) -> None:
    layout = DngLayout(table=SQUARES, white=None, bits=10)
    write_layout(tmp_path / "in.dng", noise_like_counts(3, 48, 64), layout)
    np.testing.assert_array_equal(read_raw(tmp_path / "in.dng").white, 60_000)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (((33421, 3, 2, (6, 6)), (33422, 1, 36, bytes(36))), "X-Trans"),
        (((33421, 3, 2, (4, 4)), (33422, 1, 16, bytes(16))), "quad-Bayer"),
        (((33422, 1, 4, bytes([0, 0, 0, 0])),), "RRRR"),
        (((50829, 4, 4, (0, 0, 900, 900)),), "active area"),
        (((50717, 4, 1, 10),), "not below white"),
        (((50711, 3, 1, 2),), "staggered"),
        (((50712, 4, 2, (0, 70_000)), (50717, 4, 1, 60_000)), "linearisation table up to 70000"),
        (((50715, 10, 2, (1, 1, 1, 1)),), "BLACK_LEVEL_DELTA_H has 2 values for 64"),
        (((50713, 3, 2, (1, 3)), (50714, 4, 3, (1, 2, 3))), "black levels"),
    ],
)
def test_dngs_that_are_no_bayer_mosaic_are_refused(
    tmp_path: Path, extra: tuple[tuple[int, int, int, object], ...], message: str
) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(4, 48, 64), DngLayout(white=None, extra=extra))
    with pytest.raises(RawError, match=message) as caught:
        read_raw(tmp_path / "in.dng")
    assert "\n" not in str(caught.value)


def test_linear_dng_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((48, 64, 3), np.uint16)
    version = [(50706, 1, 4, bytes([1, 4, 0, 0]), True)]
    tifffile.imwrite(
        tmp_path / "in.dng", pixels, photometric=34892, subfiletype=0, extratags=version, metadata=None
    )
    with pytest.raises(RawError, match="linear DNG"):
        read_raw(tmp_path / "in.dng")


@pytest.mark.parametrize("keep", [1, 6, 200, 1000, 5000])
def test_truncated_dng_is_refused(tmp_path: Path, keep: int) -> None:
    write_layout(tmp_path / "whole.dng", noise_like_counts(4, 48, 64), DngLayout(sub_ifd=True))
    (tmp_path / "in.dng").write_bytes((tmp_path / "whole.dng").read_bytes()[:keep])
    with pytest.raises(RawError):
        read_raw(tmp_path / "in.dng")


def test_absurd_dimensions_cost_no_memory(tmp_path: Path) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(4, 48, 64), DngLayout())
    data = (tmp_path / "in.dng").read_bytes()
    width = (256).to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little")
    at = data.find(width + (64).to_bytes(4, "little"))
    assert at > 0
    for claimed, message in ((2**31, "claims"), (60_000, "bytes of pixels")):
        (tmp_path / "in.dng").write_bytes(data[: at + 8] + claimed.to_bytes(4, "little") + data[at + 12 :])
        with pytest.raises(RawError, match=message):
            read_raw(tmp_path / "in.dng")


def test_missing_folder_and_empty_are_named(tmp_path: Path) -> None:
    with pytest.raises(RawError, match="no such file"):
        read_raw(tmp_path / "absent.dng")
    with pytest.raises(RawError, match="a folder"):
        read_raw(tmp_path)
    (tmp_path / "empty.dng").touch()
    with pytest.raises(RawError, match="empty file"):
        read_raw(tmp_path / "empty.dng")
    (tmp_path / "text.dng").write_text("Dear diary, this is no photograph at all." * 20)
    with pytest.raises(RawError, match="not a raw file"):
        read_raw(tmp_path / "text.dng")


@pytest.mark.parametrize("suffix", ["tif", "png", "pgm", "npy"])
def test_plain_mosaics(tmp_path: Path, suffix: str) -> None:
    counts = noise_like_counts(5, 31, 44, highest=65_535)
    path = tmp_path / f"in.{suffix}"
    _write_plain(path, counts)
    raw = read_raw(path, "GBRG")
    np.testing.assert_array_equal(raw.stored, counts)
    np.testing.assert_allclose(raw.mosaic, counts / 65_535, atol=1e-6)
    assert (raw.phase, raw.noise, raw.is_dng) == ("GBRG", None, False)
    with pytest.raises(RawError, match="--pattern"):
        read_raw(path)
    with pytest.raises(RawError, match="expected one of RGGB"):
        read_raw(path, "RGB")


def _write_plain(path: Path, counts: np.ndarray) -> None:
    height, width = counts.shape
    if path.suffix == ".tif":
        tifffile.imwrite(path, counts)
    elif path.suffix == ".png":
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(counts))
    elif path.suffix == ".pgm":
        header = f"P5\n# a comment\n{width} {height}\n65535\n".encode()
        path.write_bytes(header + counts.astype(">u2").tobytes())
    else:
        np.save(path, counts)


def test_pgm_maximum_is_white(tmp_path: Path) -> None:
    counts = noise_like_counts(6, 8, 10)
    (tmp_path / "in.pgm").write_bytes(b"P5 10 8 1023\n" + counts.astype(">u2").tobytes())
    raw = read_raw(tmp_path / "in.pgm", "RGGB")
    np.testing.assert_array_equal(raw.white, 1023)
    assert raw.mosaic.max() == 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiffs_bits_are_its_white(tmp_path: Path, bits: int, bigtiff: bool) -> None:
    """Packed by the test: rows start at whole bytes, highest bit first."""
    counts = noise_like_counts(6, 31, 44, highest=2**bits - 1)
    binary = (counts[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    packed = np.packbits(binary.astype(np.uint8).reshape(31, -1), axis=1).tobytes()
    with tifffile.TiffWriter(tmp_path / "in.tif", bigtiff=bigtiff, byteorder=">") as writer:
        kind, depth = (
            (np.uint8 if bits == 8 else np.uint16),
            {} if bits in (8, 16) else {"bitspersample": bits},
        )
        writer.write(
            iter([packed]), shape=counts.shape, dtype=kind, rowsperstrip=31, photometric="minisblack", **depth
        )
    raw = read_raw(tmp_path / "in.tif", "BGGR")
    np.testing.assert_array_equal(raw.stored, counts)
    np.testing.assert_array_equal(raw.white, 2**bits - 1)


@pytest.mark.parametrize("suffix", ["tif", "png", "pgm", "npy"])
def test_levels_of_plain_mosaics_may_be_given(tmp_path: Path, suffix: str) -> None:
    """As of 12 bits in a file of 16."""
    counts = noise_like_counts(5, 31, 44, highest=4095)
    _write_plain(tmp_path / f"in.{suffix}", counts)
    raw = read_raw(tmp_path / f"in.{suffix}", "GBRG", (240, 4000))
    np.testing.assert_array_equal(raw.stored, counts)
    np.testing.assert_allclose(raw.mosaic, (counts - 240.0) / 3760, atol=1e-6)
    with pytest.raises(RawError, match="expected black below white"):
        read_raw(tmp_path / f"in.{suffix}", "GBRG", (240, 240))
    with pytest.raises(RawError, match="expected 65535 at most"):
        read_raw(tmp_path / f"in.{suffix}", "GBRG", (240, 100_000))


@pytest.mark.parametrize("kind", ["u1", "<u2"])
def test_mosaics_without_a_header_need_their_size(tmp_path: Path, kind: str) -> None:
    counts = noise_like_counts(8, 31, 44, highest=255)
    (tmp_path / "in.raw").write_bytes(counts.astype(kind).tobytes())
    raw = read_raw(str(tmp_path / "in.raw"), "GBRG", (16, 240), (44, 31))
    assert raw.phase == "GBRG"
    np.testing.assert_array_equal(raw.stored, counts)
    np.testing.assert_allclose(raw.mosaic, (counts - 16.0) / 224, atol=1e-6)
    with pytest.raises(RawError, match=r"needs its size \(--size WxH\)"):
        read_raw(tmp_path / "in.raw", "GBRG")
    with pytest.raises(RawError, match="bytes are not 44×30 pixels"):
        read_raw(tmp_path / "in.raw", "GBRG", size=(44, 30))
    with pytest.raises(RawError, match="does not name its phase"):
        read_raw(tmp_path / "in.raw", size=(44, 31))
    with pytest.raises(RawError, match="width and height of 2 pixels or more"):
        read_raw(tmp_path / "in.raw", "GBRG", size=(-44, -31))


def test_a_length_is_no_format(tmp_path: Path) -> None:
    """LibRaw takes whatever is as long as 1920×1080 pixels of 16 bit for GBRG, white 65535.

    What is packed, as by CHDK on a PowerShot, has a length that pixels of 8 or 16 bit have not.
    """
    counts = noise_like_counts(9, 1080, 1920, highest=1023)
    (tmp_path / "in.raw").write_bytes(counts.astype("<u2").tobytes())
    with pytest.raises(RawError, match="needs its size"):
        read_raw(tmp_path / "in.raw")
    raw = read_raw(tmp_path / "in.raw", "RGGB", (0, 1023), (1920, 1080))
    assert (raw.phase, raw.white.max()) == ("RGGB", 1023)
    np.testing.assert_array_equal(raw.stored, counts)
    (tmp_path / "packed.raw").write_bytes(noise_like_counts(9, 2480, 3336 * 5 // 4, highest=255).astype("u1"))
    packed = read_raw(tmp_path / "packed.raw")
    assert (packed.stored.shape, packed.white.max()) == ((2480, 3336), 1023)


def test_levels_of_floats_and_of_what_names_its_own(tmp_path: Path) -> None:
    counts = noise_like_counts(5, 40, 44, highest=4095)
    np.save(tmp_path / "in.npy", counts.astype(np.float32))
    with pytest.raises(RawError, match="or --levels BLACK,WHITE"):
        read_raw(tmp_path / "in.npy", "GBRG")
    raw = read_raw(tmp_path / "in.npy", "GBRG", (240, 4000))
    np.testing.assert_allclose(raw.mosaic, (counts - 240.0) / 3760, atol=1e-6)
    write_layout(tmp_path / "in.dng", noise_like_counts(1, 40, 40), DngLayout(white=1000))
    assert read_raw(tmp_path / "in.dng", levels=(240, 4000)).white.max() == 1000


def test_float_arrays_are_normalised_already(tmp_path: Path) -> None:
    mosaic = np.random.default_rng(7).normal(0.3, 0.2, (20, 30)).astype(np.float32)
    np.save(tmp_path / "in.npy", mosaic)
    np.testing.assert_array_equal(read_raw(tmp_path / "in.npy", "RGGB").mosaic, mosaic)
    np.save(tmp_path / "in.npy", mosaic * 1000)
    with pytest.raises(RawError, match="black 0 and white 1"):
        read_raw(tmp_path / "in.npy", "RGGB")
    np.save(tmp_path / "in.npy", np.full((4, 4), np.nan))
    with pytest.raises(RawError, match="finite"):
        read_raw(tmp_path / "in.npy", "RGGB")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.pgm", b"P5 10 8 1023\n123"),
        ("in.pgm", b"P5 10 8 0\n123"),
        ("in.npy", b"\x93NUMPY\x01\x00nonsense"),
        ("in.png", b"\x89PNG\r\n\x1a\nnonsense"),
        ("in.tif", b"II*\0\x08\0\0\0nonsense"),
    ],
)
def test_damaged_plain_files_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RawError) as caught:
        read_raw(tmp_path / name, "RGGB")
    assert "\n" not in str(caught.value)


def test_colour_picture_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((8, 8, 3), np.uint16), photometric="rgb")
    with pytest.raises(RawError, match="one channel"):
        read_raw(tmp_path / "in.tif", "RGGB")
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 4, 4), np.float32))
    (tmp_path / "in.npy").write_bytes(buffer.getvalue())
    with pytest.raises(RawError, match="expected a finite mosaic"):
        read_raw(tmp_path / "in.npy", "RGGB")


def test_pattern_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    write_layout(tmp_path / "in.dng", noise_like_counts(4, 48, 64), DngLayout(phase="GRBG"))
    assert read_raw(tmp_path / "in.dng", "GRBG").phase == "GRBG"
    with pytest.raises(RawError, match="is GRBG, not RGGB"):
        read_raw(tmp_path / "in.dng", "RGGB")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_dngs_raise_raw_error_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "in.dng"
    layout = DngLayout(lossless_jpeg=data.draw(st.booleans()), sub_ifd=True, area=(1, 1, 40, 40), bits=12)
    write_layout(path, noise_like_counts(4, 48, 64), layout)
    damaged = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(4, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            tiff = Tiff(bytes(damaged))
            cfa = find_cfa(tiff)
            facts = read_facts(tiff, cfa)
            decode_counts(tiff, cfa, facts.height, facts.width)
        except RawError:
            pass


@needs_shared
def test_real_files() -> None:
    nikon = read_raw(SHARED / "raw" / "nikon_d5000_gbrg_12bit_ljpeg_iso200.dng")
    assert (nikon.phase, nikon.mosaic.shape, nikon.camera, nikon.iso) == (
        "GBRG",
        (2868, 4310),
        "NIKON D5000",
        200,
    )
    assert nikon.crop == (8, 8, 2852, 4294)
    frame = read_raw(SHARED / "burst_imx296" / "frame_00.dng")
    assert (frame.phase, frame.noise, frame.iso) == ("BGGR", None, 100)
    np.testing.assert_array_equal(frame.black, 60)
    kodak = read_raw(SHARED / "raw" / "kodak_dc50_grbg.kdc")
    assert (kodak.phase, kodak.is_dng, kodak.mosaic.shape) == ("GRBG", False, (512, 768))


@needs_shared
def test_decoding_here_equals_libraw() -> None:
    import rawpy

    for name in ("raw/nikon_d5000_gbrg_12bit_ljpeg_iso200.dng", "raw/pidng_640x480_gbrg_10bit.dng"):
        with rawpy.imread(str(SHARED / name)) as libraw:
            np.testing.assert_array_equal(read_raw(SHARED / name).stored, libraw.raw_image)


@needs_shared
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw/canon_6d_linear_lossy_noiseprofile_iso1000.dng", "linear DNG"),
        ("raw/iphone12pro_proraw_metadata_only_truncated.dng", "linear DNG"),
        ("raw/LICENSE.openisp.MIT", "not a raw file"),
        ("raw/openisp_1920x1080_u16le_RGGB.raw", "needs its size"),
        ("raw/infinite_isp_Outdoor3_2592x1536_8bit_GRBG.raw", "needs its size"),
    ],
)
def test_real_files_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(RawError, match=message):
        read_raw(SHARED / name)


@needs_shared
def test_truncated_camera_raw_is_refused(tmp_path: Path) -> None:
    whole = (SHARED / "raw" / "kodak_dc50_grbg.kdc").read_bytes()
    (tmp_path / "in.kdc").write_bytes(whole[:60_000])
    with pytest.raises(RawError, match="truncated or damaged"):
        read_raw(tmp_path / "in.kdc")
