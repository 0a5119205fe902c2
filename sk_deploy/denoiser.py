"""The pipeline for one mosaic: align to RGGB, tile, run the network, average the self-ensemble, blend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .counts import HIGHEST_COUNT
from .ensemble import DIHEDRAL, IDENTITY
from .errors import ConfigError, RawError
from .levels import Levels, normalise, to_counts
from .models import find_model
from .noise import NoiseProfile, estimate_noise
from .pipeline import Pipeline
from .session import Session
from .spec import ModelSpec
from .tiling import run_tiles
from .windows import WindowShape, window_shape

log = logging.getLogger(__name__)

TILE_PX = 1024
"""Edge of a tile in sensor pixels: small enough for memory, large enough that halos cost little."""
GPU_TILE_PX = 2304
"""The same on a GPU, which has little to do with less at once. Half of it for the self-ensemble, whose eight
passes run at once."""
MOST_PIPELINES = 4
"""Kept open on a GPU: photographs of as many sizes in turn cost no time."""


class Denoiser:
    """A model that is ready to denoise mosaics."""

    session: Session
    tile_px: int
    """Longest edge of a tile, sensor pixels; halved when memory runs out."""

    def __init__(self, session: Session, tile_px: int | None = None) -> None:
        """Raises ConfigError when the tile has no room for the model's halo."""
        self.session = session
        least_px = _least_tile_px(session.spec)
        if tile_px is not None and tile_px < least_px:
            raise ConfigError(f"tile of {tile_px} px: model {session.spec.name} needs at least {least_px} px")
        usual_px = TILE_PX if session.provider == "cpu" else GPU_TILE_PX
        self.tile_px = tile_px or max(usual_px, least_px)
        self._pipelines: dict[tuple[WindowShape, bool], Pipeline] = {}

    @classmethod
    def from_file(cls, model: str | Path, provider: str = "auto", tile: int | None = None) -> Denoiser:
        """Open a shipped model by its name, or a model file. `tile` is an edge in sensor pixels.

        Raises ModelError, ProviderError or ConfigError.
        """
        return cls(Session(find_model(model), provider), tile)

    @property
    def spec(self) -> ModelSpec:
        """The facts of the model."""
        return self.session.spec

    @property
    def provider(self) -> str:
        """The provider that really runs."""
        return self.session.provider

    def __call__(
        self,
        mosaic: NDArray[np.float32],
        noise: NoiseProfile | None = None,
        phase: str = "RGGB",
        ensemble: bool = False,
        strength: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float32]:
        """Denoise a mosaic [H,W], black 0 and white 1, negatives kept; returns the same shape and scale.

        `noise` is estimated from the mosaic when None. `ensemble` averages the eight dihedral transforms.
        `strength` from 0 to 1 blends from the input to the denoised mosaic. `progress` is told the share that
        is done. Raises ConfigError for other strengths or phases, RawError for what is not a mosaic or when
        memory does not suffice for the smallest tile.
        """
        _check(mosaic, phase, strength)
        mosaic = np.asarray(mosaic, np.float32)
        if noise is None and not self.spec.blind:
            noise = estimate_noise(mosaic)
        denoised = np.zeros_like(mosaic)
        while True:
            try:
                pipeline = self._on_gpu(mosaic.shape, phase, ensemble, counts=False)
                if pipeline is not None:
                    pipeline.run(mosaic, denoised, phase, noise, strength, progress=progress)
                    return denoised
                self._run(mosaic, noise, phase, ensemble, denoised, progress)
                break
            except MemoryError as error:
                self._halve_tile(error)
                denoised[...] = 0
        if strength != 1:
            denoised *= np.float32(strength)
            denoised += np.float32(1 - strength) * mosaic
        return denoised

    def counts(
        self,
        counts: NDArray[np.uint16],
        levels: Levels,
        noise: NoiseProfile | None = None,
        phase: str = "RGGB",
        ensemble: bool = False,
        strength: float = 1.0,
        gain: int = 1,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.uint16]:
        """Denoise raw counts [H,W] of these levels; returns `gain` times as many, rounded, within 16 bits.

        As `__call__` in everything else. On a GPU only counts cross to it and back: the fastest way.
        """
        _check(counts, phase, strength)
        if noise is None and not self.spec.blind:
            noise = estimate_noise(normalise(counts, levels))
        denoised = np.zeros_like(counts)
        while True:
            try:
                pipeline = self._on_gpu(counts.shape, phase, ensemble, counts=True)
                if pipeline is not None:
                    pipeline.run(counts, denoised, phase, noise, strength, levels, gain, progress)
                    return denoised
                break
            except MemoryError as error:
                self._halve_tile(error)
        mosaic = self(normalise(counts, levels), noise, phase, ensemble, strength, progress)
        scaled = np.rint(to_counts(mosaic, levels) * np.float32(gain))
        rounded: NDArray[np.uint16] = np.clip(scaled, 0, HIGHEST_COUNT).astype(np.uint16)
        return rounded

    def _on_gpu(self, shape: tuple[int, ...], phase: str, ensemble: bool, counts: bool) -> Pipeline | None:
        """What runs such a mosaic in one graph; None on a CPU, and where tiles would be mostly halo."""
        if self.provider == "cpu":
            return None
        height, width = shape
        spec, tile = self.spec, self.tile_px // (4 if ensemble else 2)
        windows = window_shape((height, width), phase, tile, spec.halo, spec.multiple, ensemble)
        if windows is None:
            return None
        if (windows, counts) not in self._pipelines:
            if len(self._pipelines) == MOST_PIPELINES:
                self._pipelines.clear()
            self._pipelines[windows, counts] = Pipeline(self.session, windows, counts)
        return self._pipelines[windows, counts]

    def _run(
        self,
        mosaic: NDArray[np.float32],
        noise: NoiseProfile | None,
        phase: str,
        ensemble: bool,
        denoised: NDArray[np.float32],
        progress: Callable[[float], None] | None,
    ) -> None:
        """One pass a transform, each adding its share to `denoised` through a transformed view of it."""
        level = None if noise is None else np.array([[noise.shot, noise.read]], np.float32)  # [1,2]
        transforms = DIHEDRAL if ensemble else (IDENTITY,)
        for index, transform in enumerate(transforms):
            run_tiles(
                lambda planes: self.session.run(planes, level),
                transform.view(mosaic),
                transform.phase(phase, mosaic.shape),
                transform.view(denoised),
                tile=self.tile_px // 2,
                halo=self.spec.halo,
                multiple=self.spec.multiple,
                weight=1 / len(transforms),
                progress=progress and _part(progress, index, len(transforms)),
            )

    def _halve_tile(self, error: MemoryError) -> None:
        self._pipelines.clear()  # and what they hold
        smaller = max(self.tile_px // 2, _least_tile_px(self.spec))
        if smaller == self.tile_px:
            raise RawError(f"not enough memory for a tile of {self.tile_px} px: {error}") from error
        log.warning("not enough memory for tiles of %d px; going on with %d px", self.tile_px, smaller)
        self.tile_px = smaller


def _part(progress: Callable[[float], None], index: int, count: int) -> Callable[[float], None]:
    return lambda share: progress((index + share) / count)


def _least_tile_px(spec: ModelSpec) -> int:
    """Two halos and one multiple, in sensor pixels."""
    halo = -(-spec.halo // spec.multiple) * spec.multiple
    return 2 * (2 * halo + spec.multiple)


def _check(mosaic: NDArray[np.float32] | NDArray[np.uint16], phase: str, strength: float) -> None:
    if mosaic.ndim != 2 or min(mosaic.shape) < 2:
        raise RawError(
            f"an array of shape {mosaic.shape} is no mosaic: expected [H,W] of at least 2×2 pixels"
        )
    if phase not in PHASES:
        raise ConfigError(f"phase {phase!r}: expected one of {', '.join(PHASES)}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength {strength:g}: expected a number from 0 (input) to 1 (denoised)")
