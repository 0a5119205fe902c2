"""Two models timed in turn, so that whatever else the machine does disturbs both alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .denoiser import Denoiser
from .profile import Latency, Profile, sample, summed_up


@dataclass(frozen=True)
class Ratio:
    """Time of the first model over time of the second: below 1, the first is faster."""

    of_medians: float
    p10: float
    """This and the next: of the ratios of the pairs."""
    p90: float

    @classmethod
    def of(cls, first: Latency, second: Latency) -> Ratio:
        """Samples of the same place make a pair."""
        p10, p90 = np.percentile(np.divide(first.samples_ms, second.samples_ms), [10, 90])
        return cls(first.p50_ms / second.p50_ms, float(p10), float(p90))


@dataclass(frozen=True)
class Comparison:
    """Sample i of the first and sample i of the second were taken one right after the other."""

    first: Profile
    second: Profile
    total: Ratio
    network: Ratio

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def compare(
    first: Denoiser,
    second: Denoiser,
    width_px: int,
    height_px: int,
    ensemble: bool = False,
    warmups: int = 10,
    runs: int = 50,
    seconds: float = 3.0,
    progress: Callable[[float], None] | None = None,
) -> Comparison:
    """Time two models on the same noisy mosaic of width_px × height_px sensor pixels, `runs` pairs or more.

    Every second pair begins with the second model: neither always runs on the caches that the other left.
    """
    spans = sample([first, second], width_px, height_px, ensemble, warmups, runs, seconds, progress)
    a, b = (
        summed_up(denoiser, taken, width_px, height_px, ensemble, warmups)
        for denoiser, taken in zip((first, second), spans, strict=True)
    )
    return Comparison(a, b, Ratio.of(a.total, b.total), Ratio.of(a.network, b.network))
