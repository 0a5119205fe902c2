"""Hot and dead pixels are mended; stars, text and texture are left as they are."""

from __future__ import annotations

from math import erf
from pathlib import Path

import cv2
import numpy as np
import onnx_models as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sk_deploy import defects
from sk_deploy.batch import Options, denoise_files
from sk_deploy.defects import find_defects, mend_raw
from sk_deploy.denoiser import Denoiser
from sk_deploy.dng import write_dng
from sk_deploy.inputs import find_jobs
from sk_deploy.noise import NoiseProfile
from sk_deploy.raw import read_raw

NOISE = NoiseProfile(2e-4, 1e-6)
GAINS = np.tile(np.array([[0.5, 1.0], [1.0, 0.6]]), (128, 128))
"""RGGB: what makes one colour brighter than the next must not be taken for a defect."""

Floats = NDArray[np.float32]


def noisy(clean: NDArray[np.float64], noise: NoiseProfile = NOISE, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    deviation = np.sqrt(noise.shot * np.maximum(clean, 0) + noise.read)
    return np.minimum(clean + rng.standard_normal(clean.shape) * deviation, 1).astype(np.float32)


def slope() -> NDArray[np.float64]:
    """A coloured scene [256,256] without detail."""
    return GAINS * np.linspace(0.02, 0.5, 256)[:, None]


def apart(count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of sites on a grid of 16, shifted at random within 9 sites: no window holds two."""
    rng = np.random.default_rng(seed)
    places = rng.choice(15 * 15, count, replace=False)
    return 8 + places // 15 * 16 + rng.integers(0, 3, count), 8 + places % 15 * 16 + rng.integers(0, 3, count)


def sky(sigma_px: float, seed: int = 1, stars: int = 400) -> NDArray[np.float64]:
    """A dark coloured sky [256,256] with stars of a Gaussian spread, integrated over each pixel."""
    rng = np.random.default_rng(seed)
    edges = np.vectorize(lambda z: erf(z / (sigma_px * 2**0.5)))
    scene = np.full((256, 256), 0.01)
    for _ in range(stars):
        y, x = rng.uniform(10, 246, 2)
        rows, columns = (np.arange(int(place) - 6, int(place) + 8) for place in (y, x))
        down, across = (np.diff(edges(sites - place)) / 2 for sites, place in ((rows, y), (columns, x)))
        colour = np.tile([[np.exp(rng.normal(0, 0.4)), 1.0], [1.0, np.exp(rng.normal(0, 0.4))]], (7, 7))
        roll = (-rows[0] % 2, -columns[0] % 2)
        light = np.exp(rng.uniform(np.log(0.05), np.log(3))) * np.outer(down, across)
        scene[np.ix_(rows[:-1], columns[:-1])] += light * np.roll(colour, roll, (0, 1))[:13, :13]
    return np.minimum(scene * GAINS, 1.0)


def text() -> NDArray[np.float64]:
    """Small letters, black on grey and grey on black, with no lens between [256,256]."""
    page = np.full((256, 256), 128, np.uint8)
    page[128:] = 5
    for line in range(15):
        ink, size = 2 if line < 8 else 150, 0.8 + line % 3 / 5
        cv2.putText(page, "i, j: ... fox!?", (3, 14 + 16 * line), cv2.FONT_HERSHEY_PLAIN, size, ink, 1)
    return page / 255.0


@pytest.mark.parametrize("level", [0.08, 0.3, 1.0])
def test_hot_pixels_are_found_and_nothing_else(level: float) -> None:
    mosaic = noisy(slope())
    rows, columns = apart(60, 2)
    mosaic[rows, columns] = np.minimum(mosaic[rows, columns] + level, 1)
    found = find_defects(mosaic, NOISE)
    wanted = set(zip(rows.tolist(), columns.tolist(), strict=True))
    got = set(zip(found.rows.tolist(), found.columns.tolist(), strict=True))
    assert got <= wanted
    assert len(got) >= 0.9 * len(wanted)


def test_dead_pixels_are_found() -> None:
    mosaic = noisy(slope() + 0.1)
    rows, columns = apart(60, 3)
    mosaic[rows, columns] = noisy(np.zeros(60))
    assert len(find_defects(mosaic, NOISE)) >= 55


def test_two_neighbours_of_one_colour_are_found() -> None:
    mosaic = noisy(slope())
    rows, columns = apart(40, 4)
    for shift in (0, 2):
        mosaic[rows, columns + shift] = 0.9
    assert len(find_defects(mosaic, NOISE)) >= 0.9 * 80


def test_what_is_mended_is_as_good_as_its_neighbours() -> None:
    clean = slope()
    mosaic = noisy(clean)
    rows, columns = apart(60, 5)
    mosaic[rows, columns] = 1.0
    before = mosaic.copy()
    found = find_defects(mosaic, NOISE)
    found.mend(mosaic)
    error = (mosaic - clean)[rows, columns] / np.sqrt(NOISE.shot * clean[rows, columns] + NOISE.read)
    assert np.abs(error).max() < 4
    before[rows, columns] = mosaic[rows, columns]
    np.testing.assert_array_equal(mosaic, before)  # nowhere else


@pytest.mark.parametrize("sigma_px", [0.8, 1.0, 1.5])
@pytest.mark.parametrize("noise", [NoiseProfile(1e-5, 1e-8), NOISE, NoiseProfile(3.5e-3, 4.5e-5)])
def test_stars_stay(sigma_px: float, noise: NoiseProfile) -> None:
    assert len(find_defects(noisy(sky(sigma_px), noise), noise)) == 0


@pytest.mark.parametrize("noise", [NoiseProfile(1e-5, 1e-8), NOISE, NoiseProfile(3.5e-3, 4.5e-5)])
def test_sharp_text_stays(noise: NoiseProfile) -> None:
    assert len(find_defects(noisy(text(), noise), noise)) == 0


@pytest.mark.parametrize("noise", [NoiseProfile(1e-5, 1e-8), NOISE, NoiseProfile(3e-2, 1e-4)])
def test_noise_alone_holds_no_defect(noise: NoiseProfile) -> None:
    """Photo-electrons one by one in the dark; and with twice the noise that was said, next to none."""
    rng = np.random.default_rng(8)
    photons = noise.shot * rng.poisson(0.02 / noise.shot, (256, 256))
    dark = photons + np.sqrt(noise.read) * rng.standard_normal(photons.shape)
    assert len(find_defects(dark.astype(np.float32), noise)) == 0
    more = NoiseProfile(4 * noise.shot, 4 * noise.read)
    assert len(find_defects(noisy(slope(), more), noise)) < 1e-4 * dark.size


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 70),
    strip=st.sampled_from([8, 16, 34, 128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_strips_change_nothing(height: int, width: int, strip: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mosaic = noisy(np.full((height, width), 0.1), seed=seed)
    spoilt = rng.random(mosaic.shape) < 0.004
    mosaic[spoilt] = rng.choice([0.0, 0.5, 1.0], spoilt.sum())
    whole = find_defects(mosaic, NOISE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defects, "STRIP", strip)
        parts = find_defects(mosaic, NOISE)
    for name in ("rows", "columns", "pairs"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_not_a_number_is_no_defect() -> None:
    mosaic = noisy(slope())
    mosaic[40:50, 40:50] = np.nan
    assert len(find_defects(mosaic, NOISE)) == 0


def write_shot(path: Path) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """A DNG with 12 hot pixels, whose noise it states."""
    mosaic = noisy(slope())
    rows, columns = apart(12, 6)
    mosaic[rows, columns] = 0.9
    np.save(path.with_suffix(".npy"), np.clip(np.rint(mosaic * 65535), 0, 65535).astype(np.uint16))
    raw = read_raw(path.with_suffix(".npy"), "RGGB")
    write_dng(raw, raw.mosaic, path, noise=NOISE, software="test")
    path.with_suffix(".npy").unlink()
    return rows, columns


def test_a_raw_is_mended_in_whole_counts(tmp_path: Path) -> None:
    rows, columns = write_shot(tmp_path / "shot.dng")
    raw, before = read_raw(tmp_path / "shot.dng"), read_raw(tmp_path / "shot.dng").stored
    assert mend_raw(raw, NOISE) == 12
    changed = raw.stored != before
    assert set(zip(*np.nonzero(changed), strict=True)) == set(zip(rows, columns, strict=True))
    assert raw.mosaic[rows, columns].max() < 0.6


@pytest.mark.parametrize("blind", [True, False])
def test_denoising_mends_and_says_so(tmp_path: Path, blind: bool) -> None:
    rows, columns = write_shot(tmp_path / "shot.dng")
    make = models.identity if blind else models.noise_adder
    denoiser = Denoiser.from_file(make(tmp_path / "model.onnx"), "cpu")
    (result,) = denoise_files(denoiser, find_jobs([tmp_path / "shot.dng"]), Options())
    assert (result.message, result.status, result.defects) == ("", "done", 12)
    assert read_raw(result.target).mosaic[rows, columns].max() < 0.6
    (untouched,) = denoise_files(
        denoiser, find_jobs([tmp_path / "shot.dng"]), Options(strength=0, force=True)
    )
    assert untouched.defects == 0
    assert read_raw(result.target).mosaic[rows, columns].min() > 0.8
