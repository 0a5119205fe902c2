"""Procedural training scenes: "dead leaves" in linear light.

Shapes with power-law radii (density r⁻³) that occlude each other have the statistics of natural images: edges
at all scales and a power spectrum of about 1/f². (A. B. Lee, D. Mumford, J. Huang, *Occlusion Models for
Natural Images*, IJCV 2001.) Each shape has its own colour, shading and texture; some layers are out of focus,
some scenes have a smooth sky, wires cross them; some show print, gratings or stars, which no leaf resembles.
Design §4.3: the data that needs no download.

A scene is drawn as a map of shape numbers at twice the size, painted by table look-up, and averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

_SUPERSAMPLING = 2
_SUBPIXEL_BITS = 3
_COVERAGE = 3.0
"""Area of all shapes of a covering layer over the area of the scene; the rest, exp(-3), is background."""
_TEXTURE_COUNT = 4
_DISC, _RECTANGLE = 0, 1  # any other shape is a polygon

Array = NDArray[np.float32]


def dead_leaves(count: int, size: int, seed: int) -> torch.Tensor:
    """Linear sRGB scenes, float16 [count,3,size,size] in [0,1]. Scene i depends on (size, seed, i) only."""
    scenes = np.empty((count, 3, size, size), np.float16)
    for i, scene in enumerate(scenes):
        scene[:] = _render(size, np.random.default_rng([seed, i])).transpose(2, 0, 1)
    return torch.from_numpy(scenes)


def power_law_radii(count: int, low: float, high: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """`count` radii with density proportional to r⁻³ between low and high."""
    return (low**-2 + rng.random(count) * (high**-2 - low**-2)) ** -0.5


@dataclass(frozen=True)
class _Shapes:
    """Per shape, in canvas pixels: the geometry that is drawn and the paint that is looked up."""

    centre: Array
    """x, y [n,2]."""
    radius: Array
    colour: Array
    """Linear RGB [n,3]."""
    shading: Array
    """Relative change of brightness from the centre to one radius away, along x and y [n,2]."""
    texture: Array
    """Relative amplitude [n]; 0 for a plain shape."""
    texture_kind: NDArray[np.intp]
    """Which texture plane [n]; the last kind is stripes."""
    stripes: Array
    """Angular frequency along x and y [n,2], radians a pixel."""


def _render(size: int, rng: np.random.Generator) -> Array:
    """One scene [size,size,3] in [0,1]."""
    canvas = size * _SUPERSAMPLING
    palette = _palette(rng)
    textures = _textures(canvas, rng)
    shapes = _draw_shapes(canvas, _COVERAGE, palette, rng)
    image = _paint(_draw(shapes, canvas, 0, rng), shapes, textures)
    if rng.random() < 0.4:  # a background out of focus
        image = cv2.GaussianBlur(image, (0, 0), _SUPERSAMPLING * rng.uniform(0.7, 5.0))
    if rng.random() < 0.3:
        image = _with_sky(image, rng)
    if rng.random() < 0.7:
        image = _with_foreground(image, palette, textures, rng)
    if rng.random() < 0.25:
        made = (_with_print, _with_grating, _with_stars)[rng.integers(3)]
        image = made(image, rng)
    image = np.clip(image, 0, 1)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def _draw_shapes(canvas: int, coverage: float, palette: Array, rng: np.random.Generator) -> _Shapes:
    """Shapes whose areas add up to about `coverage` canvases; the smallest radius varies between scenes."""
    low, high = _SUPERSAMPLING * np.exp(rng.uniform(np.log(0.75), np.log(5.0))), float(canvas)
    low = min(low, high / 4)
    mean_area = np.pi * 2 * np.log(high / low) / (low**-2 - high**-2)
    count = max(8, round(coverage * canvas**2 / mean_area))
    radius = power_law_radii(count, low, high, rng)
    plain = rng.random(count) < 0.5
    frequency = np.exp(rng.uniform(np.log(0.04), np.log(1.3), count))
    angle = rng.uniform(0, 2 * np.pi, count)
    return _Shapes(
        centre=rng.uniform(-0.1 * canvas, 1.1 * canvas, (count, 2)).astype(np.float32),
        radius=radius.astype(np.float32),
        colour=_colours(count, palette, rng),
        shading=(rng.normal(0, 0.2, (count, 2)) * (rng.random((count, 1)) < 0.6)).astype(np.float32),
        texture=np.where(plain, 0, np.minimum(rng.exponential(0.15, count), 0.6)).astype(np.float32),
        texture_kind=rng.integers(0, _TEXTURE_COUNT + 1, count),
        stripes=(frequency[:, None] * np.stack((np.cos(angle), np.sin(angle)), 1)).astype(np.float32),
    )


def _palette(rng: np.random.Generator) -> Array:
    """The scene's few dominant colours in log luminance and two log chroma axes [n,3]."""
    count = rng.integers(2, 7)
    luminance = rng.normal(np.log(0.15), 0.5) + rng.normal(0, 0.9, count)
    chroma = rng.normal(0, 1, (count, 2)) * rng.exponential(0.22, (count, 1))
    return np.column_stack((luminance, chroma)).astype(np.float32)


