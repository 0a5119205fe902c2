"""The blind noise estimate against scenes whose noise is known.

Tolerances are on the predicted standard deviation, which a conditioned network uses: 4 % wherever some part
of the scene is smooth. Texture that leaves no region smooth cannot be told from noise by anyone; there the
estimate may be high (at most twofold here), but not low.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sk_deploy.batch import Result
from sk_deploy.bayer import PHASES
from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import ConfigError, RawError
from sk_deploy.models import DEFAULT_MODEL, shipped_models
from sk_deploy.noise import LEAST_READ, POSITIONS_A_SIDE, NoiseProfile, estimate_noise, looked_at
from sk_deploy.raw import read_raw

LEVELS = {
    "read-dominated": (1e-5, 1e-4),
    "low ISO": (2e-4, 2e-6),
    "ISO 1600": (3.5e-3, 4.5e-5),
    "extreme": (2e-2, 1.2e-4),
}
BURST = Path(__file__).parents[1].parent / "shared" / "data" / "burst_imx296"


def gradient(height: int = 512, width: int = 640) -> NDArray[np.float64]:
    """A plane with a slope in both directions, 0.01 to 0.8."""
    return 0.01 + 0.79 * (np.linspace(0, 0.4, height)[:, None] + np.linspace(0, 0.6, width))


def patches() -> NDArray[np.float64]:
    """A chart of 48 grey patches with hard edges, none aligned with the blocks."""
    grey = np.random.default_rng(5).permutation(np.linspace(0.005, 0.85, 48)).reshape(6, 8)
    return np.repeat(np.repeat(grey, 85, 0), 81, 1)[:508, :648]


@cache
def shapes() -> NDArray[np.float64]:
    """Occluding discs with power-law radii, two in three of them textured."""
    rng = np.random.default_rng(6)
    rows, columns = np.mgrid[:512, :640]
    scene = np.full((512, 640), 0.2)
    for radius in np.sort(np.clip(8 * rng.pareto(1.5, 300) + 4, 4, 150))[::-1]:
        inside = (rows - rng.uniform(0, 512)) ** 2 + (columns - rng.uniform(0, 640)) ** 2 < radius**2
        fine = cv2.GaussianBlur(rng.standard_normal(scene.shape), (0, 0), rng.uniform(0.8, 4))
        contrast = rng.choice([0, 0.05, 0.2]) / fine.std()
        scene[inside] = (rng.uniform(0.01, 0.6) * np.exp(contrast * fine))[inside]
    return np.clip(cv2.GaussianBlur(scene, (0, 0), 0.7), 0, 0.9)


def filtered_noise() -> NDArray[np.float64]:
    """Texture with a 1/f^1.5 amplitude over the whole picture; no region is flat."""
    spectrum = np.fft.rfft2(np.random.default_rng(7).standard_normal((512, 640)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(640))
    frequency[0, 0] = 1
    field = np.fft.irfft2(spectrum / frequency**1.5, (512, 640))
    return np.clip(0.3 + 0.12 * field / field.std(), 0.01, 0.9)


SCENES = {"gradient": gradient, "patches": patches, "shapes": shapes}


def photographed(clean: NDArray[np.float64], shot: float, read: float, bits: int = 14) -> NDArray[np.float32]:
    """Poisson-Gaussian noise, then whole raw values clipped at white; negatives are kept."""
    rng = np.random.default_rng(11)
    noisy = shot * rng.poisson(clean / shot) + np.sqrt(read) * rng.standard_normal(clean.shape)
    steps = 2**bits - 1
    return (np.minimum(np.round(noisy * steps), steps) / steps).astype(np.float32)


def std_ratio(found: NoiseProfile, shot: float, read: float, signal: float) -> float:
    """Estimated over true standard deviation at one brightness."""
    return float(np.sqrt((found.shot * signal + found.read) / (shot * signal + read)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("scene", SCENES)
def test_known_noise_is_found(scene: str, level: str) -> None:
    clean, (shot, read) = SCENES[scene](), LEVELS[level]
    found = estimate_noise(photographed(clean, shot, read))
    for share in (25, 50, 75):
        ratio = std_ratio(found, shot, read, float(np.percentile(clean, share)))
        assert abs(ratio - 1) < 0.04, f"{scene}, {level}, percentile {share}: {ratio:.3f}"


@pytest.mark.parametrize("level", LEVELS)
def test_texture_everywhere_is_never_underestimated(level: str) -> None:
    shot, read = LEVELS[level]
    ratio = std_ratio(estimate_noise(photographed(filtered_noise(), shot, read)), shot, read, 0.3)
    assert 0.95 < ratio < (1.15 if level in ("ISO 1600", "extreme") else 2), f"{level}: {ratio:.3f}"


def test_a_gradient_tells_shot_from_read() -> None:
    found = estimate_noise(photographed(gradient(1024, 1024), 2e-3, 1e-4))
    assert found.shot == pytest.approx(2e-3, rel=0.05)
    assert found.read == pytest.approx(1e-4, rel=0.2)


def test_smooth_slopes_alone_are_no_noise() -> None:
    found = estimate_noise(gradient().astype(np.float32))
    assert std_ratio(found, 0, 2e-8, 0.4) < 1  # far below one step of a 12-bit raw


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_of_a_coloured_scene(phase: str) -> None:
    """Sites of one cell differ by a factor of three: they must not be taken for noise."""
    row, column = PHASES[phase]
    gains = np.array([[0.5, 1.0], [1.0, 0.3]])
    clean = gradient() * np.tile(np.roll(gains, (row, column), (0, 1)), (256, 320))
    found = estimate_noise(photographed(clean, 1e-3, 1e-5))
    assert std_ratio(found, 1e-3, 1e-5, 0.2) == pytest.approx(1, abs=0.05)


def test_rounding_counts_as_read_noise() -> None:
    """At 10 bits the rounding (1/12 step squared) is a third of this read noise."""
    step = 1 / 1023
    found = estimate_noise(photographed(gradient() / 20, 1e-4, 2e-7, bits=10))
    assert std_ratio(found, 1e-4, 2e-7 + step**2 / 12, 0.01) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("white", [1.0, 0.9])
def test_clipping_at_white_does_not_lower_the_estimate(white: float) -> None:
    """A part of the picture is overexposed, wherever the file says white is."""
    shot, read = 5e-3, 5e-5
    mosaic = np.minimum(photographed(1.5 * gradient(), shot, read), np.float32(white))
    assert np.mean(mosaic > 0.98 * white) > 0.05
    ratio = std_ratio(estimate_noise(mosaic), shot, read, 0.4)
    assert ratio == pytest.approx(1, abs=0.06)


def test_clipping_at_black_does_not_lower_the_estimate() -> None:
    shot, read = 1e-3, 1e-3
    mosaic = np.maximum(photographed(gradient(), shot, read), 0)
    assert std_ratio(estimate_noise(mosaic), shot, read, 0.4) == pytest.approx(1, abs=0.06)


def test_hot_and_dead_pixels_are_ignored() -> None:
    mosaic = photographed(gradient(), 1e-3, 1e-5)
    rng = np.random.default_rng(3)
    mosaic[rng.integers(0, 512, 150), rng.integers(0, 640, 150)] = rng.choice([-0.03, 1.0], 150)
    assert std_ratio(estimate_noise(mosaic), 1e-3, 1e-5, 0.4) == pytest.approx(1, abs=0.05)


def test_black_borders_are_ignored() -> None:
    """Constant margins hold no noise and would pull the estimate to zero."""
    mosaic = photographed(gradient(), 1e-3, 1e-4)
    mosaic[:200] = 0
    assert std_ratio(estimate_noise(mosaic), 1e-3, 1e-4, 0.4) == pytest.approx(1, abs=0.05)


def test_a_grey_card_has_the_right_variance_where_it_is() -> None:
    """One brightness cannot tell shot from read; the variance there can still be right."""
    mosaic = photographed(np.full((512, 640), 0.3), 1e-3, 1e-5)
    assert std_ratio(estimate_noise(mosaic), 1e-3, 1e-5, 0.3) == pytest.approx(1, abs=0.03)


def test_an_underexposed_frame_below_one_step() -> None:
    """Rounded away for the most part: what is left must not be claimed to be much less noisy than it is."""
    found = estimate_noise(photographed(gradient() / 50, 1e-5, 1e-7, bits=10))
    rounding = 1 / 1023**2 / 12
    assert 0.8 < std_ratio(found, 1e-5, 1e-7 + rounding, 0.005) < 1.5


@pytest.mark.parametrize("value", [-0.01, 0.0, 0.5, 1.0])
def test_a_constant_mosaic_gets_the_least_noise(value: float) -> None:
    found = estimate_noise(np.full((64, 80), value, np.float32))
    assert found == NoiseProfile(shot=0.0, read=LEAST_READ)


def test_a_mosaic_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(RawError, match="20 x 14 pixels: expected at least 16 x 16"):
        estimate_noise(np.zeros((14, 20), np.float32))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "two values", "checks", "spikes", "dark", "not a number"]),
)
def test_any_mosaic_gets_a_valid_profile(height: int, width: int, seed: int, kind: str) -> None:
    """NoiseProfile checks itself; a warning (0/0, overflow) fails the test too."""
    rng = np.random.default_rng(seed)
    mosaic = rng.normal(0.3, 0.2, (height, width))
    if kind == "two values":
        mosaic = (mosaic > 0.4).astype(float)
    elif kind == "checks":
        mosaic = (np.indices(mosaic.shape) // 2).sum(0) % 2 * 0.9
    elif kind == "spikes":
        mosaic = (mosaic > 0.8).astype(float)
    elif kind == "dark":
        mosaic = -np.abs(mosaic) * 1e-6
    elif kind == "not a number":
        mosaic[rng.integers(height), rng.integers(width)] = np.nan
    found = estimate_noise(mosaic.astype(np.float32))
    assert found.read >= LEAST_READ


def test_profile_refuses_what_is_no_noise_level() -> None:
    for shot, read in ((0, 0), (-1e-3, 1e-3), (1, 0), (0, float("nan"))):
        with pytest.raises(ConfigError, match="not a noise level"):
            NoiseProfile(shot, read)


@pytest.mark.skipif(not BURST.is_dir(), reason="the IMX296 burst is not beside the checkout")
@pytest.mark.parametrize("frame", range(4))
def test_real_burst_within_15_percent(frame: int) -> None:
    """10-bit tripod burst whose noise was measured over ten frames: shot 9.0e-5, read variance 3e-7."""
    import rawpy

    with rawpy.imread(str(BURST / f"frame_{frame:02d}.dng")) as raw:
        mosaic = ((raw.raw_image_visible.astype(np.float32) - 60) / 963).astype(np.float32)
    found = estimate_noise(mosaic)
    assert found.shot == pytest.approx(9.0e-5, rel=0.15)
    assert found.read == pytest.approx(3e-7, rel=0.25)


@pytest.mark.skipif(not BURST.is_dir(), reason="the IMX296 burst is not beside the checkout")
@pytest.mark.skipif(DEFAULT_MODEL not in shipped_models(), reason="no default model ships yet")
def test_a_burst_frame_denoised_blindly() -> None:
    """Within 0.2 dB of the result with the measured noise."""
    raw = read_raw(BURST / "frame_00.dng")
    denoise = Denoiser.from_file(DEFAULT_MODEL, "cpu")
    clean = mean_of_the_others(raw.mosaic)
    blind, told = (
        burst_psnr_db(denoise(raw.mosaic, noise, raw.phase), raw.mosaic, clean)
        for noise in (None, NoiseProfile(9.0e-5, 3e-7))
    )
    assert told > burst_psnr_db(raw.mosaic, raw.mosaic, clean) + 10
    assert blind > told - 0.2


def mean_of_the_others(frame: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of the burst's ten frames the nine that `frame` is none of, brought to its brightness: they flicker."""
    mean = np.load(BURST / "mean_black_subtracted_f32.npy") / 963.0
    others = (10 * mean - frame) / 9
    scaled: NDArray[np.float64] = others * (np.sum(frame * others) / np.sum(others * others))
    return scaled


