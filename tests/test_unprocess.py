"""One camera both ways: what is undone is what developing does, and white is white at every site."""

from __future__ import annotations

import numpy as np
import pytest

from sk_deploy.bayer import pack
from sk_deploy.srgb import srgb_curve
from sk_search.unprocess import CAMERA_TO_SRGB, WHITE_BALANCE, develop, linear_light, to_mosaic


def flat(colour: tuple[float, float, float]) -> np.ndarray:
    return np.broadcast_to(np.array(colour), (16, 16, 3))


def test_linear_light_undoes_the_curves() -> None:
    display = np.linspace(0, 1, 1001)
    curved = srgb_curve(linear_light(display))
    np.testing.assert_allclose(curved**2 * (3 - 2 * curved), display, atol=1e-4)  # sRGB's two pieces


@pytest.mark.parametrize("colour", [(0.5, 0.5, 0.5), (0.7, 0.3, 0.2), (0.2, 0.4, 0.6), (0.03, 0.02, 0.04)])
def test_developing_gives_the_colour_back(colour: tuple[float, float, float]) -> None:
    developed = develop(to_mosaic(linear_light(flat(colour))))
    np.testing.assert_allclose(developed, np.rint(255 * flat(colour)), atol=1)


def test_each_site_holds_its_own_colour() -> None:
    linear = flat((0.3, 0.2, 0.1))
    red, green, blue = np.linalg.inv(CAMERA_TO_SRGB) @ (0.3, 0.2, 0.1) / WHITE_BALANCE
    planes = pack(to_mosaic(linear))
    for plane, value in zip(planes, (red, green, green, blue), strict=True):
        np.testing.assert_allclose(plane, value, rtol=1e-6)


def test_white_is_one_at_every_site() -> None:
    np.testing.assert_allclose(to_mosaic(flat((1, 1, 1))), 1, atol=1e-6)


def test_the_lens_blurs_the_scene_before_it_is_sampled() -> None:
    linear = np.zeros((33, 33, 3))
    linear[16, 16] = 0.5
    sharp, soft = to_mosaic(linear), to_mosaic(linear, blur=1.0)
    assert sharp.shape == (32, 32)
    assert np.count_nonzero(sharp) == 1
    weight = np.exp(-(np.hypot(*np.mgrid[-16:16, -16:16]) ** 2) / 2) / (
        2 * np.pi
    )  # exact but for the cut-off
    camera = np.clip(np.linalg.inv(CAMERA_TO_SRGB) @ (0.5, 0.5, 0.5), 0, 1)
    green = np.s_[::2, 1::2]
    np.testing.assert_allclose(soft[green], camera[1] * weight[green], atol=2e-3)
