"""Hot and dead pixels, mended before a network sees them.

A network that has learnt to keep fine detail keeps a lone bright pixel too. What sets a defect apart is that
light never falls on one pixel alone: a lens spreads a star or a glint over its neighbours, whatever their
colours. So a site is mended only if all of this holds, each against the noise that is known of the picture:

* it differs from its own colour around it by more than noise does (`OUTLIER` sigma);
* its neighbours of all colours do not rise or fall with it, as they would with a star;
* nothing like it is near: in a window of 13 x 13 sites at most one other differs from its surroundings by a
  quarter as much, so that texture, text and edges are left alone.

Measured on photographs without defects, at every noise level: one to fifteen sites a megapixel are touched
wrongly, which costs 0.03 dB of the noisy mosaic at most on average (rendered scenes whose shapes are as small
as a pixel, seen through no lens: 0.2 dB at shot 1e-4). Of 3,000 stars of a Gaussian sigma of 0.8 pixels none
or one is, of broader ones none, of 0.65 pixels up to three. Where texture hides defects from these rules they
stay: a third to two thirds of them on sharp pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import NoiseProfile
from .raw_image import RawImage

OUTLIER = 6.0
"""Standard deviations of noise that a defect stands out by, at least."""
UNLIKE = 4.0
"""How many times what is near a defect stands out by."""
ABOVE_USUAL = 6.0
"""How many times the mean of what is near; in pure noise less than the outlier's own six deviations."""
QUIET = 4.0
"""Standard deviations that noise alone may reach near it."""
STARLIKE = 0.1
"""Share of an outlier that its neighbours must show for it to be light."""
WINDOW = 6
"""Sites each way in which nothing like a defect is."""
STRIP = 128
"""Rows looked at in one go, even: memory does not grow with the picture."""
LEAST = 1e-3
"""Of white: a smaller difference does no harm, and every texture without noise has it."""

_REACH = WINDOW + 2
"""Rows beyond a strip that decide about its sites: the window, and the median around its edge."""
_PAIRS = ((0, 2), (2, 0), (2, 2), (2, -2))
"""Same-coloured neighbours on opposite sides: row and column of one of each two."""
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_SPREAD = np.array([0.29, 0.54, 0.29, 0.54, 0.54, 0.29, 0.54, 0.29], np.float32)
"""What a star of sigma 0.9 pixels leaves at `_AROUND`, its peak being 1."""

Floats = NDArray[np.float32]
Sites = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Defects:
    """Sites of a mosaic, and where to find a value for each."""

    rows: Sites
    columns: Sites
    pairs: Sites
    """[N,2] row and column from a site to the one, and back to the other, that it lies between."""

    def __len__(self) -> int:
        return len(self.rows)

    def mend(self, mosaic: NDArray[np.float32] | NDArray[np.uint16]) -> None:
        """In place: the mean of two neighbours of the site's colour, the pair that differs least."""
        down, across = self.pairs.T
        one = mosaic[self.rows + down, self.columns + across].astype(np.float64)
        other = mosaic[self.rows - down, self.columns - across]
        mean = (one + other) / 2
        mosaic[self.rows, self.columns] = np.rint(mean) if mosaic.dtype == np.uint16 else mean


def find_defects(mosaic: Floats, noise: NoiseProfile) -> Defects:
    """Hot and dead pixels of a mosaic [H,W] of any phase, black 0 and white 1, with this noise.

    The two outermost rows and columns are left alone. 0.06 to 0.17 s of one core for 12 MP.
    """
    return _find(lambda first, end: mosaic[first:end], (mosaic.shape[0], mosaic.shape[1]), noise)


def mend_raw(raw: RawImage, noise: NoiseProfile) -> int:
    """Mend the hot and dead pixels of a raw photograph in place; returns how many there were."""
    columns = np.arange(raw.shape[1])
    defects = _find(lambda first, end: raw.window(np.arange(first, end), columns), raw.shape, noise)
    top, left, bottom, right = raw.area
    defects.mend(raw.stored[top:bottom, left:right] if raw.exact is None else raw.exact)
    return len(defects)


def _find(rows: Callable[[int, int], Floats], shape: tuple[int, int], noise: NoiseProfile) -> Defects:
    """`rows(first, end)` gives a part of the mosaic, float32 [end − first, W]."""
    height, width = shape
    found = [np.empty((0, 4), np.intp)]
    if min(height, width) > 4:
        for start in range(0, height, STRIP):
            first, end = max(start - _REACH, 0), min(start + STRIP + _REACH, height)
            sites = _find_in_strip(rows(first, end), noise)
            sites[:, 0] += first
            found.append(sites[(sites[:, 0] >= start) & (sites[:, 0] < start + STRIP)])
    everything = np.concatenate(found)
    return Defects(everything[:, 0], everything[:, 1], everything[:, 2:])


