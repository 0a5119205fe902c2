"""PSNR and SSIM of a mosaic, peak 1, after clipping to [0,1] as a file does; its bias, before clipping."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def psnr_db(x: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
    """Of `x` [H,W] against `clean` [H,W]; 120 dB where they are equal."""
    error = np.clip(x, 0, 1).astype(np.float64) - clean
    return float(-10 * np.log10(max(np.mean(np.square(error)), 1e-12)))


def ssim(x: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
    """With the Gaussian window of Wang et al. (2004), data range 1; both [H,W], at least 11 pixels a side."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            np.clip(x, 0, 1),
            clean,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def plane_bias(x: NDArray[np.float32], clean: NDArray[np.float32]) -> float:
    """Largest error of the mean of one of the four planes, as a share of its clean mean; both [H,W].

    A mean below 0.01 counts as 0.01: in darkness the share says nothing.
    """
    biases = []
    for site in ((0, 0), (0, 1), (1, 0), (1, 1)):
        plane, truth = (mosaic[site[0] :: 2, site[1] :: 2].mean(dtype=np.float64) for mosaic in (x, clean))
        biases.append(abs(plane - truth) / max(truth, 0.01))
    return float(max(biases))
