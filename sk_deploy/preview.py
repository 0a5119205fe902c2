"""Small developed pictures of a mosaic, for the previews inside a DNG.

A quick rendering, not a raw converter: half-size planes, white balance, camera matrix, sRGB. Where the file
has a preview already, the new one takes over its tones, so that the picture changes in its noise only.
"""

from __future__ import annotations

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .raw_image import RawImage

Pixels = NDArray[np.uint8]

LONGEST_SIDE_PX = 1024
"""Of a preview that is added to a file without one."""
_QUANTILES = np.linspace(0, 1, 65)


def fitting_size(raw: RawImage) -> tuple[int, int]:
    """Height and width of a new preview: the default crop, at most half size and LONGEST_SIDE_PX."""
    _, _, height, width = raw.crop
    scale = min(0.5, LONGEST_SIDE_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def render(raw: RawImage, mosaic: NDArray[np.float32], height: int, width: int, old: Pixels | None) -> Pixels:
    """Develop `mosaic` [H,W] to sRGB [height,width,3], in sensor orientation, with the tones of `old`."""
    camera = _resize(_half_size(raw, mosaic), height, width)
    gains = 1 / raw.colour.neutral
    balanced = np.clip(camera * (gains / gains.min()).astype(np.float32), 0, 1)
    if raw.colour.camera_to_srgb is not None:
        balanced = balanced @ raw.colour.camera_to_srgb.T.astype(np.float32)
    bright = float(np.quantile(balanced.max(axis=2), 0.99))
    linear = np.maximum(balanced / max(bright, 1e-6), 0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    srgb = np.minimum(srgb, 1) if old is None else _with_tones_of(srgb, old)
    pixels: Pixels = np.rint(srgb * 255).astype(np.uint8)
    return pixels


def encode_jpeg(pixels: Pixels, subsampling: str) -> bytes:
    """A baseline JPEG; `subsampling` "444" or "420"."""
    return bytes(imagecodecs.jpeg8_encode(pixels, level=92, subsampling=subsampling))


def _half_size(raw: RawImage, mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    """The default crop as camera RGB, one pixel for each 2×2 cell."""
    row, column = PHASES[raw.phase]
    top, left, height, width = raw.crop
    shown = mosaic[top - top % 2 : top + height, left - left % 2 : left + width]
    shown = shown[: shown.shape[0] // 2 * 2, : shown.shape[1] // 2 * 2]
    red, blue = shown[row::2, column::2], shown[1 - row :: 2, 1 - column :: 2]
    green = (shown[row::2, 1 - column :: 2] + shown[1 - row :: 2, column::2]) / 2
    return np.stack([red, green, blue], axis=2)


def _resize(picture: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Scale to [height,width,3] without distortion; what does not fit is cut off evenly."""
    found_height, found_width = picture.shape[:2]
    keep_width = min(found_width, max(1, round(found_height * width / height)))
    keep_height = min(found_height, max(1, round(found_width * height / width)))
    if found_width - keep_width <= 0.02 * found_width and found_height - keep_height <= 0.02 * found_height:
        keep_width, keep_height = found_width, found_height
    top, left = (found_height - keep_height) // 2, (found_width - keep_width) // 2
    kept = picture[top : top + keep_height, left : left + keep_width]
    smaller = height <= keep_height and width <= keep_width
    scaled = cv2.resize(kept, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(scaled, np.float32).reshape(height, width, 3)


def _with_tones_of(srgb: NDArray[np.float32], old: Pixels) -> NDArray[np.float32]:
    """Give each channel the distribution of `old`'s."""
    matched = np.empty_like(srgb)
    for channel in range(3):
        found = np.quantile(srgb[..., channel], _QUANTILES)
        wanted = np.quantile(old[..., channel], _QUANTILES) / 255
        matched[..., channel] = np.interp(srgb[..., channel], found, wanted)
    return matched
