"""Dead leaves have the statistics that make them stand in for photographs."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from sk_search.dead_leaves import dead_leaves, power_law_radii

SIZE = 128


@pytest.fixture(scope="module")
def scenes() -> torch.Tensor:
    return dead_leaves(24, SIZE, seed=5)


def test_radii_follow_the_inverse_cube() -> None:
    radii = power_law_radii(200_000, 1.0, 100.0, np.random.default_rng(0))
    assert 1 <= radii.min() < radii.max() <= 100
    counts, edges = np.histogram(radii, np.geomspace(1, 16, 9))
    density = counts / np.diff(edges)
    slope = np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(density), 1)[0]
    assert slope == pytest.approx(-3, abs=0.1)


def power_spectrum(scenes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spatial frequency in cycles a pixel, and log luminance's power there in most scenes: [SIZE,SIZE]."""
    luminance = scenes.double().mean(1).clamp_min(1e-3).log()
    luminance -= luminance.mean((1, 2), keepdim=True)
    window = torch.hann_window(SIZE, dtype=torch.float64)
    power = torch.fft.fft2(luminance * window * window[:, None]).abs().square().median(0).values
    f = torch.fft.fftfreq(SIZE, dtype=torch.float64)
    return (f.square() + f[:, None].square()).sqrt(), power


def test_the_power_spectrum_falls_like_that_of_natural_images(scenes: torch.Tensor) -> None:
    frequency, power = power_spectrum(scenes)
    edges = np.geomspace(3 / SIZE, 0.35, 8)
    rings = [(frequency >= a) & (frequency < b) for a, b in pairwise(edges)]
    levels = [[frequency[ring].log().mean(), power[ring].mean().log()] for ring in rings]
    slope = np.polyfit(*np.array(levels).T, 1)[0]
    assert -3.0 < slope < -1.6  # photographs: -2 to -3


def test_edges_are_averaged_down_not_jagged(scenes: torch.Tensor) -> None:
    frequency, power = power_spectrum(scenes)
    fine = power[(frequency >= 0.4) & (frequency < 0.5)].mean()
    coarse = power[(frequency >= 0.2) & (frequency < 0.25)].mean()
    assert fine / coarse < 0.19  # 0.14; 0.23 when drawn without supersampling


def test_colours_are_mostly_muted_and_the_range_is_wide(scenes: torch.Tensor) -> None:
    assert scenes.dtype == torch.float16
    assert 0 <= scenes.min() <= scenes.max() <= 1
    rgb = scenes.float().clamp_min(1e-4)
    saturation = 1 - rgb.amin(1) / rgb.amax(1)
    assert 0.1 < saturation.median() < 0.5
    luminance = rgb.mean(1)
    assert 0.05 < luminance.mean() < 0.4
    low, high = luminance.flatten()[::7].quantile(torch.tensor([0.02, 0.98]))
    assert high / low > 30


def test_a_scene_depends_on_its_size_seed_and_number_only(scenes: torch.Tensor) -> None:
    assert torch.equal(dead_leaves(2, SIZE, seed=5), scenes[:2])
    assert not torch.equal(dead_leaves(1, SIZE, seed=6), scenes[:1])
    assert not torch.equal(scenes[0], scenes[1])


@pytest.mark.parametrize("size", [16, 33])
def test_small_and_odd_sizes_are_drawn(size: int) -> None:
    scenes = dead_leaves(3, size, seed=0)
    assert scenes.shape == (3, 3, size, size)
    assert scenes.isfinite().all()