def _colours(count: int, palette: Array, rng: np.random.Generator) -> Array:
    """Linear RGB [count,3]: a palette colour, varied. Saturation is mostly low, as in nature."""
    jitter = rng.normal(0, (0.45, 0.08, 0.08), (count, 3))
    luminance, warm, green = (palette[rng.integers(0, len(palette), count)] + jitter).T
    red, blue = luminance + warm - green / 2, luminance - warm - green / 2
    return np.exp(np.column_stack((red, luminance + green / 2, blue))).clip(1e-3, 1).astype(np.float32)


def _textures(canvas: int, rng: np.random.Generator) -> Array:
    """Band-limited noise planes of unit variance, fine to coarse [_TEXTURE_COUNT,canvas,canvas]."""
    planes = []
    for octave in range(_TEXTURE_COUNT):
        grain = 2.0**octave * rng.uniform(0.7, 1.4)  # canvas pixels
        small = max(4, round(canvas / grain))
        noise = rng.standard_normal((small, small), np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.7) - cv2.GaussianBlur(noise, (0, 0), 2.0)
        plane = cv2.resize(noise, (canvas, canvas), interpolation=cv2.INTER_LINEAR)
        planes.append(plane / plane.std())
    return np.stack(planes)


def _draw(shapes: _Shapes, canvas: int, empty: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Number of the shape seen at each pixel [canvas,canvas], `empty` where none is; later ones occlude.

    A third are discs, a third rectangles, a third polygons of up to eight corners.
    """
    count = len(shapes.radius)
    kinds = rng.integers(0, 3, count).tolist()
    angles = [_corner_angles(kind, rng) for kind in kinds]
    counts = [len(turns) for turns in angles]
    unit = 1 << _SUBPIXEL_BITS
    centres, radii = np.rint(shapes.centre * unit).astype(np.int32), shapes.radius.astype(np.float64) * unit
    angle, of = np.concatenate(angles), np.repeat(np.arange(count), counts)
    points = np.stack((np.cos(angle), np.sin(angle)), 1) * radii[of, None] + centres[of]
    corners = np.rint(points).astype(np.int32)

    labels = np.full((canvas, canvas), empty, np.int32)
    shape = zip(centres.tolist(), radii.tolist(), counts, np.cumsum(counts).tolist(), strict=True)
    for number, (centre, radius, corner_count, stop) in enumerate(shape):
        if corner_count:
            polygon = corners[stop - corner_count : stop]
            cv2.fillConvexPoly(labels, polygon, number, cv2.LINE_8, _SUBPIXEL_BITS)
        else:
            cv2.circle(labels, centre, round(radius), number, -1, cv2.LINE_8, _SUBPIXEL_BITS)
    return labels


def _corner_angles(kind: int, rng: np.random.Generator) -> list[float]:
    """Where a shape's corners are on its circle, radians in the order of drawing; a disc has none."""
    if kind == _DISC:
        return []
    if kind == _RECTANGLE:
        half, turn = rng.uniform(0.05, 0.25) * np.pi, rng.uniform(0, np.pi)  # between a bar and a square
        return [turn - half, turn + half, turn + (np.pi - half), turn + (np.pi + half)]
    return sorted(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)).tolist())


