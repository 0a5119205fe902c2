"""Rendered contents that no photograph of the benchmark shows, from next to no noise to a lot of it.

What a denoiser trained on photographs may never have met: test charts, text, stars, skin, skies, clipped
highlights, coloured lights, deep shadows. Each is drawn in linear light at twice its size and averaged down.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.noise import NoiseProfile

from .bench_set import LEVELS, with_noise
from .eval_set import EvalSet, Picture
from .unprocess import to_mosaic

SIDE_PX = 384
_DRAWN = 2 * SIDE_PX
_ROUNDING = 2.0**-28 / 12
"""Read variance of nothing but a 14-bit raw's rounding."""
CHART_LEVELS = (
    NoiseProfile(1e-5, _ROUNDING),
    NoiseProfile(1e-5, 1e-7),
    NoiseProfile(1e-5, 1e-5),
    NoiseProfile(1e-4, 1e-6),
    *LEVELS.values(),
)
"""A studio flash at base ISO first."""
EXAMPLES = (("text", LEVELS["pixel-3200"]), ("lights", LEVELS["pixel-1600"]))
"""What a comparison is shown of."""

Array = NDArray[np.float32]
Generator = np.random.Generator


def chart_set() -> EvalSet:
    """Every content at every level; a picture's group is its content. The same pictures each time."""
    pictures = (_picture(clean, content, noise) for content, clean in _contents() for noise in CHART_LEVELS)
    return EvalSet("rendered charts", pictures, len(CONTENTS) * len(CHART_LEVELS))


def chart_examples() -> list[Picture]:
    """The charts to look at: EXAMPLES."""
    contents = dict(_contents())
    return [_picture(contents[content], content, noise) for content, noise in EXAMPLES]


def _contents() -> Iterator[tuple[str, Array]]:
    """The name and the clean mosaic of each content."""
    for c, (content, draw) in enumerate(CONTENTS.items()):
        drawn = np.clip(draw(np.random.default_rng([c])), 0, 1)
        yield content, to_mosaic(cv2.resize(drawn, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))


def _picture(clean: Array, content: str, noise: NoiseProfile) -> Picture:
    seed = list(CONTENTS).index(content), CHART_LEVELS.index(noise)
    noisy = with_noise(clean, noise, np.random.default_rng(seed))
    name = f"{content}, shot {noise.shot:.2g}, read {noise.read:.2g}"
    return Picture(name, content, noisy, clean, "RGGB", noise, "file")


def _grid(side: int = _DRAWN) -> tuple[Array, Array]:
    """Rows and columns from -1 to 1, [side,side] each."""
    line = np.linspace(-1, 1, side, dtype=np.float32)
    return np.meshgrid(line, line, indexing="ij")


def _grey(plane: Array) -> Array:
    return np.repeat(plane[..., None].astype(np.float32), 3, axis=2)


def _clouds(rng: Generator, cells: int) -> Array:
    """Smooth noise of about unit variance [_DRAWN,_DRAWN], `cells` bumps a side."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return cv2.resize(coarse, (_DRAWN, _DRAWN), interpolation=cv2.INTER_CUBIC)


def _chart(rng: Generator) -> Array:
    """Slanted edges and Siemens stars, of high and of low contrast."""
    y, x = _grid(_DRAWN // 2)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    star = np.where(radius < 0.95, np.sin(36 * angle) > 0, 0.5)
    edge = x + np.tan(np.deg2rad(5)) * y > 0
    return _grey(np.block([[0.04 + 0.76 * edge, 0.04 + 0.76 * star], [0.2 + 0.1 * star, 0.2 + 0.1 * edge.T]]))


def _zone_plate(rng: Generator) -> Array:
    """Rings that reach the mosaic's Nyquist frequency amid each side and pass it in the corners."""
    y, x = _grid()
    return _grey(0.04 + 0.38 * (1 + np.cos(np.pi / 8 * _DRAWN * (x**2 + y**2))))


