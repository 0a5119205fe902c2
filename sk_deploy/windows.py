"""Where the transforms of the self-ensemble see one tile: the plan of the graph that runs on a GPU.

The eight transforms are two flips and a transposition. What a network sees of a transformed mosaic is planned
for each axis and each flip by itself, because the result has to be that of `denoiser`, which transforms the
mosaic whole and tiles it then: a flipped mosaic has another phase, and the network's grid begins at its other
end. So a tile is a `core`, the sites that are kept, and for each flip a window around it: as long as all
others, on the flip's own grid, a halo beyond the core wherever the flipped mosaic has more. Transposition
exchanges the axes, and windows are square.

Lengths are packed pixels for windows and halos; sites are rows or columns of sensor pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .tiling import packed_axis, reflect, round_up

Sites = NDArray[np.int32]


@dataclass(frozen=True)
class WindowShape:
    """What all windows of a run have in common."""

    window: int
    """Edge in packed pixels, a multiple of the network's."""
    core: int
    """Edge of what is kept, in sites."""
    patch: int
    """Edge of what holds all windows of a tile, in sites."""
    flips: int
    """2 for the self-ensemble of eight, 1 for the mosaic as it is."""

    @property
    def passes(self) -> int:
        """How many planes go through the network for one tile."""
        return 1 if self.flips == 1 else 8


@dataclass(frozen=True, eq=False)
class AxisTile:
    """One tile along one axis."""

    patch: slice
    """Sites of the mosaic that the windows see."""
    sites: Sites
    """[flips,2,window] for each flip the site, counted from the patch, of row 0 and 1 of every packed row."""
    kept: Sites
    """[flips,core] for each flip where the core lies in `sites`, flattened."""
    fresh: slice
    """Sites of the mosaic that no tile before had."""
    fresh_of_core: slice
    """Where they lie in the core."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Its axes: rows and columns of the mosaic."""

    row: AxisTile
    column: AxisTile


def window_shape(
    shape: tuple[int, int], phase: str, tile: int, halo: int, multiple: int, ensemble: bool
) -> WindowShape | None:
    """The windows of at most `tile` packed pixels that cover a mosaic [H,W] with the least work.

    None where they would be mostly halo: less than half of their edge kept.
    """
    flips = 2 if ensemble else 1
    axes = list(zip(shape, PHASES[phase], strict=True))
    packed = (packed_axis(size, _red(size, red, flip), halo) for size, red in axes for flip in range(flips))
    room = min(round_up(length, multiple) for _, length in packed)
    longest = min(tile // multiple * multiple, room)
    fitting = [
        WindowShape(window, core, 2 * (window + multiple + 1), flips)
        for window in range(longest, longest // 4, -multiple)
        if (core := 2 * (window - 2 * halo - multiple)) >= max(window, 1)
    ]
    return min(
        fitting, key=lambda w: w.window**2 * math.prod(-(-size // w.core) for size in shape), default=None
    )


def plan_windows(
    shape: tuple[int, int], phase: str, windows: WindowShape, halo: int, multiple: int
) -> list[Tile]:
    """The tiles of a mosaic [H,W], row by row."""
    rows, columns = (
        _plan_axis(size, red, windows, halo, multiple) for size, red in zip(shape, PHASES[phase], strict=True)
    )
    return [Tile(row, column) for row in rows for column in columns]


def _plan_axis(size: int, red: int, windows: WindowShape, halo: int, multiple: int) -> list[AxisTile]:
    """Cores side by side; the last is shifted inside and shares sites with the one before."""
    tiles, done = [], 0
    while done < size:
        start = min(done, size - windows.core)
        placed = [
            _place(size, red, start, flip, windows, halo, multiple) for flip in range(windows.flips)
        ]  # per flip: sites [2,window] of the mosaic, kept [core]
        sites = np.stack([of_flip for of_flip, _ in placed])
        first = min(int(sites.min()), max(0, size - windows.patch))
        tiles.append(
            AxisTile(
                patch=slice(first, min(first + windows.patch, size)),
                sites=sites - np.int32(first),
                kept=np.stack([of_flip for _, of_flip in placed]),
                fresh=slice(done, start + windows.core),
                fresh_of_core=slice(done - start, windows.core),
            )
        )
        done = start + windows.core
    return tiles


def _place(
    size: int, red: int, start: int, flip: int, windows: WindowShape, halo: int, multiple: int
) -> tuple[Sites, Sites]:
    """One flip's window around the core that begins at site `start`: its sites [2,window], and [core]."""
    core = np.arange(start, start + windows.core)
    if flip:
        core = size - 1 - core
    # Now all is counted in the flipped mosaic.
    outside, length = packed_axis(size, _red(size, red, flip), halo)
    origin = ((int(core.min()) + outside) // 2 - halo) // multiple * multiple
    origin = min(max(origin, 0), round_up(length, multiple) - windows.window)
    sites = reflect(2 * origin - outside, 2 * windows.window, size)
    place = core + outside - 2 * origin  # in 0 … 2·window
    kept = flip * 2 * windows.window + place % 2 * windows.window + place // 2
    if flip:
        sites = size - 1 - sites
    return sites.reshape(windows.window, 2).T.astype(np.int32), kept.astype(np.int32)


def _red(size: int, red: int, flip: int) -> int:
    """The first red site of an axis, 0 or 1, of the mosaic as it is or flipped."""
    return (red + flip * (size - 1)) % 2
