"""A mosaic through the network on the host, tile by tile: once, or eight times for the self-ensemble."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .ensemble import DIHEDRAL
from .noise import NoiseProfile
from .session import Session
from .tiling import Read, Write, run_tiles

_BAND_ROWS = 256
"""Rows of the mean of all passes that are written at a time."""


def run_passes(
    session: Session,
    read: Read,
    write: Write,
    shape: tuple[int, int],
    *,
    phase: str,
    noise: NoiseProfile | None,
    ensemble: bool,
    strength: float,
    most: int,
    progress: Callable[[float], None] | None,
) -> None:
    """Denoise the mosaic [H,W] that `read` reads, into what `write` writes, each site once.

    `most` is what a tile may hold, in packed pixels. Raises MemoryError when that is more than the provider
    can allocate, ModelError when the graph cannot run.
    """
    level = None if noise is None else np.array([[noise.shot, noise.read]], np.float32)  # [1,2]

    def run(read: Read, write: Write, shape: tuple[int, ...], phase: str, begin: float, share: float) -> None:
        run_tiles(
            lambda planes: session.run(planes, level),
            read,
            write,
            shape,
            phase,
            most=most,
            halo=session.spec.halo,
            multiple=session.spec.multiple,
            lanes=session.lanes,
            progress=progress and (lambda done: progress(begin + share * done)),
        )

    def blend(rows: slice, columns: slice, denoised: NDArray[np.float32]) -> None:
        if strength != 1:
            noisy = read(np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop))
            denoised = np.float32(strength) * denoised + np.float32(1 - strength) * noisy
        write(rows, columns, denoised)

    if not ensemble:
        run(read, blend, shape, phase, 0.0, 1.0)
        return
    total = np.zeros(shape, np.float32)
    share = 1 / len(DIHEDRAL)
    for index, transform in enumerate(DIHEDRAL):
        view = transform.view(total)

        def add(rows: slice, columns: slice, denoised: NDArray[np.float32]) -> None:
            view[rows, columns] += np.float32(share) * denoised  # noqa: B023

        begin = index / len(DIHEDRAL)
        run(transform.reader(read, shape), add, view.shape, transform.phase(phase, shape), begin, share)
    height, width = shape
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top, min(top + _BAND_ROWS, height))
        blend(rows, slice(0, width), total[rows])