def _paint(labels: NDArray[np.int32], shapes: _Shapes, textures: Array) -> Array:
    """Colour × shading × texture at each pixel, by look-up [canvas,canvas,3]."""
    seen = labels.astype(np.intp)  # once, not in each look-up
    side = np.arange(len(labels), dtype=np.float32)
    x = side[None, :] - shapes.centre[:, 0].take(seen)
    y = side[:, None] - shapes.centre[:, 1].take(seen)
    slope = shapes.shading * (1 / shapes.radius)[:, None]
    brightness = 1 + np.clip(slope[:, 0].take(seen) * x + slope[:, 1].take(seen) * y, -0.8, 1.5)
    wave = np.sin(shapes.stripes[:, 0].take(seen) * x + shapes.stripes[:, 1].take(seen) * y)
    planes, pixel = np.concatenate((textures, wave[None])), np.arange(seen.size).reshape(seen.shape)
    pattern = planes.take(shapes.texture_kind.take(seen) * seen.size + pixel)
    brightness *= 1 + np.clip(shapes.texture.take(seen) * pattern, -0.9, 1.5)
    return shapes.colour.take(seen, 0) * brightness[..., None]


def _with_sky(image: Array, rng: np.random.Generator) -> Array:
    """A smooth gradient above a ragged horizon, a hint of cloud in it."""
    canvas = len(image)
    zenith, horizon = (_colours(1, _SKY, rng)[0] for _ in range(2))
    height = canvas * rng.uniform(0.2, 0.9)
    ramp = np.clip(np.arange(canvas, dtype=np.float32) / height, 0, 1)[:, None, None]
    sky = np.broadcast_to(zenith * (1 - ramp) + horizon * ramp, image.shape)
    cloud = rng.standard_normal((6, 6), np.float32) * rng.exponential(0.05)
    sky = sky * (1 + cv2.resize(cloud, (canvas, canvas), interpolation=cv2.INTER_CUBIC)[..., None])
    steps = rng.normal(0, 1, 24).cumsum() * canvas * rng.uniform(0, 0.03)
    edge = cv2.resize((height + steps)[None].astype(np.float32), (canvas, 1), interpolation=cv2.INTER_LINEAR)
    above = np.arange(canvas)[:, None] < edge
    return np.where(above[..., None], sky, image).astype(np.float32)


_SKY = np.array([[np.log(0.5), -0.1, 0.0], [np.log(0.35), -0.3, 0.02], [np.log(0.7), 0.05, 0.0]], np.float32)


def _with_foreground(image: Array, palette: Array, textures: Array, rng: np.random.Generator) -> Array:
    """A sparse layer in front: few shapes and thin lines, sharp or out of focus."""
    canvas = len(image)
    shapes = _draw_shapes(canvas, rng.uniform(0.05, 0.5), palette, rng)
    labels = _draw(shapes, canvas, -1, rng)
    for _ in range(rng.integers(0, 12)):
        _draw_line(labels, int(rng.integers(len(shapes.radius))), rng)
    alpha = (labels >= 0).astype(np.float32)[..., None]
    colour = _paint(np.maximum(labels, 0), shapes, textures) * alpha
    if rng.random() < 0.35:
        sigma = _SUPERSAMPLING * rng.uniform(0.7, 4.0)
        colour = cv2.GaussianBlur(colour, (0, 0), sigma)
        alpha = cv2.GaussianBlur(alpha, (0, 0), sigma)[..., None]
    return image * (1 - alpha) + colour


