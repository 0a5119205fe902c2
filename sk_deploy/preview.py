"""Small developed pictures of a mosaic, for the previews inside a DNG.

A quick rendering, not a raw converter: half-size planes, white balance, camera matrix, sRGB. Where the file
has a preview already, the new one keeps its tones, so that the picture changes in its noise only.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .raw_image import RawImage
from .srgb import srgb_curve

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

LONGEST_SIDE_PX = 1024
"""Of a preview that is added to a file without one."""
_QUANTILES = np.linspace(0, 1, 65)
_SAMPLE_SIDE_PX = 512
"""Of the small rendering that tones are measured on."""


def fitting_size(raw: RawImage) -> tuple[int, int]:
    """Height and width of a new preview: the default crop, at most half size and LONGEST_SIDE_PX."""
    _, _, height, width = raw.crop
    scale = min(0.5, LONGEST_SIDE_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def render(raw: RawImage, mosaic: Floats, height: int, width: int, old: Pixels | None) -> Pixels:
    """Develop `mosaic` [H,W] to sRGB [height,width,3], in sensor orientation, in tones for raw.mosaic."""
    tones = choose_tones(raw, height, width, old)
    return tones.apply(_develop(raw, mosaic, height, width))


@dataclass(frozen=True, eq=False)
class Tones:
    """One curve a channel, from linear sRGB to what is shown."""

    top: float
    """The linear value that the curves end at."""
    curves: Pixels
    """[steps,3], for values from 0 to `top`."""

    def apply(self, linear: Floats) -> Pixels:
        """Linear sRGB [h,w,3] as it is shown; what lies outside the curves takes their ends."""
        indices = (np.clip(linear / self.top, 0, 1) * (len(self.curves) - 1)).astype(np.uint16)
        return np.stack([self.curves[indices[..., channel], channel] for channel in range(3)], axis=2)


def choose_tones(raw: RawImage, height: int, width: int, old: Pixels | None) -> Tones:
    """Exposure and tones for raw.mosaic, shown at height × width.

    Where the file has a preview `old`, those that make the original look like it; else white is where the
    brightest hundredth of the picture begins.
    """
    scale = min(1, _SAMPLE_SIDE_PX / max(height, width))
    small_height, small_width = max(1, round(height * scale)), max(1, round(width * scale))
    before = _develop(raw, raw.mosaic, small_height, small_width)
    top = max(float(before.max()), 1e-6)
    steps: Floats = np.linspace(0, top, 2**16, dtype=np.float32)
    if old is None:
        bright = max(float(np.quantile(before.max(axis=2), 0.99)), 1e-6)
        curves = np.repeat(srgb_curve(steps / bright)[:, None], 3, axis=1)
    else:
        wanted: Floats = old.astype(np.float32) / np.float32(255)
        curves = _tones_of(_resize(wanted, small_height, small_width), before, steps)
    return Tones(top, np.rint(np.clip(curves, 0, 1) * 255).astype(np.uint8))


def to_linear_srgb(raw: RawImage, balanced: Floats) -> Floats:
    """White-balanced camera RGB [h,w,3] with the primaries of sRGB; still linear."""
    if raw.colour.camera_to_srgb is None:
        return balanced
    developed: Floats = balanced @ raw.colour.camera_to_srgb.T.astype(np.float32)
    return developed


def white_gains(raw: RawImage) -> Floats:
    """[3] factors that make grey surfaces grey, the least of them 1."""
    gains = (1 / raw.colour.neutral).astype(np.float32)
    balanced: Floats = gains / gains.min()
    return balanced


def encode_jpeg(pixels: Pixels, subsampling: str) -> bytes:
    """A baseline JPEG; `subsampling` "444" or "420"."""
    return bytes(imagecodecs.jpeg8_encode(pixels, level=92, subsampling=subsampling))


def _develop(raw: RawImage, mosaic: Floats, height: int, width: int) -> Floats:
    """The default crop as linear sRGB [height,width,3]."""
    camera = _resize(_half_size(raw, mosaic), height, width)
    # Where one channel is white, all are.
    return to_linear_srgb(raw, np.clip(camera * white_gains(raw), 0, 1))


def _tones_of(old: Floats, before: Floats, steps: Floats) -> Floats:
    """Three curves [steps,3], sampled at `steps`, that give `before` the distribution of `old`'s channels."""
    curves = np.empty((len(steps), 3), np.float32)
    for channel in range(3):
        found = np.quantile(before[..., channel], _QUANTILES)
        wanted = np.quantile(old[..., channel], _QUANTILES)
        curves[:, channel] = np.interp(srgb_curve(steps), srgb_curve(np.maximum(found, 0)), wanted)
    return curves


def _half_size(raw: RawImage, mosaic: Floats) -> Floats:
    """The default crop as camera RGB, one pixel for each 2×2 cell."""
    row, column = PHASES[raw.phase]
    top, left, height, width = raw.crop
    shown = mosaic[top - top % 2 : top + height, left - left % 2 : left + width]
    shown = shown[: shown.shape[0] // 2 * 2, : shown.shape[1] // 2 * 2]
    red, blue = shown[row::2, column::2], shown[1 - row :: 2, 1 - column :: 2]
    green = (shown[row::2, 1 - column :: 2] + shown[1 - row :: 2, column::2]) / 2
    return np.stack([red, green, blue], axis=2)


def _resize(picture: Floats, height: int, width: int) -> Floats:
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
