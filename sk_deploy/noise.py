"""The noise of a raw mosaic: variance = shot · x + read, on the scale where black is 0 and white is 1."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ConfigError


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
