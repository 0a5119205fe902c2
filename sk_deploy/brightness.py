"""A denoised mosaic keeps its photons: around every pixel, the mean of its plane is that of the noisy one.

Noise of mean 0 hardly moves a mean over thousands of pixels, while a network shifts it by what it cannot
know: in shadows a few electrons deep by several percent, one colour more than another. So what is left of the
residual after averaging is given back. Where a value is cut off, at white or by a converter without a
pedestal, the mean of what is left of the noise is not 0, and is computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .devices import cpu_threads
from .noise import NoiseProfile
from .tiling import Read

_CELL = 16
"""Pixels of a plane on a side of what is summed before it is averaged."""
_CELLS = 7
"""Cells on a side of a neighbourhood: 12,544 pixels, whose own mean has 1/112 of their noise."""
_FEW = 256
"""Of a mosaic with no more pixels in a plane, half is given back: their own noise has a mean, too."""
_BAND_ROWS = 16 * _CELL
"""Rows of the mosaic that are looked at at a time: copies of no more than these are in memory."""
_SAMPLED = 4
"""One band in so many is searched for the least and the largest value: what is cut off is everywhere."""
_PILE = 1e-3
"""Of all values, so many at the least of them were cut off there; few reach it by themselves."""
_OUTLIER = 6.0
"""Standard deviations and as many electrons from the denoised, beyond which a pixel is hot: it was mended."""
_UNTOUCHED = 1e-8
"""Of the square of that bound: of a pixel that changed by less no noise was taken."""
_TAIL = 4.0
"""Standard deviations that a value may be from a limit, and be cut off."""
_STEPS = 4096
"""Of the table of what cutting off does."""
_PASSES = 2
"""Where black is cut off: what that adds depends on the clean value, so one pass goes half of the way."""
_MOST_ELECTRONS = 200
"""Up to which a cut at black follows the Poisson law itself."""

Array = NDArray[np.floating[Any]]
SITES = tuple((slice(row, None, 2), slice(column, None, 2)) for row in (0, 1) for column in (0, 1))
"""Of a mosaic's four planes."""


def keep_brightness(denoised: NDArray[np.float32], read: Read, noise: NoiseProfile, strength: float) -> None:
    """Give a denoised mosaic [H,W] of any phase the local means of the noisy one, in place.

    `read` reads the noisy one; its noise has the variance shot · x + read. `strength`: the share of the
    denoised in `denoised`; the rest is noisy still.
    """
    height, width = denoised.shape
    bands = [slice(top, min(top + _BAND_ROWS, height)) for top in range(0, height, _BAND_ROWS)]
    columns = np.arange(width)

    def noisy(band: slice) -> NDArray[np.float32]:
        return read(np.arange(band.start, band.stop), columns)

    def extremes(band: slice) -> list[tuple[float, float]]:
        """The least and the negative of the largest value, and the share of the band that has it."""
        here = noisy(band)
        return [
            (sign * float(extreme), np.count_nonzero(here == extreme) / here.size)
            for sign, extreme in ((1, here.min()), (-1, here.max()))
        ]

    with ThreadPoolExecutor(cpu_threads()) as pool:
        least, most = (_limit(found) for found in zip(*pool.map(extremes, bands[::_SAMPLED]), strict=True))
        cut = _Cut(noise, least, -most)

        def sums(band: slice) -> list[Array]:
            here, there = noisy(band), denoised[band]
            return [_sums(here[site], there[site], cut, strength) for site in SITES]

        def give_back(site: tuple[slice, slice], by_band: Sequence[Array]) -> None:
            plane = denoised[site]
            plane += _spread(np.vstack(by_band), plane.shape)

        for _ in range(_PASSES if math.isfinite(least) else 1):
            by_site = zip(*pool.map(sums, bands), strict=True)
            list(pool.map(give_back, SITES, by_site))


def _limit(found: Sequence[tuple[float, float]]) -> float:
    """Where values are cut off: the least of all bands, if enough of them have it; else minus infinity."""
    least = min(value for value, _ in found)
    share = sum(share for value, share in found if value == least) / len(found)
    return least if share > _PILE else -math.inf


