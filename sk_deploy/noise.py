"""The noise of a raw mosaic: variance = shot · x + read, on the scale where black is 0 and white is 1.

`estimate_noise` reads it off a single photograph. Nearly every picture is smooth somewhere, and a block
without texture shows nothing but noise in its high frequencies. Texture is judged by other, lower frequencies
of the same block, which white noise fills independently, so choosing smooth blocks does not choose quiet ones
(the idea of Ponomarenko et al., 2007, "An automatic approach to lossy compression of AVIRIS images").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bayer import Sites
from .errors import ConfigError, RawError

BLOCK = 8
"""Side of a block, packed pixels of one plane: 16 sensor pixels."""
POSITIONS_A_SIDE = 128
"""Blocks looked at along each side of a large mosaic; the rest adds time and no accuracy."""
LEAST_READ = 2.0**-28 / 12
"""The rounding of a 14-bit raw: no estimate says less."""
NEXT_TO_NONE = 2e-6
"""Variance at white that no camera's raw is below: half a million photo-electrons in a pixel."""
MOST = 0.999
"""NoiseProfile's range is open at 1."""
KEPT_AT_LEAST = 0.005
"""Share of the positions that is used when texture covers everything."""
SMOOTH = 1.13
"""Texture of a smooth position, in units of the noise: 1 is expected, and 0.13 is its standard deviation."""


@dataclass(frozen=True)
class NoiseProfile:
    """Poisson-Gaussian noise, as in the DNG tag NoiseProfile."""

    shot: float
    """Variance per unit of signal; one photo-electron is `shot` high."""
    read: float
    """Variance at zero signal."""

    def __post_init__(self) -> None:
        if not (0 <= self.shot < 1 and 0 <= self.read < 1 and self.shot + self.read > 0):
            raise ConfigError(
                f"noise {self.shot:g},{self.read:g} is not a noise level: expected shot and read variances "
                "in [0, 1) on the scale where white is 1, not both 0"
            )


def estimate_noise(mosaic: NDArray[np.float32]) -> NoiseProfile:
    """The noise of one mosaic [H,W] on the scale black 0, white 1, with negatives kept.

    Rounding to whole raw values is noise in the data and counts as read noise. Blocks that touch a pile-up of
    equal extreme values (clipped at white or at black) are left out. The four sites share one profile, so the
    estimate is the same for every phase. Where the picture spans little brightness, shot and read cannot be
    told apart; the variance is still right at the brightness that is there. No noise: `LEAST_READ`.

    Raises RawError when the mosaic is smaller than one block of 16 x 16 sensor pixels.
    """
    if min(mosaic.shape) < 2 * BLOCK:
        height, width = mosaic.shape
        raise RawError(
            f"cannot measure the noise of a mosaic of {width} x {height} pixels: expected at least "
            f"{2 * BLOCK} x {2 * BLOCK}; give the noise level"
        )
    blocks = _usable(_sample(mosaic))
    if not len(blocks):
        return NoiseProfile(shot=0.0, read=LEAST_READ)
    brightness = np.maximum(blocks.mean(-1, dtype=np.float64), 0)  # [N,4]
    texture = np.square(blocks @ _LOW).mean(-1, dtype=np.float64)
    noise = np.square(blocks @ _HIGH).mean(-1, dtype=np.float64)

    shot, read = _first_guess(brightness, texture, noise)
    for _ in range(15):
        variance = shot * brightness + read
        smooth = _smooth(texture / variance)
        kept_variance, kept_noise = variance[smooth], noise[smooth]
        sound = kept_noise < (1 + 4 * np.sqrt(2 / _HIGH.shape[1])) * kept_variance  # no hot pixel: four sigma
        if not sound.any():
            break
        previous = shot, read
        shot, read = _fit(brightness[smooth][sound], kept_noise[sound], kept_variance[sound])
        if np.allclose((shot, read), previous, rtol=1e-3, atol=0):
            break
    return NoiseProfile(shot=min(shot, MOST), read=min(read, MOST))


def looked_at(size: int) -> Sites:
    """Rows or columns, of `size`, that `estimate_noise` looks at: of them alone it says the same."""
    side = 2 * BLOCK
    if size <= POSITIONS_A_SIDE * side:
        return np.arange(size)
    return (_positions(size)[:, None] + np.arange(side)).ravel()


