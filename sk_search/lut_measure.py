"""Measuring a latency table on the provider that will run the model; needs no PyTorch.

A block alone pays for copies and for reordering its input that it does not pay inside a network. So it is
timed in a chain of three and in a chain of one: half their difference is a block between blocks. Whole
networks of the space are timed too, as `skdn profile` times a model, and a line is fitted through them:
network = skeleton + factor · sum of its blocks. One factor, for what the other layers do to the caches and
for a median run against the quietest; what the line leaves over says how well the table predicts.

Other work on the machine only ever adds time, in bursts. So graphs are timed in passes over all of them, a
few runs at a time, each until its two quietest passes agree, and the quietest counts. Each graph has a
session of its own, closed before the next.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from sk_deploy.denoiser import Denoiser
from sk_deploy.devices import cpu_threads
from sk_deploy.errors import ModelError
from sk_deploy.profile import Profile, profile
from sk_deploy.session import Session, open_runtime
from sk_deploy.spec import METADATA_KEY, ModelSpec

from .config import NetConfig
from .lut import LatencyTable, Option, Site, channels_read, sites
from .lut_graphs import chain, network

log = logging.getLogger(__name__)

Progress = Callable[[str, float], None]
"""Told what is measured and the share that is done."""

_PASSES = (2, 6)
"""At least, and at most for a graph whose two quietest passes differ by more than `_AGREE`."""
_AGREE = 0.05
_WARMUPS = 2
_LEAST_S = 0.03
"""A pass times a graph for as long as this, at least."""
_LENGTHS = (1, 3)
_NETWORKS = 12

Place = tuple[Site, Option]


@dataclass(frozen=True)
class Job:
    """One graph to time."""

    what: str
    work: float
    """Proportional to the time that it takes, roughly."""
    time_ms: Callable[[], float]


def measure_table(
    net: NetConfig,
    size_px: tuple[int, int],
    provider: str = "auto",
    runs: int = 5,
    progress: Progress = lambda what, share: None,
) -> LatencyTable:
    """Time every option of every block of a search space, and what is around them.

    size_px: width and height of the mosaic, sensor pixels; runs: of each graph in a pass, at least.
    Raises ProviderError, or ModelError when a graph cannot run at this size.
    """
    started = time.perf_counter()
    networks = _networks(net)
    first = _profile(net, networks[0], size_px, provider, runs)  # and the processor is warm
    kinds = list(dict.fromkeys(sites(net).values()))
    places = [(site, option) for site in kinds for option in site.options(net)]

    def network_job(chosen: list[Place]) -> Job:
        work = sum(itertools.starmap(_work, chosen))
        return Job(
            "networks", work, lambda: _profile(net, chosen, size_px, first.provider, runs).network.p50_ms
        )

    def chain_job(place: Place, length: int) -> Job:
        return Job(
            f"blocks of level {place[0].level}",
            length * _work(*place),
            lambda: _time_chain(net, place, length, size_px, first.provider, runs),
        )

    jobs = [network_job(chosen) for chosen in networks]
    jobs += [chain_job(place, length) for place in places for length in _LENGTHS]
    passes = _time(jobs, progress)
    quietest = np.array([min(ms) for ms in passes])
    measured, chains = quietest[: len(networks)], quietest[len(networks) :].reshape(-1, len(_LENGTHS))
    between = (chains[:, 1] - chains[:, 0]) / (_LENGTHS[1] - _LENGTHS[0])
    block_ms = dict(zip(places, between.clip(min=0).tolist(), strict=True))
    summed = np.array([sum(block_ms[place] for place in chosen) for chosen in networks])
    skeleton_ms, factor = fit(summed, measured)
    errors = np.abs(left_out(summed, measured) / measured - 1)
    disagreement = np.array([_disagreement(ms) for ms in passes])
    if (unsettled := float((disagreement > _AGREE).mean())) > 0.1:
        log.warning(
            "%.0f %% of the timings did not repeat within %.0f %% in %d passes: this machine is busy; "
            "measure again when it is idle",
            *(100 * unsettled, 100 * _AGREE, _PASSES[1]),
        )
    return LatencyTable(
        net=net,
        size_px=size_px,
        skeleton_ms=skeleton_ms,
        blocks={site: factor * _of_site(net, site, block_ms) for site in kinds},
        facts={
            "provider": first.provider,
            "device": first.device,
            "threads": first.threads,
            "versions": first.versions,
            "seconds": time.perf_counter() - started,
            "passes": max(map(len, passes)),
            "unsettled": unsettled,
            "disagreement": float(np.median(disagreement)),
            "calibration": {
                "factor": factor,
                "networks_ms": measured.tolist(),
                "blocks_ms": summed.tolist(),
                "left_out_error_mean": float(errors.mean()),
                "left_out_error_worst": float(errors.max()),
            },
        },
    )


def _time(jobs: Sequence[Job], progress: Progress) -> list[list[float]]:
    """Milliseconds of each job in each of its passes."""
    passes: list[list[float]] = [[] for _ in jobs]
    done, planned = 0.0, _PASSES[0] * sum(job.work for job in jobs)
    for number in range(_PASSES[1]):
        left = [i for i, ms in enumerate(passes) if number < _PASSES[0] or _disagreement(ms) > _AGREE]
        planned = max(planned, done + sum(jobs[i].work for i in left))
        for i in left:
            progress(f"pass {number + 1}: {jobs[i].what}", done / planned)
            passes[i].append(jobs[i].time_ms())
            done += jobs[i].work
    return passes


def _disagreement(ms: list[float]) -> float:
    """Of the two quietest passes."""
    quietest, next_quietest = sorted(ms)[:2]
    return next_quietest / quietest - 1


def fit(summed: NDArray[np.float64], measured: NDArray[np.float64]) -> tuple[float, float]:
    """Skeleton and factor: measured ≈ skeleton + factor · summed, least squares of the relative errors."""
    terms = np.stack([np.ones_like(summed), summed], 1) / measured[:, None]
    skeleton_ms, factor = np.linalg.lstsq(terms, np.ones_like(measured), rcond=None)[0]
    return max(0.0, float(skeleton_ms)), max(0.0, float(factor))


def left_out(summed: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the line through all other networks predicts for each network."""
    predicted = []
    for i in range(len(measured)):
        skeleton_ms, factor = fit(np.delete(summed, i), np.delete(measured, i))
        predicted.append(skeleton_ms + factor * summed[i])
    return np.array(predicted)