def burst_psnr_db(
    mosaic: NDArray[np.float32], frame: NDArray[np.float32], clean: NDArray[np.float64]
) -> float:
    """Peak at the 99.9th percentile. A tenth of the frame's error is the reference's own, and independent."""
    error = np.mean((mosaic - clean) ** 2)
    if mosaic is not frame:
        error -= np.mean((frame - clean) ** 2) / 10
    return float(-10 * np.log10(max(error, 1e-9) / np.percentile(clean, 99.9) ** 2))


def test_a_denoised_picture_is_seen_to_be_one(tmp_path: Path) -> None:
    """Below any camera's noise, and said so; no camera's own level is."""
    from skdn_cli.batch_text import line

    result = Result(tmp_path, tmp_path, "done", noise=estimate_noise(gradient().astype(np.float32)))
    assert "denoised before?" in line(replace(result, noise_source="estimate"))
    assert "denoised before?" not in line(replace(result, noise_source="given"))
    quiet = estimate_noise(photographed(gradient(), 6e-6, 1e-9))
    assert "denoised before?" not in line(replace(result, noise=quiet, noise_source="estimate"))


@pytest.mark.parametrize("shape", [(40, 70), (2101, 2330)])
def test_what_is_looked_at_is_enough(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    mosaic = (0.2 + 0.05 * rng.standard_normal(shape)).astype(np.float32)
    part = mosaic[np.ix_(*map(looked_at, shape))]
    assert part.size == min(mosaic.size, (16 * POSITIONS_A_SIDE) ** 2)
    assert estimate_noise(part) == estimate_noise(mosaic)