def _positions(size: int) -> Sites:
    """Where blocks begin along a side of `size`; in a small mosaic they overlap by half."""
    side = 2 * BLOCK
    count = min(2 * size // side - 1, POSITIONS_A_SIDE)
    return np.linspace(0, size - side, count).astype(np.intp) // 2 * 2


def _cosines() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Orthonormal cosine bases of a block, [64,n] each: low frequencies (no mean, no slope) and high ones."""
    index = np.arange(BLOCK)
    wave = np.cos(np.pi * index[:, None] * (2 * index + 1) / (2 * BLOCK))  # [frequency, pixel]
    wave /= np.linalg.norm(wave, axis=1, keepdims=True)
    basis = np.einsum("iy,jx->yxij", wave, wave).reshape(BLOCK**2, BLOCK, BLOCK).astype(np.float32)
    total = index[:, None] + index
    return basis[:, (total >= 2) & (total <= 7)], basis[:, total >= 9]


_LOW, _HIGH = _cosines()


def _sample(mosaic: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blocks [N,4,64] (position, site, pixel) spread evenly."""
    side = 2 * BLOCK
    rows, columns = (_positions(size) for size in mosaic.shape)
    windows = np.lib.stride_tricks.sliding_window_view(mosaic, (side, side))[rows[:, None], columns]
    sites = windows.reshape(-1, BLOCK, 2, BLOCK, 2).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(sites, dtype=np.float32).reshape(-1, 4, BLOCK**2)


def _usable(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """The positions [N,4,64] that hold noise: not constant, and not clipped if that leaves any."""
    spread = np.ptp(blocks, axis=-1).min(-1)
    blocks = blocks[np.isfinite(spread) & (spread > 0)]
    if not len(blocks):
        return blocks
    # A ten-thousandth lies beyond, so that hot and dead pixels do not hide where clipping piles up.
    floor, ceiling = np.quantile(blocks, (1e-4, 1 - 1e-4), axis=(0, 2))[..., None]
    clipped = ((blocks <= floor) | (blocks >= ceiling)).sum(-1).max(-1) > 2
    return blocks if clipped.all() else blocks[~clipped]


def _first_guess(
    brightness: NDArray[np.float64], texture: NDArray[np.float64], noise: NDArray[np.float64]
) -> tuple[float, float]:
    """A line through the tenth with the least texture of each of 16 steps of brightness."""
    centres, variances = [], []
    for step in np.array_split(np.argsort(brightness, axis=None), 16):
        least = step[np.argsort(texture.flat[step])[: -(-len(step) // 10)]]
        if len(least):
            centres.append(brightness.flat[least].mean())
            variances.append(noise.flat[least].mean())
    centre, variance = np.array(centres), np.array(variances)
    shot, read = _fit(centre, variance, np.ones_like(variance))
    for _ in range(6):
        shot, read = _fit(centre, variance, shot * centre + read)
    return shot, read


def _smooth(texture: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Positions [N] whose texture [N,4], in units of the noise, is what noise alone would show."""
    score = texture.mean(-1)
    least = min(len(score), max(16, round(KEPT_AT_LEAST * len(score))))
    smooth: NDArray[np.bool_] = score <= max(SMOOTH, np.partition(score, least - 1)[least - 1])
    return smooth


def _fit(
    x: NDArray[np.float64], y: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[float, float]:
    """Shot >= 0 and read >= LEAST_READ of the line y = shot x + read, weighted for gamma-distributed y."""
    weight = 1 / variance**2
    mean_x, mean_y = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = np.average((x - mean_x) ** 2, weights=weight)
    if spread == 0:
        return 0.0, max(float(mean_y), LEAST_READ)
    shot = max(0.0, np.average((x - mean_x) * (y - mean_y), weights=weight) / spread)
    read = float(mean_y - shot * mean_x)
    if read < LEAST_READ:
        read = LEAST_READ
        shot = max(0.0, np.average(x * (y - read), weights=weight) / np.average(x**2, weights=weight))
    return float(shot), read
