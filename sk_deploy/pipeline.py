"""A mosaic through the graph of `pipeline_graph`: two lanes, so that copies go on beside the network.

A lane is a pair of pinned host buffers and a binding of the graph's inputs and output to them. While the GPU
works on one lane's tile, the other lane copies its patch in and its core out; ONNX Runtime gives each of two
concurrent runs of a session a stream of its own. The same graph runs on a CPU, where tests compare it.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayer import PHASES
from .lanes import in_lanes
from .levels import Levels
from .noise import NoiseProfile
from .pinned import pinned_zeros
from .pipeline_graph import CORE, OWN, Kind, pipeline_graph, pipeline_inputs
from .session import Session
from .windows import AxisTile, Tile, WindowShape, plan_windows, window_shape

LANES = 2
GPU_TILE_PX = 2304
"""Edge of a tile in sensor pixels: a GPU has little to do with less at once. Half of it for self-ensemble,
whose eight passes run at once."""
MOST_OPEN = 4
"""Photographs of as many sizes in turn cost no time."""

Mosaic = NDArray[np.float32] | NDArray[np.uint16]
Feeds = dict[str, NDArray[Any]]


class Pipeline:
    """A model's pipeline for windows of one shape."""

    windows: WindowShape

    def __init__(
        self, session: Session, windows: WindowShape, source: Kind, target: Kind, lanes: int = LANES
    ) -> None:
        """From and to counts (np.uint16) or mosaics (np.float32).

        Raises ModelError or ProviderError when the graph cannot be opened, MemoryError.
        """
        import onnx

        self.windows, self._session = windows, session
        model = onnx.load_model_from_string(session.data)
        graph = pipeline_graph(model, windows, source, target, session.spec.blind)
        self._runtime = session.open(graph)
        inputs = pipeline_inputs(windows, source, target, session.spec.blind)
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._count = lanes
        for _ in range(lanes):
            self._lanes.put(_Lane(self._runtime, inputs, pinned_zeros((windows.core, windows.core), target)))

    def run(
        self,
        source: Mosaic,
        target: Mosaic,
        phase: str,
        noise: NoiseProfile | None,
        strength: float,
        levels: Levels | None = None,
        gain: int = 1,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Denoise `source` [H,W] into `target`, of its shape.

        `levels` are those of the counts, if any; `gain` is on counts in `target`. Raises MemoryError when the
        provider cannot allocate, ModelError when the graph cannot run.
        """
        spec = self._session.spec
        tiles = plan_windows(source.shape, phase, self.windows, spec.halo, spec.multiple)
        constants: Feeds = {"strength": np.array(strength, np.float32)}
        if levels is not None:
            constants |= _cell(levels, phase)
        if target.dtype == np.uint16:
            constants["gain"] = np.array(gain, np.float32)
        if noise is not None and not spec.blind:
            constants["noise"] = np.array([[noise.shot, noise.read]], np.float32)

        def one(tile: Tile) -> None:
            lane = self._lanes.get()
            try:
                lane.run(tile, source, target, constants, levels)
            except Exception as error:  # ONNX Runtime's exceptions share no base class
                raise self._session.failure(error) from error
            finally:
                self._lanes.put(lane)

        started = time.perf_counter()
        in_lanes(one, tiles, self._count, progress)
        self._session.network_s += time.perf_counter() - started


class Pipelines:
    """A session's pipelines, each opened when a mosaic first wants it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._open: dict[tuple[WindowShape, Kind, Kind], Pipeline] = {}

    def fitting(
        self, shape: tuple[int, int], phase: str, tile_px: int, ensemble: bool, source: Kind, target: Kind
    ) -> Pipeline | None:
        """For a mosaic [H,W]; None without a GPU, and where tiles would be mostly halo.

        Raises as `Pipeline` does.
        """
        if not self._session.on_gpu:
            return None
        spec, tile = self._session.spec, tile_px // (4 if ensemble else 2)
        windows = window_shape(shape, phase, tile, spec.halo, spec.multiple, ensemble)
        if windows is None:
            return None
        key = windows, source, target
        if key not in self._open:
            if len(self._open) == MOST_OPEN:
                self._open.clear()
            self._open[key] = Pipeline(self._session, *key)
        return self._open[key]


class _Lane:
    """Buffers of one tile, bound to the graph."""

    def __init__(self, runtime: Any, inputs: dict[str, tuple[tuple[int, ...], Any]], core: Mosaic) -> None:
        self._runtime, self._binding = runtime, runtime.io_binding()
        self._inputs = {name: pinned_zeros(shape, kind) for name, (shape, kind) in inputs.items()}
        self._core = core
        self._binding.bind_output(CORE, "cpu", 0, core.dtype.type, core.shape, core.ctypes.data)

    def run(
        self, tile: Tile, source: Mosaic, target: Mosaic, constants: Feeds, levels: Levels | None
    ) -> None:
        """Denoise one tile of `source` into `target`."""
        row, column = tile.row, tile.column
        patch = source[row.patch, column.patch]
        self._inputs[f"{OWN}patch"][: patch.shape[0], : patch.shape[1]] = patch
        feeds: dict[str, Any] = constants | {
            "sites": (row.sites, column.sites),
            "kept": (row.kept, column.kept),
        }
        if levels is not None:
            feeds["drift"] = (_drift(levels.rows, row), _drift(levels.columns, column))
        for name, value in feeds.items():
            self._inputs[OWN + name][...] = value
        for name, buffer in self._inputs.items():
            self._binding.bind_cpu_input(name, buffer)  # with a GPU this copies
        self._runtime.run_with_iobinding(self._binding)
        target[row.fresh, column.fresh] = self._core[row.fresh_of_core, column.fresh_of_core]


def _cell(levels: Levels, phase: str) -> Feeds:
    """Black and white − black [2,2] of the RGGB cell, from those of the mosaic's first cell."""
    black, white = (np.roll(level, PHASES[phase], (0, 1)) for level in (levels.black, levels.white))
    return {"black": black, "range": white - black}


def _drift(drift: NDArray[np.float32], axis: AxisTile) -> NDArray[np.float32]:
    """What black drifts by along an axis, [flips,2,window]."""
    return drift[axis.patch][axis.sites]
