"""PSNR, SSIM and bias of denoised pictures, as the paper's tables give them; without PyTorch.

`benchmark` measures one model, in a single pass and with self-ensemble, on any set; `measure` any methods.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_deploy.denoiser import Denoiser
from sk_deploy.noise import NoiseProfile

from .eval_set import EvalSet, Picture
from .quality import plane_bias, psnr_db, ssim

NOISY, SINGLE, ENSEMBLE = "noisy", "denoised", "with self-ensemble"
_WARM_UP_PX = 1024

Method = Callable[[Picture], NDArray[np.float32]]
"""A noisy picture -> the denoised mosaic [H,W]."""


@dataclass(frozen=True)
class Score:
    """How close to the clean mosaic."""

    psnr_db: float
    ssim: float
    bias: float
    """The largest error of a plane's mean, as a share of that mean."""


@dataclass(frozen=True)
class Result:
    """One picture."""

    name: str
    group: str
    megapixels: float
    noise: NoiseProfile
    noise_source: str
    scores: dict[str, Score]
    """Column -> score: NOISY and the methods that were run; {} without a clean mosaic."""
    seconds: dict[str, float]
    """The methods that were run: the mosaic in, the mosaic out."""

    def gain_db(self, column: str) -> float:
        """How much closer to the clean mosaic than the noisy one."""
        return self.scores[column].psnr_db - self.scores[NOISY].psnr_db


@dataclass(frozen=True)
class Measured:
    """Some methods on one set."""

    title: str
    results: Sequence[Result]

    def columns(self) -> list[str]:
        """What was scored: NOISY, then the methods."""
        return list(self.results[0].scores)

    def groups(self) -> list[str]:
        """In the order of their pictures."""
        return list(dict.fromkeys(result.group for result in self.results))

    def score(self, column: str, group: str | None = None) -> Score | None:
        """The mean over the pictures (of a group), and the largest bias; None where a column was not run."""
        scores = [r.scores[column] for r in self.results if group in (None, r.group) and column in r.scores]
        if not scores:
            return None
        return Score(
            float(np.mean([score.psnr_db for score in scores])),
            float(np.mean([score.ssim for score in scores])),
            max(score.bias for score in scores),
        )

    def s_per_mp(self, column: str) -> float | None:
        """Seconds for a megapixel (10⁶ sensor pixels); None where the column was not run."""
        run = [result for result in self.results if column in result.seconds]
        if not run:
            return None
        return sum(r.seconds[column] for r in run) / sum(r.megapixels for r in run)

    def means(self, group: str | None = None) -> dict[str, dict[str, float]]:
        """Column -> its score (of a group) as JSON has it."""
        scores = {column: self.score(column, group) for column in self.columns()}
        return {column: vars(score) for column, score in scores.items() if score}

    def facts(self) -> dict[str, Any]:
        """Everything, every picture included, as JSON has it."""
        methods = self.results[0].seconds
        return {
            "set": self.title,
            "pictures": len(self.results),
            "mean": self.means(),
            "groups": {group: self.means(group) for group in self.groups()},
            "s_per_mp": {method: self.s_per_mp(method) for method in methods},
            "images": [
                {
                    "name": r.name,
                    "group": r.group,
                    "megapixels": r.megapixels,
                    "noise": [r.noise.shot, r.noise.read],
                    "noise_source": r.noise_source,
                    "scores": {column: vars(score) for column, score in r.scores.items()},
                    "seconds": r.seconds,
                }
                for r in self.results
            ],
        }


@dataclass(frozen=True)
class Evaluation(Measured):
    """One model on one set: its columns are NOISY, SINGLE and ENSEMBLE, those that were run."""

    model: str
    blind: bool
    provider: str
    """The one that really ran."""

    def noise_sources(self) -> dict[str, int]:
        """Where the noise level came from -> pictures; {} for a blind model."""
        return {} if self.blind else dict(Counter(result.noise_source for result in self.results))

    def facts(self) -> dict[str, Any]:
        """As every measurement has them, and the model."""
        facts = super().facts()
        if self.blind:  # the level played no part
            for image in facts["images"]:
                image["noise"] = image["noise_source"] = None
        return {
            "model": self.model,
            "provider": self.provider,
            "noise_sources": self.noise_sources(),
        } | facts


def benchmark(
    denoiser: Denoiser,
    eval_set: EvalSet,
    *,
    ensemble: bool = True,
    progress: Callable[[str, float], None] = lambda name, done: None,
    keep: Callable[[NDArray[np.float32]], None] | None = None,
) -> Evaluation:
    """Denoise and score every picture, in a single pass and, with `ensemble`, averaged over eight.

    See `measure` for the rest.
    """
    methods = {SINGLE: passes(denoiser)}
    if ensemble:
        methods[ENSEMBLE] = passes(denoiser, ensemble=True)
    results = measure(methods, eval_set, progress, keep)
    return Evaluation(eval_set.title, results, denoiser.spec.name, denoiser.spec.blind, denoiser.provider)


def passes(denoiser: Denoiser, *, ensemble: bool = False) -> Method:
    """A model as a method: one pass, or eight."""
    return lambda picture: denoiser(picture.noisy, picture.noise, picture.phase, ensemble=ensemble)


def all_passes(denoisers: Mapping[str, Denoiser], *, ensemble: bool) -> dict[str, Method]:
    """Several models as columns of one table: each by its name and, with `ensemble`, once more."""
    columns: dict[str, Method] = {}
    for name, denoiser in denoisers.items():
        columns[name] = passes(denoiser)
        if ensemble:
            columns[f"{name} +ensemble"] = passes(denoiser, ensemble=True)
    return columns


def measure(
    methods: Mapping[str, Method],
    eval_set: EvalSet,
    progress: Callable[[str, float], None] = lambda name, done: None,
    keep: Callable[[NDArray[np.float32]], None] | None = None,
) -> list[Result]:
    """Denoise and score every picture with every method, by the names of their columns.

    Pictures without a clean mosaic are denoised once, by the last method. `progress` is told a name and the
    number of pictures done. `keep` takes what the last method made of each picture [H,W].
    """
    results, last = [], list(methods)[-1]
    for index, picture in enumerate(eval_set.pictures):
        progress(picture.name, index)
        chosen = methods if picture.clean is not None else {last: methods[last]}
        if not index:
            _warm_up(chosen, picture)
        results.append(_run(chosen, picture, keep))
    return results


def _warm_up(methods: Mapping[str, Method], picture: Picture) -> None:
    """What is slow once, such as choosing algorithms on a GPU or an import, is not timed."""
    corner = replace(picture, noisy=picture.noisy[:_WARM_UP_PX, :_WARM_UP_PX])
    for method in methods.values():
        method(corner)


def _run(
    methods: Mapping[str, Method],
    picture: Picture,
    keep: Callable[[NDArray[np.float32]], None] | None,
) -> Result:
    outputs, seconds = {NOISY: picture.noisy}, {}
    for column, method in methods.items():
        started = time.perf_counter()
        outputs[column] = method(picture)
        seconds[column] = time.perf_counter() - started
    scores = {}
    if (clean := picture.clean) is not None:
        scores = {
            column: Score(psnr_db(x, clean), ssim(x, clean), plane_bias(x, clean))
            for column, x in outputs.items()
        }
    if keep:
        keep(list(outputs.values())[-1])
    return Result(
        picture.name,
        picture.group,
        picture.noisy.size / 1e6,
        picture.noise,
        picture.noise_source,
        scores,
        seconds,
    )
