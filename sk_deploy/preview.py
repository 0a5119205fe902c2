"""Small developed pictures of a mosaic, for the previews inside a DNG.

A quick rendering, not a raw converter: half-size planes, white balance, camera matrix, sRGB. Where the file
has a preview already, the new one keeps its tones and hues, so that the picture changes in its noise only.
That is more than looks: RawTherapee, as it comes, fits the contrast of its own rendering to the preview's.
For the same reason a preview that is added is neither brightened nor darkened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES, Sites, cut
from .raw_image import RawImage
from .srgb import srgb_curve
from .tiling import Read

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

LONGEST_SIDE_PX = 1024
"""Of a preview that is added to a file without one."""
_TAIL = np.geomspace(2e-4, 0.015, 10)
_QUANTILES = np.concatenate([[0], _TAIL, np.linspace(1 / 64, 63 / 64, 63), 1 - _TAIL[::-1], [1]])
"""Where two pictures' tones are compared: closely in the deepest shadows and brightest lights."""
_SAMPLE_SIDE_PX = 1536
"""Of the rendering that tones are measured on, at most: in a much smaller one, extremes are averaged away."""
_SAMPLES_A_SIDE = 512
"""Of its pixels, about so many are measured."""
_HUE_SCALE = 1 / 160
"""Of the longest side: where the old preview differs over more than that, the new one follows it."""
_FAINT = 8
"""Of 255: far below it, tones count for little in how two pictures differ."""
_UNIT = 4096
"""Stands for 1 where 16 bits suffice."""
_BAND_ROWS = 256
"""Of a picture that are treated at a time: floats of a whole photograph would take much memory."""


def fitting_size(raw: RawImage) -> tuple[int, int]:
    """Height and width of a new preview: the default crop, at most half size and LONGEST_SIDE_PX."""
    _, _, height, width = raw.crop
    scale = min(0.5, LONGEST_SIDE_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def render(raw: RawImage, mosaic: Floats, height: int, width: int, old: Pixels | None) -> Pixels:
    """Develop `mosaic` [H,W] to sRGB [height,width,3], in sensor orientation.

    Where the file has a preview `old`, raw.mosaic would come out like it.
    """
    after = _develop(raw, partial(cut, mosaic), height, width)
    if old is None:
        return white_at(1).apply(after)
    small_height, small_width = _sample_size(height, width)
    before = _develop(raw, raw.window, small_height, small_width)
    wanted = _resize(old.astype(np.float32), small_height, small_width)
    tones = _tones_like(wanted, before)
    hues = (wanted + _FAINT) / (tones.apply(before) + np.float32(_FAINT))
    hues = cv2.GaussianBlur(np.clip(hues, 0.5, 2), None, max(before.shape) * _HUE_SCALE)
    return tones.apply(after, cv2.resize(np.rint(hues * _UNIT).astype(np.int16), (width, height)))


@dataclass(frozen=True, eq=False)
class Tones:
    """One curve a channel, from linear sRGB to what is shown."""

    top: float
    """The linear value that the curves end at."""
    curves: Pixels
    """[steps,3], for values from 0 to `top`."""

    def apply(self, linear: Floats, hues: NDArray[np.int16] | None = None) -> Pixels:
        """Linear sRGB [h,w,3] as it is shown, times `hues` / _UNIT; outside the curves, their ends."""
        shown = np.empty(linear.shape, np.uint8)
        for row in range(0, len(linear), _BAND_ROWS):
            band = slice(row, row + _BAND_ROWS)
            indices = (np.clip(linear[band] / self.top, 0, 1) * (len(self.curves) - 1)).astype(np.uint16)
            for channel in range(3):
                shown[band, :, channel] = self.curves[indices[..., channel], channel]
            if hues is not None:
                changed = (shown[band] + np.float32(_FAINT)) * hues[band] / _UNIT - _FAINT
                shown[band] = np.rint(np.clip(changed, 0, 255))
        return shown


def white_at(linear: float) -> Tones:
    """sRGB's own tones, exposed so that `linear` is white."""
    steps: Floats = np.linspace(0, 1, 2**16, dtype=np.float32)
    return Tones(linear, np.repeat(_as_pixels(srgb_curve(steps))[:, None], 3, axis=1))


def brightest(raw: RawImage) -> float:
    """The linear value where the brightest hundredth of the default crop begins."""
    _, _, height, width = raw.crop
    before = _develop(raw, raw.window, *_sample_size(height, width))
    return max(float(np.quantile(before.max(axis=2), 0.99)), 1e-6)


def _tones_like(wanted: Floats, before: Floats) -> Tones:
    """Curves that give the linear picture `before` [h,w,3] the tones of `wanted` [h,w,3], 0 to 255."""
    top = max(float(before.max()), 1e-6)
    some = slice(None, None, max(1, max(before.shape) // _SAMPLES_A_SIDE))
    before, wanted = before[some, some], wanted[some, some]
    steps = srgb_curve(np.linspace(0, top, 2**16, dtype=np.float32))
    curves: Floats = np.empty((len(steps), 3), np.float32)
    for channel in range(3):
        found = srgb_curve(np.maximum(np.quantile(before[..., channel], _QUANTILES), 0))
        shown = np.quantile(wanted[..., channel], _QUANTILES)
        curves[:, channel] = np.interp(steps, [0, *found], [0, *shown])  # black stays black
    return Tones(top, _as_pixels(curves / np.float32(255)))


def _as_pixels(values: Floats) -> Pixels:
    pixels: Pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return pixels


def _sample_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a rendering to measure tones on."""
    scale = min(1, _SAMPLE_SIDE_PX / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


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


def _develop(raw: RawImage, read: Read, height: int, width: int) -> Floats:
    """The default crop of the mosaic that `read` reads, as linear sRGB [height,width,3]."""
    camera = _resize(_camera_rgb(raw, read, height, width), height, width)
    # Where one channel is white, all are.
    return to_linear_srgb(raw, np.clip(camera * white_gains(raw), 0, 1))


def _camera_rgb(raw: RawImage, read: Read, height: int, width: int) -> Floats:
    """The default crop as camera RGB [h,w,3], at least twice as large as height × width if it has the cells.

    A pixel is the mean of side × side cells of 2×2 sites, so that no large picture is made for a small one.
    """
    row, column = PHASES[raw.phase]
    top, left, crop_height, crop_width = raw.crop
    side = max(1, min(crop_height // 4 // height, crop_width // 4 // width))
    rows, columns = (_whole_pixels(*span, 2 * side) for span in ((top, crop_height), (left, crop_width)))
    camera = np.empty((len(rows) // (2 * side), len(columns) // (2 * side), 3), np.float32)
    pixels = max(1, _BAND_ROWS // (2 * side))
    for start in range(0, len(camera), pixels):
        band = read(rows[2 * side * start : 2 * side * (start + pixels)], columns)
        red, blue = band[row::2, column::2], band[1 - row :: 2, 1 - column :: 2]
        green = (band[row::2, 1 - column :: 2] + band[1 - row :: 2, column::2]) / 2
        for channel, cells in enumerate((red, green, blue)):
            into = camera[start : start + pixels, :, channel]
            size = into.shape[1], into.shape[0]
            into[:] = np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_AREA), np.float32)
    return camera


def _whole_pixels(first: int, size: int, side: int) -> Sites:
    """Rows or columns of a crop, from the first of a cell, in whole multiples of `side`; from the middle."""
    first, size = first - first % 2, size + first % 2
    spare = size % side // 4 * 2
    return np.arange(first + spare, first + spare + size // side * side)


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