def _with_print(image: Array, rng: np.random.Generator) -> Array:
    """Lines of characters, all over the scene or on a sheet that covers a part of it."""
    canvas = len(image)
    ink = np.zeros((canvas, canvas), np.uint8)
    font, scale = int(rng.integers(0, 8)), float(np.exp(rng.uniform(np.log(0.35), np.log(3.0))))
    thickness, baseline = int(rng.integers(1, 4)), 0.0
    while baseline < canvas:
        baseline += scale * rng.uniform(24, 34)
        text = bytes(rng.integers(33, 127, 200, dtype=np.uint8)).decode("ascii")
        start = (-int(rng.integers(0, 40)), int(baseline))
        cv2.putText(ink, text, start, font, scale, 255, thickness, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((canvas / 2, canvas / 2), rng.normal(0, 8), 1.0)
    share = cv2.warpAffine(ink, turn, (canvas, canvas))[..., None].astype(np.float32) / 255
    return _on_sheet(image, share, rng)


def _with_grating(image: Array, rng: np.random.Generator) -> Array:
    """Bars, or a chequerboard, from the finest that the scene can hold to coarse ones, at any angle."""
    side = np.arange(len(image), dtype=np.float32)
    period = _SUPERSAMPLING * np.exp(rng.uniform(np.log(2.0), np.log(24.0)))
    angle = rng.choice((0.0, np.pi / 4, rng.uniform(0, np.pi)))
    across = np.cos(angle) * side[None, :] + np.sin(angle) * side[:, None]
    along = np.cos(angle) * side[:, None] - np.sin(angle) * side[None, :]
    wave = np.sin(2 * np.pi / period * across)
    if rng.random() < 0.5:
        wave = wave * np.sin(2 * np.pi / period * along)
    steepness = np.exp(rng.uniform(0, np.log(30)))  # from a sine to a square wave
    return _on_sheet(image, (0.5 + 0.5 * np.clip(steepness * wave, -1, 1))[..., None], rng)


def _on_sheet(image: Array, share: Array, rng: np.random.Generator) -> Array:
    """Two colours of any contrast, the second where `share` [H,W,1] is 1, over a part of the scene."""
    canvas = len(image)
    bright, dark = np.exp(rng.uniform(np.log(0.1), 0.0)), np.exp(rng.uniform(np.log(0.003), np.log(0.3)))
    colours = np.array([[bright], [dark]]) * np.exp(rng.normal(0, 0.15, (2, 3)))
    paper, ink = colours[:: rng.choice((1, 1, -1))].astype(np.float32)
    sheet = paper * (1 - share) + ink * share
    edge = rng.uniform(-0.5, 0.7) * canvas  # of a half-plane: often all of the scene
    angle = rng.uniform(0, 2 * np.pi)
    side = np.arange(canvas, dtype=np.float32) - canvas / 2
    inside = np.cos(angle) * side[None, :] + np.sin(angle) * side[:, None] > edge - 0.3 * canvas
    return np.where(inside[..., None], sheet, image).astype(np.float32)


def _with_stars(image: Array, rng: np.random.Generator) -> Array:
    """A dark sky with points of light of power-law brightness, over what is left of the scene."""
    canvas = len(image)
    sky = image * np.float32(rng.choice((0.0, 0.02, 0.1))) + np.float32(10 ** rng.uniform(-4, -1.5))
    count = int(rng.integers(20, 600))
    points = np.zeros((canvas, canvas, 3), np.float32)
    brightness = 0.01 * (1 - rng.random(count)) ** (-1 / 1.2)
    tint = np.exp(rng.normal(0, 0.25, (count, 3)))
    rows, columns = rng.integers(0, canvas, (2, count))
    np.add.at(points, (rows, columns), (brightness[:, None] * tint).astype(np.float32))
    sigma = _SUPERSAMPLING * rng.uniform(0.4, 1.6)
    peak = np.float32(2 * np.pi * sigma**2)
    return sky + peak * cv2.GaussianBlur(points, (0, 0), sigma)


def _draw_line(labels: NDArray[np.int32], number: int, rng: np.random.Generator) -> None:
    """A wire or a twig across part of the canvas, half a pixel to a few pixels wide once averaged down."""
    canvas = len(labels)
    start = rng.uniform(0, canvas, 2)
    bend, heading = rng.normal(0, 0.15), rng.uniform(0, 2 * np.pi)
    headings = heading + bend * np.arange(8)
    steps = np.stack((np.cos(headings), np.sin(headings)), 1) * rng.uniform(0.02, 0.2) * canvas
    points = np.rint((start + steps.cumsum(0)) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    width = int(rng.choice((1, 1, 2, 2, 3, 5)))
    cv2.polylines(labels, [points], False, number, width, cv2.LINE_8, _SUBPIXEL_BITS)
