"""What free methods give: non-local means and wavelets, after a generalised Anscombe transform.

The transform makes noise of variance shot · x + read look like noise of variance 1, which both expect. Its
inverse is the closed form of the exact unbiased one: M. Mäkitalo, A. Foi, *Optimal Inversion of the
Generalized Anscombe Transformation for Poisson-Gaussian Noise* (IEEE TIP 2013).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.bayer import pack, unpack
from sk_deploy.noise import NoiseProfile

from .eval_set import Picture

Array = NDArray[np.float64]


def stabilise(x: NDArray[np.float32], noise: NoiseProfile) -> Array:
    """The generalised Anscombe transform, elementwise: noise of variance 1. noise.shot > 0."""
    counts = x / noise.shot  # photo-electrons
    return 2 * np.sqrt(np.maximum(counts + 3 / 8 + noise.read / noise.shot**2, 0))


def unstabilise(stabilised: Array, noise: NoiseProfile) -> NDArray[np.float32]:
    """Mean of what `stabilise` gave -> mean of x, elementwise: no bias but at 0, which bounds it below."""
    d, root = np.maximum(stabilised, 1.0), np.sqrt(3 / 2)
    counts = d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8
    return (np.maximum(counts - noise.read / noise.shot**2, 0) * noise.shot).astype(np.float32)


def nlm(picture: Picture) -> NDArray[np.float32]:
    """OpenCV's non-local means on the four planes together (A. Buades et al., CVPR 2005).

    Patches of 3×3 packed pixels out of 11×11, strength 1.1: of patches 3 and 5, windows 11 and 21 and
    strengths in steps of 0.1 the best on McMaster-18 in the mean of the benchmark's groups, so that table
    flatters it.
    """

    def smooth(planes: Array) -> Array:
        low, scale = planes.min(), 255 / max(np.ptp(planes), 1e-6)
        bytes_ = np.rint((planes - low) * scale).astype(np.uint8)
        return cv2.fastNlMeansDenoising(bytes_, [1.1 * scale], None, 3, 11, cv2.NORM_L2) / scale + low

    return _stabilised(picture, smooth)


def wavelet(picture: Picture) -> NDArray[np.float32]:
    """Soft thresholds by BayesShrink (S. G. Chang et al., 2000) on each plane, mean over four shifts."""
    from skimage.restoration import denoise_wavelet

    def smooth(planes: Array) -> Array:
        total = np.zeros_like(planes)
        for shift in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rolled = np.roll(planes, shift, (0, 1))
            shrunk = denoise_wavelet(
                rolled, sigma=1.0, wavelet="db2", method="BayesShrink", channel_axis=2, rescale_sigma=False
            )
            total += np.roll(shrunk, (-shift[0], -shift[1]), (0, 1))
        return total / 4

    return _stabilised(picture, smooth)


CLASSICAL = {"NLM": nlm, "wavelet": wavelet}
"""Column of the quality table -> method."""


def _stabilised(picture: Picture, smooth: Callable[[Array], Array]) -> NDArray[np.float32]:
    """Apply `smooth`, planes [H/2,W/2,4] to planes, in the domain where noise has variance 1. RGGB only."""
    planes = np.ascontiguousarray(stabilise(pack(picture.noisy), picture.noise).transpose(1, 2, 0))
    return unpack(unstabilise(smooth(planes), picture.noise).transpose(2, 0, 1))
