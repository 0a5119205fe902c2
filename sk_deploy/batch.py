"""Denoising files: decode, network and encoding overlap, and one bad file never stops the rest."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .camera_profiles import camera_profile
from .decoding import decode_ahead
from .defects import mend_raw
from .denoiser import Denoiser
from .devices import cpu_threads
from .errors import RawError, SkdnError
from .formats import ENCODERS
from .freed_memory import return_freed_memory
from .inputs import Job
from .noise import NoiseProfile, estimate_noise, looked_at
from .output import write_output
from .raw import RawImage
from .treatment import Treatment
from .whole import remove_abandoned

log = logging.getLogger(__name__)

CORES_A_WRITER = 4
"""Writing takes a core 0.06 s/MP: one writer keeps up with a network on few cores, not with a GPU."""


@dataclass(frozen=True)
class Options:
    """How every file of a batch is denoised."""

    noise: NoiseProfile | None = None
    """Used for all files; None takes each file's own, else its camera's, else an estimate."""
    pattern: str | None = None
    """Phase of plain mosaics, which do not name theirs."""
    levels: tuple[float, float] | None = None
    """Black and white of plain mosaics; None takes 0 and the highest count of their type."""
    size: tuple[int, int] | None = None
    """Width and height of mosaics without a header."""
    ensemble: bool = False
    strength: float = 1.0
    force: bool = False
    """Overwrite outputs that exist."""
    form: str = "dng"
    """What outputs are written as: a key of formats.ENCODERS."""


@dataclass(frozen=True)
class Result:
    """What became of one file."""

    source: Path
    target: Path
    status: str
    """"done", "skipped" (the output exists) or "failed"."""
    message: str = ""
    """Why it was skipped or failed, in one line."""
    megapixels: float = 0.0
    noise: NoiseProfile | None = None
    """That the network was told; None for a blind model."""
    noise_source: str = ""
    """"given", "file" (its NoiseProfile), "camera profile" (an installed darktable's) or "estimate"; "none"
    for a blind model."""
    defects: int = 0
    """Hot and dead pixels that were mended before."""
    noise_left: NoiseProfile | None = None
    """Of the output, as written to its NoiseProfile."""
    model: str = ""
    provider: str = ""
    """That really ran."""
    decode_s: float = 0.0
    denoise_s: float = 0.0
    write_s: float = 0.0

    @property
    def mp_per_s(self) -> float:
        """Sensor megapixels a second, from mosaic to denoised mosaic."""
        return self.megapixels / self.denoise_s if self.denoise_s else 0.0

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        facts = dataclasses.asdict(self) | {"source": str(self.source), "target": str(self.target)}
        return facts | {"mp_per_s": self.mp_per_s}


def denoise_files(
    denoiser: Denoiser,
    jobs: Sequence[Job],
    options: Options,
    progress: Callable[[Job, float, float], None] = lambda job, share, megapixels: None,
) -> Iterator[Result]:
    """Denoise each job's source into its target, which appears whole or not at all.

    Yields one result a job as it ends, those that need no decoding first. `progress` is told, in another
    thread, which share of a file's megapixels is done. Three files are worked on at a time: one is decoded,
    in a process that a file may crash or hang without harm to the others, one is denoised, and one is written
    (more where cores abound: writing would hold a GPU up). What killed batches left of their outputs is
    removed from the folders that are written to.
    """
    waiting = []
    for job in jobs:
        if job.problem:
            yield Result(job.source, job.target, "failed", job.problem)
        elif job.target.exists() and not options.force:
            yield Result(job.source, job.target, "skipped", f"{job.target} exists: --force overwrites it")
        else:
            waiting.append(job)
    for folder in {job.target.parent for job in waiting}:
        remove_abandoned(folder)
    stopped = threading.Event()

    def told(job: Job, share: float, megapixels: float) -> None:
        if stopped.is_set():
            raise CancelledError
        progress(job, share, megapixels)

    most_writers = max(1, cpu_threads() // CORES_A_WRITER)
    writing: set[Future[Result]] = set()
    sources = [job.source for job in waiting]
    decoding = decode_ahead(sources, options.pattern, options.levels, options.size)
    with (
        closing(decoding) as decoded_files,
        ThreadPoolExecutor(1) as network,
        ThreadPoolExecutor(most_writers) as writers,
    ):
        try:
            for job, decoded in zip(waiting, decoded_files, strict=True):
                raw = decoded.raw
                if isinstance(raw, RawError):
                    yield _failure(job, raw)
                    continue
                denoising = network.submit(_denoise, denoiser, job, raw, decoded.seconds, options, told)
                yield from _written(writing, denoising, most_writers)
                try:
                    mosaic, result = denoising.result()
                except Exception as error:  # whatever one file provokes, the others go on
                    yield _failure(job, error)
                    continue
                writing.add(writers.submit(_write, job, raw, mosaic, result, options))
            denoiser.session.rest()
            yield from (written.result() for written in as_completed(writing))
        finally:
            stopped.set()


def _written(writing: set[Future[Result]], denoising: Future[Any], most_writers: int) -> Iterator[Result]:
    """Results of the files that are written while another is denoised, and until that one may be written."""
    while not denoising.done() or len(writing) == most_writers:
        pending = {*writing, denoising} if not denoising.done() else writing
        ended = wait(pending, return_when=FIRST_COMPLETED).done & writing
        writing -= ended
        yield from (written.result() for written in ended)


def _denoise(
    denoiser: Denoiser,
    job: Job,
    raw: RawImage,
    decode_s: float,
    options: Options,
    progress: Callable[[Job, float, float], None],
) -> tuple[NDArray[np.float32], Result]:
    noise, noise_source = (None, "none") if denoiser.spec.blind else _noise(raw, options)
    megapixels = math.prod(raw.shape) / 1e6
    started = time.perf_counter()
    defects = _mend(raw, noise, options) if options.strength else 0
    return_freed_memory()
    mosaic = denoiser.image(
        raw,
        noise,
        options.ensemble,
        options.strength,
        lambda share: progress(job, share, megapixels),
    )
    result = Result(
        source=job.source,
        target=job.target,
        status="done",
        megapixels=megapixels,
        noise=noise,
        noise_source=noise_source,
        defects=defects,
        model=denoiser.spec.name,
        provider=denoiser.provider,
        decode_s=decode_s,
        denoise_s=time.perf_counter() - started,
    )
    return mosaic, result


def _noise(raw: RawImage, options: Options) -> tuple[NoiseProfile, str]:
    """The noise level to denoise a file with, and where it is from."""
    if options.noise is not None:
        return options.noise, "given"
    if raw.noise is not None:
        return raw.noise, "file"
    mosaic = raw.window(*map(looked_at, raw.shape))
    estimate = estimate_noise(mosaic)
    profile = camera_profile(raw.capture.make, raw.capture.model, raw.capture.iso)
    if profile is not None:
        return profile.fitted(estimate, mosaic), "camera profile"
    return estimate, "estimate"


def _mend(raw: RawImage, noise: NoiseProfile | None, options: Options) -> int:
    """Hot and dead pixels, for a blind model by a level of their own."""
    try:
        return mend_raw(raw, noise or _noise(raw, options)[0])
    except RawError:  # too small to tell noise from defects
        return 0


def _write(job: Job, raw: RawImage, mosaic: NDArray[np.float32], result: Result, options: Options) -> Result:
    started = time.perf_counter()
    software = f"skdn {version('skdn')} ({result.model})"
    try:
        left = noise_left(mosaic, result.noise or options.noise or raw.noise)
        return_freed_memory()
        _make_folder(job.target.parent)
        treatment = Treatment(left, options.strength, software)
        write_output(ENCODERS[options.form], raw, mosaic, job.target, treatment)
    except Exception as error:  # whatever one file provokes, the others go on
        return _failure(job, error)
    return dataclasses.replace(result, noise_left=left, write_s=time.perf_counter() - started)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SkdnError(f"{folder}: cannot be made ({error.strerror}): choose another --out") from error


def noise_left(mosaic: NDArray[np.float32], before: NoiseProfile | None) -> NoiseProfile | None:
    """The noise of a denoised mosaic: estimated, and never above what it had `before` if that is known."""
    try:
        estimate = estimate_noise(mosaic)
    except RawError:  # too small to measure
        return before
    if before is None:
        return estimate
    shot, read = min(estimate.shot, before.shot), min(estimate.read, before.read)
    return NoiseProfile(shot, read) if shot + read > 0 else before


def _failure(job: Job, error: Exception) -> Result:
    log.debug("%s", job.source, exc_info=error)
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        message = f"not enough memory ({message})" if message else "not enough memory"
    elif not isinstance(error, SkdnError):
        message = f"{type(error).__name__}: {message}"
    if job.source.name not in message:
        message = f"{job.source.name}: {message}"
    return Result(job.source, job.target, "failed", message)
