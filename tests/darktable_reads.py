"""What darktable does with a `.dtmodel`, for tests: written after `src/common/ai/restore_raw_bayer.c` (5.6).

Left out: subtracting black, dividing by the range of black to white, and their inverse, which are the scale
of our mosaics; and the last step, clipping to [0, white] and rounding to whole raw values.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

OVERLAP = 32
"""Packed pixels on each side of a tile."""
COLOURS = {"R": 0, "G": 1, "B": 2}


def open_package(content: bytes, tile: int) -> tuple[dict, Callable[[NDArray], NDArray]]:
    """config.json of a .dtmodel, and its network as darktable opens it: every axis pinned by its name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (folder,) = {Path(name).parts[0] for name in archive.namelist()}
        assert sorted(archive.namelist()) == [f"{folder}/config.json", f"{folder}/model_bayer.onnx"]
        config = json.loads(archive.read(f"{folder}/config.json"))
        model = archive.read(f"{folder}/model_bayer.onnx")
    assert config["id"] == folder
    options = onnxruntime.SessionOptions()
    for axis, size in {"batch": 1, "height": tile, "width": tile}.items():
        options.add_free_dimension_override_by_name(axis, size)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (planes,), (rgb,) = session.get_inputs(), session.get_outputs()
    assert (planes.name, planes.type, planes.shape) == ("input", "tensor(float)", [1, 4, tile, tile])
    assert (rgb.name, rgb.type, rgb.shape) == ("output", "tensor(float)", [1, 3, 2 * tile, 2 * tile])
    return config, lambda x: session.run(["output"], {"input": x})[0]


@dataclass
class Restored:
    mosaic: NDArray[np.float32]
    tiles: list[tuple[NDArray, NDArray]]
    """What the network got, [4,T,T], and the mosaic [2T,2T] that was read off its answer."""


def restore(
    network: Callable[[NDArray], NDArray], mosaic: NDArray[np.float32], phase: str, tile: int
) -> Restored:
    """bayer_orientation force_rggb, edge_pad mirror_cropped, wb_norm none, output_scale absolute."""
    top, left = divmod(phase.index("R"), 2)  # crop to begin at a red site
    height, width = ((size - cut) // 2 for size, cut in zip(mosaic.shape, (top, left), strict=True))
    step = tile - 2 * OVERLAP
    total = np.zeros(mosaic.shape)
    tiles = []
    for row in range(0, height, step):
        for column in range(0, width, step):
            ys = _reflected(2 * (row - OVERLAP), 2 * tile, top, mosaic.shape[0])
            xs = _reflected(2 * (column - OVERLAP), 2 * tile, left, mosaic.shape[1])
            seen = mosaic[ys[:, None], xs]
            planes = np.stack([seen[y::2, x::2] for y in (0, 1) for x in (0, 1)])
            rgb = network(np.ascontiguousarray(planes[None]))[0]
            # At each site only the value of its colour, as the sensor's own pattern names it.
            y, x = np.mgrid[: 2 * tile, : 2 * tile]
            letters = np.array([COLOURS[letter] for letter in phase])
            colour = letters[2 * ((y + top) % 2) + (x + left) % 2]
            read = np.take_along_axis(rgb, colour[None], 0)[0]
            tiles.append((planes, read))
            for_rows = _weights(row, step, height)
            for_columns = _weights(column, step, width)
            into_y, from_y = _inside(2 * (row - OVERLAP) + top, 2 * tile, mosaic.shape[0])
            into_x, from_x = _inside(2 * (column - OVERLAP) + left, 2 * tile, mosaic.shape[1])
            weighted = for_rows[:, None] * for_columns * read
            total[into_y, into_x] += weighted[from_y, from_x]
    restored = mosaic.copy()  # what is cut off stays as it was
    crop = np.s_[top : top + 2 * height, left : left + 2 * width]
    restored[crop] = total[crop]
    return Restored(restored, tiles)


def _reflected(start: int, length: int, cut: int, size: int) -> NDArray[np.intp]:
    """Sensor rows from `start`, counted from the crop, folded about the crop's first and last."""
    last = size - 2 * cut - 1
    index = np.arange(start, start + length) % (2 * last)
    return cut + np.minimum(index, 2 * last - index)


def _weights(core: int, step: int, size: int) -> NDArray[np.float64]:
    """The share of each sensor row of a tile: it fades over the whole overlap with a neighbour."""
    seam = 2 * OVERLAP
    end = min(core + step, size)
    row = np.arange(2 * (step + 2 * OVERLAP)) - seam  # from the core's first
    length = 2 * (end - core)
    weight = ((row >= 0) & (row < length)).astype(np.float64)
    ramp = (np.arange(2 * seam) + 0.5) / (2 * seam)
    if core > 0:
        weight[: 2 * seam] = ramp
    if end < size:
        weight[length : length + 2 * seam] = 1 - ramp
    return weight


def _inside(start: int, length: int, size: int) -> tuple[slice, slice]:
    """Where a tile lies in the mosaic, and which part of it lies there."""
    first, stop = max(start, 0), min(start + length, size)
    return slice(first, stop), slice(first - start, stop - start)
