"""PSNR and SSIM of a model file on a set of pictures, as the paper's tables give them; without PyTorch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_deploy.denoiser import Denoiser
from sk_deploy.noise import NoiseProfile

from .eval_set import EvalSet, Picture
from .quality import psnr_db, ssim

NOISY, SINGLE, ENSEMBLE = "noisy", "denoised", "with self-ensemble"


@dataclass(frozen=True)
class Score:
    """How close to the clean mosaic."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Result:
    """One picture."""

    name: str
    group: str
    megapixels: float
    noise: NoiseProfile
    noise_source: str
    scores: dict[str, Score]
    """NOISY, SINGLE and ENSEMBLE, those that were run; {} without a clean mosaic."""
    seconds: dict[str, float]
    """SINGLE and ENSEMBLE, those that were run: the mosaic in, the mosaic out."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one set."""

    model: str
    blind: bool
    provider: str
    """The one that really ran."""
    title: str
    results: Sequence[Result]

    def groups(self) -> list[str]:
        """In the order of their names."""
        return sorted({result.group for result in self.results})

    def score(self, column: str, group: str | None = None) -> Score | None:
        """The mean over the pictures (of a group) of a column; None where it was not run."""
        scores = [r.scores[column] for r in self.results if group in (None, r.group) and column in r.scores]
        if not scores:
            return None
        return Score(
            float(np.mean([score.psnr_db for score in scores])),
            float(np.mean([score.ssim for score in scores])),
        )

    def s_per_mp(self, column: str) -> float | None:
        """Seconds for a megapixel (10⁶ sensor pixels); None where the column was not run."""
        run = [result for result in self.results if column in result.seconds]
        if not run:
            return None
        return sum(r.seconds[column] for r in run) / sum(r.megapixels for r in run)

    def noise_sources(self) -> dict[str, int]:
        """Where the noise level came from -> pictures; {} for a blind model."""
        return {} if self.blind else dict(Counter(result.noise_source for result in self.results))

    def facts(self) -> dict[str, Any]:
        """Everything, every picture included, as JSON has it."""

        def table(group: str | None) -> dict[str, dict[str, float]]:
            scores = {column: self.score(column, group) for column in (NOISY, SINGLE, ENSEMBLE)}
            return {column: vars(score) for column, score in scores.items() if score}

        return {
            "model": self.model,
            "provider": self.provider,
            "set": self.title,
            "pictures": len(self.results),
            "noise_sources": self.noise_sources(),
            "mean": table(None),
            "groups": {group: table(group) for group in self.groups()},
            "s_per_mp": {c: s for c in (SINGLE, ENSEMBLE) if (s := self.s_per_mp(c)) is not None},
            "images": [
                {
                    "name": r.name,
                    "group": r.group,
                    "megapixels": r.megapixels,
                    "noise": None if self.blind else [r.noise.shot, r.noise.read],
                    "noise_source": None if self.blind else r.noise_source,
                    "scores": {column: vars(score) for column, score in r.scores.items()},
                    "seconds": r.seconds,
                }
                for r in self.results
            ],
        }


def benchmark(
    denoiser: Denoiser,
    eval_set: EvalSet,
    *,
    ensemble: bool = True,
    progress: Callable[[str, float], None] = lambda name, done: None,
    keep: Callable[[NDArray[np.float32]], None] | None = None,
) -> Evaluation:
    """Denoise and score every picture, in a single pass and, with `ensemble`, averaged over eight.

    Pictures without a clean mosaic are denoised once, the best way asked for. `progress` is told a name and
    the number of pictures done. `keep` takes each denoised mosaic [H,W], the best that was made of a picture.
    """
    results = []
    for index, picture in enumerate(eval_set.pictures):
        progress(picture.name, index)
        if not index:  # what is slow once, such as choosing algorithms on a GPU, is not timed
            denoiser(picture.noisy, picture.noise, picture.phase)
        results.append(_run(denoiser, picture, ensemble, keep))
    return Evaluation(denoiser.spec.name, denoiser.spec.blind, denoiser.provider, eval_set.title, results)


def _run(
    denoiser: Denoiser,
    picture: Picture,
    ensemble: bool,
    keep: Callable[[NDArray[np.float32]], None] | None,
) -> Result:
    passes = {SINGLE: False, ENSEMBLE: True} if ensemble else {SINGLE: False}
    if picture.clean is None and ensemble:
        del passes[SINGLE]
    outputs, seconds = {NOISY: picture.noisy}, {}
    for column, averaged in passes.items():
        started = time.perf_counter()
        outputs[column] = denoiser(picture.noisy, picture.noise, picture.phase, ensemble=averaged)
        seconds[column] = time.perf_counter() - started
    scores = {}
    if picture.clean is not None:
        scores = {c: Score(psnr_db(x, picture.clean), ssim(x, picture.clean)) for c, x in outputs.items()}
    if keep:
        keep(outputs[list(passes)[-1]])
    return Result(
        picture.name,
        picture.group,
        picture.noisy.size / 1e6,
        picture.noise,
        picture.noise_source,
        scores,
        seconds,
    )
