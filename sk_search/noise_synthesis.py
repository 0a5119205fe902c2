"""Raw noise for training: var = shot · x + read as measured on cameras, and what a sensor adds besides.

Design §4.3. Everything runs on the device of the clean mosaics, with a generator that lives there, and never
waits for the host. Negatives are kept: only white clips.
"""

from __future__ import annotations

import math

import torch

from .config import NoiseConfig
from .mosaics import uniform

_EXACT_COUNT = 40.0
"""Mean photo-electrons below which shot noise is drawn from the Poisson law itself."""


def sample_noise_levels(batch: int, generator: torch.Generator, config: NoiseConfig) -> torch.Tensor:
    """Shot and read variance of each sample, float32 [batch,2], on the generator's device."""
    u = uniform((5, batch), generator)
    high = u[4] < config.high_share
    shot = torch.where(high, _log_scale(u[0], config.high_shot), _log_scale(u[0], config.shot))
    electrons = _log_scale((u[1] + u[2]) / 2, config.read_electrons)
    converter = _log_scale(u[3], config.read_converter)
    read = (electrons * shot).square() + converter.square()
    return torch.stack((shot, read.clamp_max(config.max_read)), dim=1)


def stated(levels: torch.Tensor, generator: torch.Generator, config: NoiseConfig) -> torch.Tensor:
    """What a network is told of noise levels [batch,2]: each a little too low or too high."""
    z = torch.randn((len(levels), 1), generator=generator, device=levels.device)
    return levels * torch.exp(2 * config.level_error * z)


def add_noise(
    clean: torch.Tensor, levels: torch.Tensor, generator: torch.Generator, config: NoiseConfig
) -> torch.Tensor:
    """Noisy mosaics [B,1,H,W] of clean ones in [0,1]; `levels` [B,2] holds shot and read variance.

    The read variance includes the converter's rounding (step²/12), as a measured calibration does. Row noise
    and hot pixels come on top.
    """
    shot, read = (levels[:, i].view(-1, 1, 1, 1) for i in (0, 1))
    step = torch.minimum(_quantisation_step(len(clean), generator, config), (12 * read).sqrt())
    gaussian_read = (read - step.square() / 12).clamp_min(0)
    x = _shot_and_read(clean, shot, gaussian_read, generator)
    x += _row_noise(clean.shape, read, generator, config)
    _add_hot_pixels(x, generator, config)
    # Black is a whole number of steps, so rounding from black is rounding what the converter sees.
    x = torch.where(step > 0, torch.round(x / step.clamp_min(1e-9)) * step, x)
    return x.clamp_max(1.0)


def _shot_and_read(
    clean: torch.Tensor, shot: torch.Tensor, read: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Poisson plus Gaussian in one normal draw where electrons abound, exactly where they are few."""
    count = clean / shot
    few = count < _EXACT_COUNT
    electrons = torch.poisson(torch.where(few, count, 0.0), generator=generator)
    z = torch.randn(clean.shape, generator=generator, device=clean.device)
    abundant = clean + z * (shot * clean + read).sqrt()
    exact = electrons * shot + z * read.sqrt()
    return torch.where(few, exact, abundant)


def _row_noise(
    shape: torch.Size, read: torch.Tensor, generator: torch.Generator, config: NoiseConfig
) -> torch.Tensor:
    """[B,1,H,1]: one offset for each row of sensor pixels."""
    u = uniform((2, shape[0], 1, 1, 1), generator)
    std = torch.where(u[0] < config.row_share, u[1] * config.row_to_read, 0.0) * read.sqrt()
    return std * torch.randn((shape[0], 1, shape[2], 1), generator=generator, device=read.device)


def _add_hot_pixels(x: torch.Tensor, generator: torch.Generator, config: NoiseConfig) -> None:
    """In place. A fixed number of candidate sites, each hot by chance, so that nothing waits for the host."""
    batch, pixels = len(x), x[0].numel()
    expected = config.hot_rate * pixels
    candidates = math.ceil(4 * expected)
    if not candidates:
        return
    u = uniform((2, batch, candidates), generator)
    afflicted = uniform((batch, 1), generator) < config.hot_share
    hot = afflicted & (u[0] < expected / candidates)
    level = torch.where(hot, _log_scale(u[1], config.hot_level), 0.0)
    site = torch.randint(pixels, (batch, candidates), generator=generator, device=x.device)
    x.view(batch, pixels).scatter_add_(1, site, level)


def _quantisation_step(batch: int, generator: torch.Generator, config: NoiseConfig) -> torch.Tensor:
    """[B,1,1,1]: one number of a converter whose black is a sixteenth of its range; 0 keeps fractions."""
    shape = (batch, 1, 1, 1)
    low, high = config.bits
    bits = torch.randint(low, high + 1, shape, generator=generator, device=generator.device)
    step = 1 / (torch.exp2(bits.float()) * (15 / 16) - 1)
    return torch.where(uniform(shape, generator) < config.unquantised_share, 0.0, step)


def _log_scale(u: torch.Tensor, bounds: tuple[float, float]) -> torch.Tensor:
    """[0,1] -> bounds, evenly in the logarithm."""
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return torch.exp(low + u * (high - low))