def _bars(rng: Generator) -> Array:
    """Upright and level bars, from 12 sensor pixels a pair down to 2: the mosaic's Nyquist frequency."""
    at = np.arange(_DRAWN // 2)
    period = np.linspace(24, 4, 6)[6 * at // len(at)]  # drawn pixels, by row
    upright = np.sin(2 * np.pi / period[:, None] * (at + 0.5)) > 0
    return _grey(0.04 + 0.76 * np.block([[upright, upright.T], [upright.T, upright]]))


def _text(rng: Generator) -> Array:
    """A page, and its negative below; letters from 5 to 20 sensor pixels high."""
    page = np.full((_DRAWN, _DRAWN), 255, np.uint8)
    line = "The quick brown fox jumps over the lazy dog, 0123456789 times. "
    top = 0
    for row, scale in enumerate(np.tile(np.linspace(0.5, 1.6, 7), 2)):
        top += round(42 * scale) + 12
        start = (-17 * row, top)
        cv2.putText(
            page, 3 * line, start, cv2.FONT_HERSHEY_SIMPLEX, float(scale), 0, 1 + row % 3, cv2.LINE_AA
        )
    ink = page.astype(np.float32) / 255
    ink[_DRAWN // 2 :] = 1 - ink[_DRAWN // 2 :]
    return _grey(0.02 + 0.83 * ink)


def _stars(rng: Generator) -> Array:
    """Points of all magnitudes, tinted, under a dark sky with a trace of nebula."""
    count = 700
    points = np.zeros((_DRAWN, _DRAWN, 3), np.float32)
    tint = 1 + 0.3 * rng.uniform(-1, 1, (count, 1)) * (1, 0, -1)
    flux = 0.3 * rng.uniform(0.003, 1, (count, 1)) ** -1.0
    at = rng.integers(0, _DRAWN, (2, count))
    points[at[0], at[1]] = flux * tint
    sky = 0.003 * (1 + 0.3 * _clouds(rng, 5))[..., None] * np.array((1, 0.9, 1.1), np.float32)
    return cv2.GaussianBlur(points, (0, 0), 1.5) + sky


def _foliage(rng: Generator) -> Array:
    """Leaves over leaves, most of them small, sunlit and shaded greens."""
    canvas = np.full((_DRAWN, _DRAWN, 3), 0.01, np.float32)
    count = 6000
    length = 5 * rng.uniform(0.01, 1, count) ** -0.5  # density of lengths ~ length⁻³
    light = np.exp(rng.normal(-2.0, 0.8, count))
    warm = rng.uniform(0.45, 1.1, count)
    for i in np.argsort(-length):
        colour = light[i] * np.array((warm[i], 1.0, 0.25))
        axes = (round(length[i]), max(1, round(0.4 * length[i])))
        centre = rng.integers(0, _DRAWN, 2).tolist()
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, colour.tolist(), -1, cv2.LINE_8)
    return canvas


def _skin(rng: Generator) -> Array:
    """Low contrast at every scale: shading, blotches, pores, a few hairs."""
    y, x = _grid()
    pores = cv2.GaussianBlur(rng.standard_normal((_DRAWN, _DRAWN), np.float32), (0, 0), 2.0)
    brightness = 1 - 0.35 * x - 0.2 * y + 0.03 * _clouds(rng, 14) + 0.02 * _clouds(rng, 60) + 0.25 * pores
    for _ in range(25):
        start, along = rng.uniform(0, _DRAWN, 2), rng.normal(0, 90, 2)
        ends = [np.rint(point).astype(int).tolist() for point in (start, start + along)]
        cv2.line(brightness, *ends, 0.75, 1, cv2.LINE_AA)
    blush = 1 + 0.03 * _clouds(rng, 7)
    return brightness[..., None] * np.stack([0.42 * blush, 0.24 / blush, 0.17 / blush], axis=2)


def _sky(rng: Generator) -> Array:
    """A smooth gradient from zenith to horizon and the faintest clouds."""
    y, _ = _grid()
    share = ((y + 1) / 2)[..., None]
    blue, pale = np.array((0.08, 0.2, 0.5), np.float32), np.array((0.55, 0.65, 0.75), np.float32)
    return (blue * (1 - share) + pale * share) * (1 + 0.01 * _clouds(rng, 6))[..., None]


def _highlights(rng: Generator) -> Array:
    """Panes and lamps at white exactly, a ramp that clips, detail that just does not."""
    y, x = _grid()
    ramp = _grey(np.clip(0.5 + 0.75 * x, 0, 1))
    ramp[y > 0] = (0.92 + 0.08 * np.sign(np.sin(60 * x * (1 + y))))[y > 0, None]
    for _ in range(14):
        row, column = rng.integers(0, _DRAWN, 2)
        height, width = rng.integers(20, 120, 2)
        ramp[row : row + height, column : column + width] = 0.05 if rng.random() < 0.4 else 1.0
    lamp = 0.006 / np.maximum((x - 0.4) ** 2 + (y + 0.4) ** 2, 1e-4)
    return ramp + lamp[..., None]


def _lights(rng: Generator) -> Array:
    """Coloured points and discs on a dark panel, saturated, some of them clipped, each with its glow."""
    panel = np.zeros((_DRAWN, _DRAWN, 3), np.float32)
    colours = ((1, 0, 0), (0, 1, 0), (0, 0.1, 1), (1, 0.5, 0), (1, 0, 0.8), (0, 1, 1), (1, 1, 1))
    for i in range(140):
        power = float(rng.choice((0.1, 0.4, 1.5)))
        centre = rng.integers(0, _DRAWN, 2).tolist()
        colour = [power * c for c in colours[i % len(colours)]]
        cv2.circle(panel, centre, int(rng.choice((1, 2, 3, 6, 12))), colour, -1, cv2.LINE_8)
    return 0.006 + cv2.GaussianBlur(panel, (0, 0), 1.0) + 0.15 * cv2.GaussianBlur(panel, (0, 0), 14.0)


def _shadows(rng: Generator) -> Array:
    """Folds and a weave between black and a hundredth of white."""
    y, x = _grid()
    folds = 1 + 0.6 * np.sin(5 * x + 2 * _clouds(rng, 4)) + 0.3 * np.sign(np.sin(70 * (x + 0.3 * y)))
    depth = np.clip(folds * (1 + x) / 2, 0, None) * 0.008
    return depth[..., None] * np.array((1.0, 0.8, 0.6), np.float32)


CONTENTS = {
    "chart": _chart,
    "zone plate": _zone_plate,
    "bars": _bars,
    "text": _text,
    "stars": _stars,
    "foliage": _foliage,
    "skin": _skin,
    "sky": _sky,
    "highlights": _highlights,
    "lights": _lights,
    "shadows": _shadows,
}
"""Name -> what draws it: linear sRGB [_DRAWN,_DRAWN,3]."""
