"""Quick-look pictures of mosaics for reports: half size, grey-world white balance, sRGB curve."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.bayer import pack
from sk_deploy.srgb import srgb_curve

Picture = NDArray[np.uint8]


def develop_alike(mosaics: Mapping[str, NDArray[np.float32]], reference: str) -> list[tuple[str, Picture]]:
    """RGGB mosaics [H,W] -> labelled RGB pictures [H/2,W/2,3], all with the balance and exposure of one."""
    rgb = {label: _rgb(mosaic) for label, mosaic in mosaics.items()}
    gains = 1 / np.maximum(rgb[reference].mean((0, 1)), 1e-6)
    gains /= gains.min()  # a clipped highlight has the same value in every colour: it must stay white
    balanced = {label: np.clip(picture * gains, 0, 1) for label, picture in rgb.items()}
    white = max(float(np.quantile(balanced[reference].max(2), 0.995)), 1e-6)
    return [(label, _srgb(picture / white)) for label, picture in balanced.items()]


def side_by_side(pictures: list[tuple[str, Picture]], scale: int = 2) -> Picture:
    """Labelled pictures of one size in a row, enlarged without smoothing, RGB."""
    columns = []
    for label, picture in pictures:
        large = np.repeat(np.repeat(picture, scale, 0), scale, 1)
        strip = np.full((14 * scale, large.shape[1], 3), 255, np.uint8)
        start, size = (3 * scale, 10 * scale), 0.26 * scale
        cv2.putText(strip, label, start, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.vstack([strip, large]))
    return np.hstack(columns)


def _rgb(mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    red, green_r, green_b, blue = pack(np.ascontiguousarray(mosaic, np.float32))
    return np.stack([red, (green_r + green_b) / 2, blue], 2)


def _srgb(linear: NDArray[np.float32]) -> Picture:
    return np.rint(srgb_curve(np.clip(linear, 0, 1)) * 255).astype(np.uint8)