def _find_in_strip(mosaic: Floats, noise: NoiseProfile) -> Sites:
    """Row, column, and the pair's row and column [N,4] of each defect of a few rows."""
    median = _median_of_colour(mosaic)
    differs = mosaic - median
    size = cv2.absdiff(mosaic, median)
    y, x = _candidates(size, median, noise)

    def seen(plane: Floats, places: tuple[tuple[int, int], ...]) -> Floats:
        return np.stack([plane[y + down, x + across] for down, across in places], axis=1)

    opposite = tuple((-down, -across) for down, across in _PAIRS)
    one, other = seen(mosaic, _PAIRS), seen(mosaic, opposite)
    ring = np.sort(np.concatenate((one, other), axis=1), axis=1)  # [N,8] of the site's own colour
    base = (ring[:, 3] + ring[:, 4]) / 2
    outlier = mosaic[y, x] - base
    height = np.abs(outlier)
    deviation = _deviation(base, noise)
    # Half-way up, so that a few photo-electrons in the dark, whose noise is lopsided, are no outlier.
    stands_out = height > OUTLIER * np.maximum(deviation, _deviation((base + mosaic[y, x]) / 2, noise))
    allowed = np.maximum(QUIET * deviation, height / UNLIKE)
    calm = np.maximum(ring[:, -2] - base, base - ring[:, 1]) < allowed
    # The amplitude of a star that fits the neighbours best, without the one that speaks loudest for it, which
    # may be a defect too: for a star the outlier's own, for a defect 0.
    speaks = np.sign(outlier)[:, None] * seen(differs, _AROUND) * _SPREAD
    loudest = np.argmax(speaks, axis=1)
    weight = np.sum(_SPREAD**2) - _SPREAD[loudest] ** 2
    star = (speaks.sum(1) - np.take_along_axis(speaks, loudest[:, None], 1)[:, 0]) / weight
    around = _deviation(seen(median, _AROUND).mean(1), noise)
    alone = star < STARLIKE * height - around / (2 * np.sqrt(weight))
    chosen = np.flatnonzero(stands_out & calm & alone)
    unlike = _second_largest_near(size, y[chosen], x[chosen]) < allowed[chosen]
    chosen = chosen[unlike]
    pair = np.argmin(np.abs(one[chosen] - other[chosen]), axis=1)
    return np.column_stack((y[chosen], x[chosen], np.array(_PAIRS)[pair])).astype(np.intp)


def _median_of_colour(mosaic: Floats) -> Floats:
    """Of 3 x 3 sites of a site's own colour [H,W]: every second row holds two colours in turn."""
    width = mosaic.shape[1]
    even = mosaic if width % 2 == 0 else cv2.copyMakeBorder(mosaic, 0, 0, 0, 1, cv2.BORDER_REFLECT_101)
    median = np.empty_like(even)
    for row in (0, 1):
        lines = np.ascontiguousarray(even[row::2])
        median[row::2] = cv2.medianBlur(lines.reshape(len(lines), -1, 2), 3).reshape(lines.shape)
    return median[:, :width]


def _candidates(size: Floats, median: Floats, noise: NoiseProfile) -> tuple[Sites, Sites]:
    """Sites that may be defects, as far as a few operations on every site tell."""
    least = cv2.max(median, 0.0)
    least *= OUTLIER**2 * noise.shot
    least += OUTLIER**2 * noise.read
    cv2.sqrt(least, least)
    usual = cv2.blur(size, (2 * WINDOW + 1, 2 * WINDOW + 1))
    usual *= ABOVE_USUAL
    candidates = size > cv2.max(cv2.max(least, usual), LEAST)
    candidates[:2] = candidates[-2:] = False
    candidates[:, :2] = candidates[:, -2:] = False
    return np.divmod(np.flatnonzero(candidates), size.shape[1])


def _deviation(light: NDArray[np.floating], noise: NoiseProfile) -> Floats:
    variance = np.maximum(light, 0) * np.float32(noise.shot) + np.float32(noise.read)
    deviation: Floats = np.sqrt(variance)
    return deviation


def _second_largest_near(size: Floats, y: Sites, x: Sites) -> Floats:
    """Second largest of the window around each site, the site itself left out."""
    framed = cv2.copyMakeBorder(size, WINDOW, WINDOW, WINDOW, WINDOW, cv2.BORDER_CONSTANT, value=0)
    window = np.arange(2 * WINDOW + 1)
    near = framed[y[:, None, None] + window[:, None], x[:, None, None] + window].reshape(
        len(y), window.size**2
    )
    # The site itself is the largest or, where not, that is too much already.
    second: Floats = np.partition(near, -3, axis=1)[:, -3]
    return second
