"""The free methods: variance 1 between the transform and its unbiased inverse, and noise that goes."""

from __future__ import annotations

import numpy as np
import pytest

from sk_deploy.noise import NoiseProfile
from sk_search.bench_set import LEVELS, with_noise
from sk_search.classical import CLASSICAL, stabilise, unstabilise
from sk_search.eval_set import Picture
from sk_search.quality import plane_bias, psnr_db


@pytest.mark.parametrize("noise", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("value", [0.02, 0.1, 0.6])
def test_the_transform_has_unit_variance_and_no_bias(noise: NoiseProfile, value: float) -> None:
    rng = np.random.default_rng(0)
    noisy = noise.shot * rng.poisson(value / noise.shot, 10**6) + noise.read**0.5 * rng.normal(size=10**6)
    stabilised = stabilise(noisy, noise)
    dark = value < 6 * noise.shot  # a few photo-electrons: the transform's known limit
    assert stabilised.var() == pytest.approx(1, abs=0.15 if dark else 0.02)
    inverse = unstabilise(stabilised.mean(keepdims=True), noise)[0]
    assert inverse == pytest.approx(value, rel=0.05 if dark else 0.001)
    counts = value / noise.shot
    if 3 < counts < 100:  # where the plain algebraic inverse is visibly dark
        algebraic = noise.shot * ((stabilised.mean() / 2) ** 2 - 3 / 8) - noise.read / noise.shot
        assert abs(inverse - value) < 0.2 * abs(algebraic - value)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("noise", LEVELS.values(), ids=LEVELS)
def test_noise_goes_and_edges_and_colours_stay(name: str, noise: NoiseProfile) -> None:
    clean = np.full((130, 96), 0.3, np.float32)
    clean[:, 48:] = 0.1
    clean[1::2, 1::2] *= 0.5  # blue
    noisy = with_noise(clean, noise, np.random.default_rng(1))
    out = CLASSICAL[name](Picture("edge", "", noisy, clean, "RGGB", noise, "file"))
    assert out.shape == clean.shape
    assert out.dtype == np.float32
    assert psnr_db(out, clean) > psnr_db(noisy, clean) + 5
    assert plane_bias(out, clean) < 0.02
