"""What a denoised mosaic is written as, beside DNG: mosaics that read back, and pictures that look right."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import rawpy
import tifffile
from dng_layouts import DngLayout, noise_like_counts, scene, write_layout

from sk_deploy.bayer import PHASES
from sk_deploy.developed import develop, upright
from sk_deploy.errors import RawError
from sk_deploy.formats import ENCODERS
from sk_deploy.noise import NoiseProfile
from sk_deploy.output import write_output
from sk_deploy.raw import RawImage, read_raw
from sk_deploy.treatment import Treatment

SHARED = Path(__file__).parents[1].parent / "shared" / "data"
NIKON = SHARED / "raw" / "nikon_d5000_gbrg_12bit_ljpeg_iso200.dng"
TREATMENT = Treatment(NoiseProfile(1e-4, 1e-6), 1.0, "skdn test")


def write(raw: RawImage, mosaic: np.ndarray, target: Path) -> Path:
    write_output(ENCODERS[target.suffix[1:]], raw, mosaic.astype(np.float32), target, TREATMENT)
    return target


def read_layout(path: Path, counts: np.ndarray, layout: DngLayout) -> RawImage:
    write_layout(path, counts, layout)
    return read_raw(path)


LAYOUTS = [
    DngLayout(),
    DngLayout(phase="GBRG", area=(1, 3, 60, 76), black=(60, 61, 62, Fraction(127, 2)), black_repeat=(2, 2)),
    DngLayout(black_delta_rows=tuple(Fraction(n % 3) for n in range(64)), bits=10, byteorder=">"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "masked borders", "black by rows"])
def test_a_tiff_reads_back_and_names_its_levels(tmp_path: Path, layout: DngLayout) -> None:
    """By skdn, which needs no pattern for it, and by tifffile, from the tags alone."""
    raw = read_layout(tmp_path / "in.dng", noise_like_counts(1, 64, 80), layout)
    wanted = raw.mosaic * 0.9 + 0.03
    target = write(raw, wanted, tmp_path / "out.tiff")
    again = read_raw(target)
    half_step = 0.51 / (64 * (1023 - 64))
    assert np.abs(again.mosaic - wanted).max() <= half_step
    assert (again.phase, again.noise) == (raw.phase, TREATMENT.noise)
    with tifffile.TiffFile(target) as file:
        tags, counts = {tag.name: tag.value for tag in file.pages[0].tags}, file.asarray()
    assert (counts.dtype, counts.shape) == (np.uint16, raw.shape)
    rationals = np.array(tags["BlackLevel"], float).reshape(2, 2, 2)
    black = np.tile(rationals[..., 0] / rationals[..., 1], (40, 40))[: counts.shape[0], : counts.shape[1]]
    normalised = (counts - black) / (tags["WhiteLevel"] - black)
    assert np.abs(normalised - wanted).max() <= half_step
    assert "".join("RGB"[code] for code in tags["CFAPattern"]) == raw.phase


def test_a_tiff_of_whole_counts_has_those_of_the_file(tmp_path: Path) -> None:
    raw = read_layout(tmp_path / "in.dng", noise_like_counts(1, 64, 80), DngLayout())
    again = read_raw(write(raw, raw.mosaic, tmp_path / "out.tiff"), "RGGB")
    np.testing.assert_array_equal(again.stored, raw.stored)
    np.testing.assert_array_equal(again.mosaic, raw.mosaic)
    with pytest.raises(RawError, match="its mosaic is RGGB, not BGGR"):
        read_raw(tmp_path / "out.tiff", "BGGR")


def test_an_array_is_the_mosaic_bit_for_bit(tmp_path: Path) -> None:
    raw = read_layout(tmp_path / "in.dng", noise_like_counts(1, 64, 80), LAYOUTS[1])
    wanted = (raw.mosaic * 1.1 - 0.05).astype(np.float32)  # below black and above white
    target = write(raw, wanted, tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(target), wanted)
    np.testing.assert_array_equal(read_raw(target, raw.phase).mosaic, wanted)


def coloured(phase: str, height: int, width: int) -> np.ndarray:
    """A mosaic of a scene that is red, green and blue from left to right, and black at the top."""
    colours = np.zeros((height, width, 3), np.float32)
    for channel in range(3):
        colours[height // 4 :, channel * width // 3 : (channel + 1) * width // 3, channel] = 0.6
    row, column = PHASES[phase]
    mosaic = colours[..., 1].copy()
    mosaic[row::2, column::2] = colours[row::2, column::2, 0]
    mosaic[1 - row :: 2, 1 - column :: 2] = colours[1 - row :: 2, 1 - column :: 2, 2]
    return mosaic


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("form", ["png", "jpg"])
def test_colours_of_every_phase(tmp_path: Path, phase: str, form: str) -> None:
    np.save(tmp_path / "in.npy", coloured(phase, 64, 99))
    raw = read_raw(tmp_path / "in.npy", phase)
    picture = cv2.imread(str(write(raw, raw.mosaic, tmp_path / f"out.{form}")))[..., ::-1].astype(int)
    assert picture.shape == (64, 99, 3)
    for channel in range(3):
        patch = picture[30:50, 33 * channel + 8 : 33 * channel + 25]
        assert patch[..., channel].min() > 240
        assert np.delete(patch, channel, axis=2).max() < 16
    assert picture[:10].max() < 16


def test_pictures_are_cropped_and_turned(tmp_path: Path) -> None:
    """DefaultCrop counts from the active area; the orientation is applied, not noted."""
    counts = np.rint(coloured("RGGB", 64, 100) * 959 + 64).astype(np.uint16)
    layout = DngLayout(area=(2, 4, 62, 98), crop=(3, 5, 50, 81), orientation=6)
    raw = read_layout(tmp_path / "in.dng", counts, layout)
    picture = cv2.imread(str(write(raw, raw.mosaic, tmp_path / "out.png")))[..., ::-1]
    assert picture.shape == (81, 50, 3)
    unturned = develop(dataclasses.replace(raw, orientation=1), raw.mosaic)
    np.testing.assert_array_equal(picture, cv2.rotate(unturned, cv2.ROTATE_90_CLOCKWISE))
    whole = develop(dataclasses.replace(raw, orientation=1, crop=(0, 0, *raw.shape)), raw.mosaic)
    assert np.abs(whole[3:53, 5:86].astype(int) - unturned).mean() < 8  # exposure is chosen for what is shown
    assert whole.shape == (60, 94, 3)


TURNS = {
    1: lambda picture: picture,
    2: lambda picture: cv2.flip(picture, 1),
    3: lambda picture: cv2.rotate(picture, cv2.ROTATE_180),
    4: lambda picture: cv2.flip(picture, 0),
    5: cv2.transpose,
    6: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE),
    7: lambda picture: cv2.rotate(cv2.transpose(picture), cv2.ROTATE_180),
    8: lambda picture: cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation(orientation: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(upright(picture, orientation), TURNS[orientation](picture))


def test_the_exposure_is_the_originals(tmp_path: Path) -> None:
    """So that what a denoiser made darker is seen to be darker."""
    np.save(tmp_path / "in.npy", scene(1, 80, 120))
    raw = read_raw(tmp_path / "in.npy", "RGGB")
    assert develop(raw, raw.mosaic / 2).mean() < 0.8 * develop(raw, raw.mosaic).mean()


def test_a_mosaic_too_small_to_develop(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", scene(1, 20, 40))
    raw = read_raw(tmp_path / "in.npy", "RGGB")
    with pytest.raises(RawError, match="40×20 pixels, LibRaw develops 22×22 up"):
        write(raw, raw.mosaic, tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_a_real_photograph_looks_as_libraw_shows_it() -> None:
    if not NIKON.exists():
        pytest.skip(f"{NIKON.name} is not beside this checkout")
    raw = read_raw(NIKON)
    ours = develop(raw, raw.mosaic)
    assert ours.shape == (2852, 4294, 3)
    with rawpy.imread(str(NIKON)) as libraw:
        theirs = libraw.postprocess(use_camera_wb=True)[8:-8, 8:-8]
    small = [cv2.resize(picture, (429, 285), interpolation=cv2.INTER_AREA) for picture in (ours, theirs)]
    for channel in range(3):
        a, b = (picture[..., channel].ravel().astype(float) for picture in small)
        assert np.corrcoef(a, b)[0, 1] > 0.99
        assert abs(a.mean() - b.mean()) < 10