class _Cut:
    """What a cut below `floor` and one above `ceiling` do to the mean of a noisy value, by its clean one."""

    def __init__(self, noise: NoiseProfile, floor: float, ceiling: float) -> None:
        self.shot, self.read = max(noise.shot, 1e-12), max(noise.read, 1e-14)
        self.least, self.most = floor if -1 < floor < 0 else 0.0, ceiling if 1 < ceiling < 2 else 1.0
        floor, ceiling = max(floor, -1.0), min(ceiling, 2.0)  # no noise reaches farther
        # By the root of the clean value: as fine in the dark as shot noise is.
        x = self.least + (self.most - self.least) * (np.arange(_STEPS) / (_STEPS - 1)) ** 2
        above = self._excess(x - ceiling, self._deviation(x))
        self.added = (self._below(floor, x) - above).astype(np.float32)

    def residual(self, noisy: Array, clean: Array) -> Array:
        """noisy - its mean, for this clean value; 0 for outliers, and for what came back as it was."""
        residual = noisy - clean
        change = residual * residual
        # 2·(σ² + shot²) is (σ + shot)² or more.
        bound = clean * np.float32(2 * _OUTLIER**2 * self.shot)
        bound += np.float32(2 * _OUTLIER**2 * (self.read + self.shot**2))
        counts = change < bound
        bound *= np.float32(_UNTOUCHED)
        counts &= change > bound
        if self.added.any():
            place = np.clip(clean - np.float32(self.least), 0, np.float32(self.most - self.least))
            place *= np.float32((_STEPS - 1) ** 2 / (self.most - self.least))
            np.sqrt(place, out=place)
            # Rounding may end one step beyond the table.
            residual -= self.added.take(place.astype(np.intp), mode="clip")
        residual *= counts
        return residual

    def _deviation(self, x: Array) -> Array:
        deviation: Array = np.sqrt(self.shot * np.maximum(x, 0) + self.read)
        return deviation

    def _below(self, floor: float, x: Array) -> Array:
        """E max(floor - X, 0) for X of clean values x: electrons, and read noise."""
        deviation = math.sqrt(self.read)
        most = (floor + _TAIL * deviation) / self.shot
        if most > _MOST_ELECTRONS:
            return self._excess(floor - x, self._deviation(x))
        electrons = np.arange(max(0, math.ceil(most)) + 1)
        mean = np.maximum(x, 1e-9 * self.shot)[:, None] / self.shot
        log_factorial = np.cumsum(np.log(np.maximum(electrons, 1)))
        probability = np.exp(electrons * np.log(mean) - mean - log_factorial)  # [_STEPS,K]
        added: Array = probability @ self._excess(floor - self.shot * electrons, np.array(deviation))
        return added

    @staticmethod
    def _excess(x: Array, deviation: Array) -> Array:
        """E max(x + noise, 0) for normal noise."""
        z = x / deviation
        above = (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2
        excess: Array = x * above + deviation * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return excess


def _sums(noisy: Array, blended: Array, cut: _Cut, strength: float) -> Array:
    """Sums of what is missing, and numbers of pixels [h,w,2], over the cells of a plane [H,W]."""
    noisy, blended = np.ascontiguousarray(noisy), np.ascontiguousarray(blended)
    clean = blended if strength == 1 else noisy + (blended - noisy) / np.float32(strength)
    missing = cut.residual(noisy, clean)
    missing *= np.float32(strength)
    height, width = missing.shape
    rows, columns = np.arange(0, height, _CELL), np.arange(0, width, _CELL)
    total = np.add.reduceat(np.add.reduceat(missing, rows, axis=0), columns, axis=1)
    number = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    return np.stack([total, number], axis=2).astype(np.float32)


def _spread(sums: Array, shape: tuple[int, ...]) -> Array:
    """Means over neighbourhoods of cells [h,w,2] (sum, number), at every pixel of a plane [H,W]."""
    around = cv2.blur(sums, (_CELLS, _CELLS), borderType=cv2.BORDER_REFLECT)
    seen = min(math.prod(shape), (_CELLS * _CELL) ** 2)
    means = around[..., 0] / around[..., 1] * np.float32(seen / (seen + _FEW))
    height, width = means.shape
    padded: Array = cv2.resize(means, (width * _CELL, height * _CELL), interpolation=cv2.INTER_LINEAR)
    return padded[: shape[0], : shape[1]]
