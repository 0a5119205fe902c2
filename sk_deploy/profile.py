"""How fast a model denoises on the provider that really runs.

A run is one mosaic, end to end on arrays: align, tile, network, assemble. The time inside the network is told
apart, and so is loading. Ten warm-ups, then at least 50 runs and 3 s, between the conventions of trtexec and
onnxruntime_perf_test. Every sample is kept.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .denoiser import Denoiser
from .devices import cpu_name, cuda_devices
from .noise import NoiseProfile

NOISE = NoiseProfile(shot=1e-3, read=1e-5)
"""Of the mosaic that is denoised: about ISO 1600 on a small sensor. No model is faster for another level."""


@dataclass(frozen=True)
class Latency:
    """Percentiles of one span of time, in milliseconds."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    samples_ms: list[float]

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """From the samples, in the order they were taken."""
        samples_ms = [1e3 * sample for sample in seconds]
        p50, p90, p99 = np.percentile(samples_ms, [50, 90, 99])
        return cls(float(p50), float(p90), float(p99), min(samples_ms), samples_ms)


@dataclass(frozen=True)
class Profile:
    """What `profile` measured, and on what."""

    model: str
    provider: str
    """That really ran."""
    device: str
    threads: int
    """CPU threads of the network."""
    width_px: int
    height_px: int
    tile_px: int
    ensemble: bool
    warmups: int
    load_s: float
    """Opening the model file, graph optimisation included."""
    total: Latency
    """From mosaic to denoised mosaic."""
    network: Latency
    """The part of it inside the network; on a GPU with the copies to and from it."""
    mp_per_s: float
    """Sensor megapixels a second at the median of `total`."""
    macs_per_mp: float
    gmacs_per_s: float
    """Multiply-accumulates a second at the median of `network`, those spent on halos not counted."""
    elsewhere: dict[str, int]
    """Operator -> nodes that another provider runs, e.g. those that compute shapes on a GPU's host."""
    peak_host_memory_mib: float | None
    """Of this process so far, Python and libraries included, memory of a GPU not; None where the system
    does not say."""
    versions: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def profile(
    denoiser: Denoiser,
    width_px: int,
    height_px: int,
    ensemble: bool = False,
    warmups: int = 10,
    runs: int = 50,
    seconds: float = 3.0,
    progress: Callable[[float], None] | None = None,
) -> Profile:
    """Time a model on a noisy mosaic of width_px × height_px sensor pixels, for `runs` and `seconds`."""
    (spans,) = sample([denoiser], width_px, height_px, ensemble, warmups, runs, seconds, progress)
    return summed_up(denoiser, spans, width_px, height_px, ensemble, warmups)


Spans = list[tuple[float, float]]
"""Seconds from mosaic to denoised mosaic, and those of them inside the network; in the order of taking."""


def sample(
    denoisers: Sequence[Denoiser],
    width_px: int,
    height_px: int,
    ensemble: bool,
    warmups: int,
    runs: int,
    seconds: float,
    progress: Callable[[float], None] | None = None,
) -> list[Spans]:
    """Time the models in turn, in rounds whose order is reversed from one to the next."""
    mosaic = noisy_ramp(height_px, width_px)

    def run(denoiser: Denoiser) -> tuple[float, float]:
        before, started = denoiser.session.network_s, time.perf_counter()
        denoiser(mosaic, NOISE, ensemble=ensemble)
        return time.perf_counter() - started, denoiser.session.network_s - before

    for index in range(warmups):
        for denoiser in denoisers:
            run(denoiser)
        if progress is not None:
            progress(index / (warmups + runs))
    spans: list[Spans] = [[] for _ in denoisers]
    turns = list(zip(denoisers, spans, strict=True))
    started = time.perf_counter()
    while len(spans[0]) < runs or time.perf_counter() - started < seconds:
        for denoiser, taken in turns:
            taken.append(run(denoiser))
        turns.reverse()
        if progress is not None:
            progress(min(1.0, (warmups + len(spans[0])) / (warmups + runs)))
    return spans


def summed_up(
    denoiser: Denoiser, spans: Spans, width_px: int, height_px: int, ensemble: bool, warmups: int
) -> Profile:
    """One model's samples, and what they were taken on."""
    total, network = (Latency.of(list(span)) for span in zip(*spans, strict=True))
    megapixels, passes = width_px * height_px / 1e6, 8 if ensemble else 1
    return Profile(
        model=denoiser.spec.name,
        provider=denoiser.provider,
        device=cpu_name() if denoiser.provider == "cpu" else cuda_devices()[0],
        threads=denoiser.session.threads,
        width_px=width_px,
        height_px=height_px,
        tile_px=denoiser.tile_px,
        ensemble=ensemble,
        warmups=warmups,
        load_s=denoiser.session.load_s,
        total=total,
        network=network,
        mp_per_s=megapixels / (total.p50_ms / 1e3),
        macs_per_mp=denoiser.spec.macs_per_mp,
        gmacs_per_s=passes * megapixels * denoiser.spec.macs_per_mp / 1e9 / (network.p50_ms / 1e3),
        elsewhere=denoiser.session.elsewhere,
        peak_host_memory_mib=peak_host_memory_mib(),
        versions=_versions(),
    )


def noisy_ramp(height_px: int, width_px: int) -> NDArray[np.float32]:
    """A grey ramp with the noise of `NOISE`, always the same."""
    ramp = np.linspace(0.02, 0.8, width_px, dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal((height_px, width_px), dtype=np.float32)
    mosaic: NDArray[np.float32] = ramp + noise * np.sqrt(NOISE.shot * ramp + NOISE.read).astype(np.float32)
    return mosaic


def peak_host_memory_mib() -> float | None:
    """The most host memory that this process has held; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import onnxruntime

    return {
        "skdn": version("skdn"),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
