"""What was done to a mosaic, for its new file to say."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from .errors import ConfigError
from .noise import NoiseProfile

_LEAST_SHOT = 1e-9


@dataclass(frozen=True)
class Treatment:
    """The facts of one denoising."""

    noise: NoiseProfile | None
    """What remains; None where nothing is known."""
    strength: float
    """0 for none to 1 for all of it."""
    software: str
    """Name and version of the program."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength {self.strength:g}: expected 0 (nothing) to 1 (everything)")

    @property
    def profile(self) -> tuple[float, float] | None:
        """`noise` as the DNG tag NoiseProfile has it, which calls a shot noise of 0 invalid."""
        if self.noise is None:
            return None
        return max(self.noise.shot, _LEAST_SHOT), self.noise.read

    @property
    def reduction(self) -> Fraction:
        """`strength` as the DNG tag NoiseReductionApplied has it."""
        return Fraction(self.strength).limit_denominator(1000)
