"""What denoising does to the means of planes."""

from functools import partial

import numpy as np
import pytest

from sk_deploy import Denoiser, NoiseProfile
from sk_deploy.bayer import cut
from sk_deploy.brightness import SITES, keep_brightness

NOISE = NoiseProfile(7e-3, 1.8e-4)
RNG = np.random.default_rng


def photograph(shape, least=0.02, most=0.6):
    """Smooth, every plane another brightness."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    light = least + (most - least) * (0.5 + 0.25 * np.sin(5 * y)[:, None] + 0.25 * np.cos(4 * x))
    for share, site in zip((0.5, 1, 1, 0.7), SITES, strict=True):
        light[site] *= share
    return light.astype(np.float32)


def photographed(clean, noise, seed=0):
    rng = RNG(seed)
    electrons = rng.poisson(clean / noise.shot) if noise.shot else clean
    return (electrons * (noise.shot or 1) + np.sqrt(noise.read) * rng.standard_normal(clean.shape)).astype(
        np.float32
    )


def kept(denoised, noisy, noise=NOISE, strength=1.0):
    result = denoised.copy()
    keep_brightness(result, partial(cut, noisy), noise, strength)
    return result


def biases(x, clean):
    return np.array([x[site].mean() / clean[site].mean() - 1 for site in SITES])


@pytest.mark.parametrize("shape", [(512, 768), (333, 501)])
def test_a_shift_of_each_colour_is_undone(shape):
    clean = photograph(shape)
    noisy, shifted = photographed(clean, NOISE), clean.copy()
    for shift, site in zip((0.95, 1.02, 1.0, 1.05), SITES, strict=True):
        shifted[site] *= shift
    result = kept(shifted, noisy)
    np.testing.assert_allclose(biases(result, clean), biases(noisy, clean), atol=1.5e-3)
    assert np.abs(biases(result, clean)).max() < 0.005


def test_what_is_right_stays_right():
    clean = photograph((512, 768))
    change = kept(clean, photographed(clean, NOISE)) - clean
    assert change.std() < 1.5 * np.sqrt(NOISE.shot * 0.6 + NOISE.read) / 112


def test_a_shift_is_undone_where_it_is():
    clean = photograph((1024, 1024))
    shifted = clean.copy()
    shifted[:, 512:] += 0.01
    change = kept(shifted, photographed(clean, NOISE)) - shifted
    assert abs(change[:, :384].mean()) < 5e-4
    assert change[:, 640:].mean() == pytest.approx(-0.01, abs=5e-4)


@pytest.mark.parametrize("read", [1e-8, 5e-5, 1e-3])
def test_a_cut_at_black_is_known(read):
    """Without a pedestal half of the noise of what is black is missing, and what is left has a mean."""
    noise = NoiseProfile(2e-3, read)
    clean = photograph((512, 512), 0.0, 0.01)
    noisy = np.maximum(photographed(clean, noise), 0)
    assert abs(kept(clean, noisy, noise).mean() / clean.mean() - 1) < 0.02
    foggy = clean + 0.3 * (noisy.mean() - clean.mean())
    assert (
        abs(kept(foggy, noisy, noise).mean() - clean.mean()) <= 0.4 * abs(foggy.mean() - clean.mean()) + 1e-5
    )


def test_a_cut_at_white_is_known():
    clean = np.minimum(photograph((512, 512), 0.5, 1.6), 1)
    noisy = np.minimum(photographed(clean, NOISE), 1)
    assert biases(noisy, clean).min() < -0.005
    denoised = np.minimum(clean, np.float32(0.9999))
    assert np.abs(biases(kept(denoised, noisy), clean)).max() < 0.002


def test_the_least_of_what_is_not_cut_off_is_no_limit():
    """A level stated four times too high reaches the least values; they are its own noise, and rare."""
    clean = photograph((512, 512), 0.0, 0.2)
    noisy = photographed(clean, NoiseProfile(2e-5, 1e-6))
    change = kept(clean, noisy, NoiseProfile(3.2e-4, 1.6e-5)) - clean
    assert np.abs(change).max() < 2e-4


def test_a_mended_hot_pixel_gives_nothing_back():
    clean = photograph((512, 512), 0.001, 0.003)
    noisy = photographed(clean, NOISE)
    hot = noisy.copy()
    hot[RNG(1).random(hot.shape) < 1e-3] += 0.5
    np.testing.assert_allclose(kept(clean, hot), kept(clean, noisy), atol=2e-5)


def test_what_came_back_as_it_was_stays_so():
    """Also where it is cut off."""
    noisy = np.clip(photographed(photograph((128, 256), 0.0, 1.2), NOISE), 0, 1)
    np.testing.assert_array_equal(kept(noisy, noisy), noisy)


def test_a_blend_keeps_its_share():
    clean = photograph((256, 256))
    noisy, shifted = photographed(clean, NOISE), clean * np.float32(1.03)
    half = (shifted + noisy) / 2
    expected = (kept(shifted, noisy) + noisy) / 2
    np.testing.assert_allclose(kept(half, noisy, strength=0.5), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 129), (33, 35)])
def test_any_size(shape):
    """Few pixels have a mean that is noise."""
    clean = photograph(shape)
    noisy = photographed(clean, NOISE)
    result = kept(clean, noisy)
    assert result.shape == shape
    assert np.square(result - clean).mean() < 0.1 * np.square(noisy - clean).mean()


@pytest.mark.parametrize("noise", [NoiseProfile(0, 1e-12), NoiseProfile(0, 1e-4), NoiseProfile(1e-2, 0)])
def test_any_noise(noise):
    clean = photograph((128, 128))
    assert np.abs(kept(clean, photographed(clean, noise), noise) - clean).max() < 0.02


def test_a_denoised_photograph_has_the_photons_of_the_noisy_one():
    """Where few electrons are, a network alone is percents away."""
    clean = photograph((512, 512), 0.001, 0.02)
    noise = NoiseProfile(2e-2, 1.2e-4)
    noisy = photographed(clean, noise)
    result = Denoiser.from_file("nano", "cpu")(noisy, noise)
    np.testing.assert_allclose(biases(result, clean), biases(noisy, clean), atol=3e-3)
