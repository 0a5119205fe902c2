"""The pipeline for one mosaic: align to RGGB, tile, run the network, average the self-ensemble, blend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES, Sites, cut
from .brightness import keep_brightness
from .counts import round_counts
from .errors import ConfigError, RawError
from .levels import Levels, normalise
from .models import find_model
from .noise import NoiseProfile, estimate_noise
from .passes import run_passes
from .pipeline import GPU_TILE_PX, Pipeline, Pipelines
from .pipeline_graph import Kind
from .raw_image import RawImage
from .session import Session
from .spec import ModelSpec
from .tile_size import tile_px_for
from .tiling import Read, Write, least_tile_px

log = logging.getLogger(__name__)


class Denoiser:
    """A model that is ready to denoise mosaics, one after another.

    For a pipeline of your own, on mosaics that it has in memory:

    >>> import numpy as np
    >>> from sk_deploy import Denoiser, NoiseProfile
    >>> denoise = Denoiser.from_file("small", provider="cpu")
    >>> mosaic = np.full((64, 96), 0.2, np.float32)  # yours: (raw - black) / (white - black), GBRG
    >>> clean = denoise(mosaic, NoiseProfile(shot=1e-3, read=2e-6), phase="GBRG")
    >>> clean.shape, str(clean.dtype)
    ((64, 96), 'float32')
    """

    session: Session
    tile_px: int
    """A tile holds at most as many sensor pixels as a square of this edge; halved when memory runs out."""

    def __init__(self, session: Session, tile_px: int | None = None) -> None:
        """Raises ConfigError when the tile has no room for the model's halo."""
        self.session = session
        least_px = self._least_px
        if tile_px is not None and tile_px < least_px:
            raise ConfigError(f"tile of {tile_px} px: model {session.spec.name} needs at least {least_px} px")
        usual_px = tile_px_for(session) if session.provider == "cpu" else GPU_TILE_PX
        self.tile_px = tile_px or max(usual_px, least_px)
        self._pipelines = Pipelines(session)

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

    @property
    def _least_px(self) -> int:
        return least_tile_px(self.spec.halo, self.spec.multiple)

    def __call__(
        self,
        mosaic: NDArray[np.float32],
        noise: NoiseProfile | None = None,
        phase: str = "RGGB",
        ensemble: bool = False,
        strength: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float32]:
        """Denoise a mosaic, which is not changed; returns float32 of the same shape and scale.

        `mosaic`: floats [H,W] of any size from 2 x 2, (raw - black) / (white - black), negatives kept.
        `noise`: variance shot · x + read on that scale; estimated from the mosaic when None (from 16 x 16
        pixels on), and not used by a blind model. `phase`: colours of mosaic[:2,:2] in reading order.
        `ensemble` averages the eight dihedral transforms: better, eight times the work. `strength` blends
        from the input (0) to the denoised mosaic (1). `progress` is told the share that is done, 0 to 1.
        Locally, the mean of every plane stays what it was (see `keep_brightness`).

        Hot pixels are for `find_defects`. Raises ConfigError for other strengths or phases, RawError for what
        is not such a mosaic, or when memory does not suffice for the smallest tile.
        """
        _check(mosaic.shape, phase, strength)
        if not np.issubdtype(mosaic.dtype, np.floating):
            raise RawError(
                f"a mosaic of {mosaic.dtype}: expected floats, (raw - black) / (white - black); raw counts "
                "and their levels are for Denoiser.counts"
            )
        mosaic = np.asarray(mosaic, np.float32)
        if noise is None and not self.spec.blind:
            noise = estimate_noise(mosaic)
        denoised = np.empty_like(mosaic)
        read = partial(cut, mosaic)

        def attempt() -> None:
            pipeline = self._on_gpu(mosaic.shape, phase, ensemble, np.float32, np.float32)
            if pipeline is not None:
                pipeline.run(mosaic, denoised, phase, noise, strength, progress=progress)
            else:
                write = partial(_put, denoised)
                self._run(read, write, mosaic.shape, phase, noise, ensemble, strength, progress)

        self._with_room(attempt)
        _keep_brightness(denoised, read, noise, strength)
        return denoised

    def image(
        self,
        raw: RawImage,
        noise: NoiseProfile | None = None,
        ensemble: bool = False,
        strength: float = 1.0,
        progress: Callable[[float], None] | None = None,
    ) -> NDArray[np.float32]:
        """As `__call__` with raw.mosaic, which is made tile by tile and never whole: on a GPU there."""
        if noise is None and not self.spec.blind:
            noise = estimate_noise(raw.mosaic)
        if raw.exact is not None:
            return self(raw.exact, noise, raw.phase, ensemble, strength, progress)
        _check(raw.shape, raw.phase, strength)
        denoised = np.empty(raw.shape, np.float32)
        top, left, bottom, right = raw.area
        counts = raw.stored[top:bottom, left:right]

        def attempt() -> None:
            pipeline = self._on_gpu(raw.shape, raw.phase, ensemble, np.uint16, np.float32)
            if pipeline is not None:
                pipeline.run(counts, denoised, raw.phase, noise, strength, raw.levels, progress=progress)
            else:
                write = partial(_put, denoised)
                self._run(raw.window, write, raw.shape, raw.phase, noise, ensemble, strength, progress)

        self._with_room(attempt)
        _keep_brightness(denoised, raw.window, noise, strength)
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

        As `__call__` in everything else, but for the means of planes, which are left as the network makes
        them: a whole count is often more than they are off. On a GPU only counts cross to it and back: the
        fastest way.
        """
        _check(counts.shape, phase, strength)
        if noise is None and not self.spec.blind:
            noise = estimate_noise(normalise(counts, levels))
        denoised = np.empty_like(counts)

        def read(rows: Sites, columns: Sites) -> NDArray[np.float32]:
            return normalise(cut(counts, rows, columns), levels.at(rows, columns))

        def write(rows: slice, columns: slice, mosaic: NDArray[np.float32]) -> None:
            here = levels.at(np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
            _put(denoised, rows, columns, round_counts(mosaic, here, gain))

        def attempt() -> None:
            pipeline = self._on_gpu(counts.shape, phase, ensemble, np.uint16, np.uint16)
            if pipeline is not None:
                pipeline.run(counts, denoised, phase, noise, strength, levels, gain, progress)
            else:
                self._run(read, write, counts.shape, phase, noise, ensemble, strength, progress)

        self._with_room(attempt)
        return denoised

    def _on_gpu(
        self, shape: tuple[int, ...], phase: str, ensemble: bool, source: Kind, target: Kind
    ) -> Pipeline | None:
        height, width = shape
        return self._pipelines.fitting((height, width), phase, self.tile_px, ensemble, source, target)

    def _run(
        self,
        read: Read,
        write: Write,
        shape: tuple[int, ...],
        phase: str,
        noise: NoiseProfile | None,
        ensemble: bool,
        strength: float,
        progress: Callable[[float], None] | None,
    ) -> None:
        height, width = shape
        run_passes(
            self.session,
            read,
            write,
            (height, width),
            phase=phase,
            noise=noise,
            ensemble=ensemble,
            strength=strength,
            most=(self.tile_px // 2) ** 2,
            progress=progress,
        )

    def _with_room(self, attempt: Callable[[], None]) -> None:
        """Attempt with ever smaller tiles until there is memory for them."""
        while True:
            try:
                return attempt()
            except MemoryError as error:
                self._halve_tile(error)

    def _halve_tile(self, error: MemoryError) -> None:
        self._pipelines = Pipelines(self.session)  # what they held is free
        smaller = max(self.tile_px // 2, self._least_px)
        if smaller == self.tile_px:
            raise RawError(f"not enough memory for a tile of {self.tile_px} px: {error}") from error
        log.warning("not enough memory for tiles of %d px; going on with %d px", self.tile_px, smaller)
        self.tile_px = smaller


def _keep_brightness(
    denoised: NDArray[np.float32], read: Read, noise: NoiseProfile | None, strength: float
) -> None:
    if noise is not None and strength > 0:
        keep_brightness(denoised, read, noise, strength)


def _put(pixels: NDArray[Any], rows: slice, columns: slice, denoised: NDArray[Any]) -> None:
    pixels[rows, columns] = denoised


def _check(shape: tuple[int, ...], phase: str, strength: float) -> None:
    if len(shape) != 2 or min(shape) < 2:
        raise RawError(f"an array of shape {shape} is no mosaic: expected [H,W] of at least 2×2 pixels")
    if phase not in PHASES:
        raise ConfigError(f"phase {phase!r}: expected one of {', '.join(PHASES)}")
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength {strength:g}: expected a number from 0 (input) to 1 (denoised)")