def _networks(net: NetConfig) -> list[list[Place]]:
    """From the least work to the most, and between them random ones of growing work."""
    random = np.random.default_rng(0)
    found = []
    for share in np.linspace(0, 1, _NETWORKS):
        options = []
        for site in sites(net).values():
            ranked = sorted(site.options(net), key=lambda option: _work(site, option))
            stray = random.normal(0, 0.2) if 0 < share < 1 else 0.0
            options.append((site, ranked[round(float(np.clip(share + stray, 0, 1)) * (len(ranked) - 1))]))
        found.append(options)
    return found


def _work(site: Site, option: Option) -> float:
    """Multiply-accumulates of a block, for a pixel of level 0."""
    (k1, f1), (k2, f2) = option
    width = site.width
    into2, into_out = channels_read(site.kind, width, f1, f2)
    convolutions = k1**2 * width * f1 + k2**2 * into2 * f2
    return (convolutions + site.projection**2 * into_out * width) / 4**site.level


def _packed(net: NetConfig, size_px: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the planes that a network is fed with: a mosaic's end is filled up."""
    width, height = (-(-(side // 2) // net.multiple) * net.multiple for side in size_px)
    return height, width


def _profile(
    net: NetConfig, options: Sequence[Place], size_px: tuple[int, int], provider: str, runs: int
) -> Profile:
    """As `skdn profile` does, in one tile, on all threads: what a chain of blocks is timed on too."""
    spec = ModelSpec(
        "a network of the search space", "", net.multiple, 0, net.conditioning, macs_per_mp=0, parameters=0
    )
    model = onnx.load_model_from_string(network(net, options, _packed(net, size_px)))
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(model, path)
        denoiser = Denoiser(Session(path, provider, lanes=1), 2 * max(_packed(net, size_px)))
    return profile(denoiser, *size_px, warmups=_WARMUPS, runs=runs, seconds=_LEAST_S)


def _time_chain(
    net: NetConfig, place: Place, length: int, size_px: tuple[int, int], provider: str, runs: int
) -> float:
    """Milliseconds of a chain of `length` blocks, when nothing disturbs it."""
    site, option = place
    height, width = (side >> site.level for side in _packed(net, size_px))
    runtime = open_runtime(chain(site, option, length), "a chain of blocks", provider, cpu_threads())
    feeds = {"input": np.random.default_rng(0).standard_normal((1, 1, height, width), np.float32)}
    samples: list[float] = []
    try:
        for _ in range(_WARMUPS):
            runtime.run(None, feeds)
        started = time.perf_counter()
        while len(samples) < runs or time.perf_counter() - started < _LEAST_S:
            before = time.perf_counter()
            runtime.run(None, feeds)
            samples.append(time.perf_counter() - before)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = " ".join(str(error).split())
        raise ModelError(f"a block of level {site.level} failed on {provider}: {reason}") from error
    return 1e3 * min(samples)


def _of_site(net: NetConfig, site: Site, block_ms: dict[Place, float]) -> NDArray[np.float64]:
    """[n_k,n_f,n_k,n_f]."""
    side = (len(net.kernels), len(net.filter_counts(site.width)))
    return np.array([block_ms[site, option] for option in site.options(net)]).reshape(side + side)
