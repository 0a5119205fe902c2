"""Everything between a tile's raw counts and its denoised counts as one ONNX graph around a model.

For a GPU: nothing but 16-bit counts crosses to it and back. The graph gathers the windows of `windows` from
the patch, which cuts and flips them and continues them by reflection all at once, normalises, packs, runs the
network on all transforms as one batch, and goes the same way back. All shapes are fixed, so that convolution
algorithms are chosen once. A patch of uint16 holds counts, one of float32 a mosaic, black 0 and white 1; so
does the core.

In shapes T is the window, P the patch, C the core, F the flips. A gathered tile has six axes [F,2,T,F,2,T]:
flip, row of the 2×2 cell, packed row, and the same for columns; planes are the first of its transpositions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .counts import HIGHEST_COUNT
from .windows import WindowShape

Kind = type[np.uint16] | type[np.float32]
"""Of counts, or of a mosaic."""
OWN = "pipeline."
"""Begins all names but the model's own."""
CORE = f"{OWN}core"
"""The output [C,C]: counts times `gain`, or a mosaic."""
_STRAIGHT = (0, 3, 1, 4, 2, 5)
"""[F,2,T,F,2,T] -> [F,F,2,2,T,T]: flips of rows and of columns, planes R, Gr, Gb, B, packed rows, columns."""
_TRANSPOSED = (0, 3, 4, 1, 5, 2)
"""The same of the mosaic transposed, whose Gr is the Gb of before."""


def pipeline_inputs(
    windows: WindowShape, source: Kind, target: Kind, blind: bool
) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Name -> shape and type. `sites` and `kept` are those of `windows`, rows first.

    Where there are counts also `black` and `range` (white − black) of the RGGB cell, and `drift`, to be added
    to black row by row and column by column; and `gain` on those that come out.
    """
    t, p, c, f = windows.window, windows.patch, windows.core, windows.flips
    inputs: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "patch": ((p, p), source),
        "sites": ((2, f, 2, t), np.int32),
        "kept": ((2, f, c), np.int32),
        "strength": ((), np.float32),
    }
    if np.uint16 in (source, target):
        inputs |= {
            "black": ((2, 2), np.float32),
            "range": ((2, 2), np.float32),
            "drift": ((2, f, 2, t), np.float32),
        }
    if target is np.uint16:
        inputs["gain"] = ((), np.float32)
    if not blind:
        inputs["noise"] = ((1, 2), np.float32)
    return {OWN + name: shape_and_type for name, shape_and_type in inputs.items()}


def pipeline_graph(model: Any, windows: WindowShape, source: Kind, target: Kind, blind: bool) -> Any:
    """From `pipeline_inputs` to `CORE`: an ONNX model around one from `input` (and `noise`) to `output`."""
    import onnx
    from onnx import helper, numpy_helper

    given = pipeline_inputs(windows, source, target, blind)
    nodes = _Nodes()
    mosaic = before = _gather(nodes)
    if f"{OWN}black" in given:
        black, scale = _levels(nodes, windows)
    if source is np.uint16:
        mosaic = nodes.add("Div", nodes.add("Sub", before, black), scale)
    _pack(nodes, mosaic, windows)
    if not blind:
        batch = nodes.constant(np.array([windows.passes, 2], np.int64))
        nodes.add("Expand", f"{OWN}noise", batch, output="noise")
    nodes.all.extend(model.graph.node)
    denoised = _unpack(nodes, windows)
    if target is np.uint16:
        denoised = nodes.add("Add", nodes.add("Mul", denoised, scale), black)
    rows, columns = _kept(nodes, windows)
    mean = _mean_of_kept(nodes, denoised, rows, columns, windows)
    kept = _flat_kept(nodes, mosaic if target is np.float32 else before, rows[0], columns[0], windows)
    _finish(nodes, mean, kept, target)

    def value(name: str, shape: tuple[int, ...], kind: type[np.generic]) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    graph = helper.make_graph(
        nodes.all,
        "pipeline",
        [value(name, shape, kind) for name, (shape, kind) in given.items()],
        [value(CORE, (windows.core, windows.core), target)],
        [
            *model.graph.initializer,
            *(numpy_helper.from_array(c, name) for name, c in nodes.constants.items()),
        ],
    )
    result = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(result, full_check=True)
    return result


class _Nodes:
    """The graph as it grows."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.constants: dict[str, NDArray[np.generic]] = {}

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        from onnx import helper

        output = output or f"{OWN}{len(self.all)}"
        self.all.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: NDArray[np.generic]) -> str:
        """Add a constant; returns its name."""
        name = f"{OWN}constant{len(self.constants)}"
        self.constants[name] = value
        return name

    def axis(self, name: str, index: int) -> str:
        """What an input has for rows (0) or columns (1)."""
        return self.add("Gather", name, self.constant(np.array(index, np.int32)))

    def reshape(self, name: str, *shape: int) -> str:
        """The same values in another shape."""
        return self.add("Reshape", name, self.constant(np.array(shape, np.int64)))


def _gather(nodes: _Nodes) -> str:
    """The windows of all flips, float32 [F,2,T,F,2,T]."""
    from onnx import TensorProto

    rows, columns = (nodes.axis(f"{OWN}sites", axis) for axis in (0, 1))  # [F,2,T]
    of_rows = nodes.add("Gather", f"{OWN}patch", rows, axis=0)  # [F,2,T,P]
    return nodes.add("Cast", nodes.add("Gather", of_rows, columns, axis=3), to=TensorProto.FLOAT)


def _levels(nodes: _Nodes, windows: WindowShape) -> tuple[str, str]:
    """Black and white − black, of shapes that go with [F,2,T,F,2,T]."""
    t, f = windows.window, windows.flips
    rows = nodes.reshape(nodes.axis(f"{OWN}drift", 0), f, 2, t, 1, 1, 1)
    cell = nodes.reshape(f"{OWN}black", 1, 2, 1, 1, 2, 1)
    drift = nodes.add("Add", rows, nodes.axis(f"{OWN}drift", 1))
    return nodes.add("Add", drift, cell), nodes.reshape(f"{OWN}range", 1, 2, 1, 1, 2, 1)


def _pack(nodes: _Nodes, mosaic: str, windows: WindowShape) -> None:
    """[F,2,T,F,2,T] -> the model's `input` [passes,4,T,T]: the flips, then those of the transposed mosaic."""
    t, f = windows.window, windows.flips
    ways = (_STRAIGHT, _TRANSPOSED) if windows.passes > 1 else (_STRAIGHT,)
    planes = [nodes.reshape(nodes.add("Transpose", mosaic, perm=way), f * f, 4, t, t) for way in ways]
    nodes.add("Concat", *planes, output="input", axis=0)


def _unpack(nodes: _Nodes, windows: WindowShape) -> str:
    """The model's `output` [passes,4,T,T] -> [F,2,T,F,2,T], the mean over transposition."""
    t, f = windows.window, windows.flips

    def back(planes: str, way: tuple[int, ...]) -> str:
        six = nodes.reshape(planes, f, f, 2, 2, t, t)
        return nodes.add("Transpose", six, perm=[int(place) for place in np.argsort(way)])

    if windows.passes == 1:
        return back("output", _STRAIGHT)
    halves = nodes.reshape("output", 2, f * f, 4, t, t)
    straight, transposed = (
        back(nodes.axis(halves, index), way) for index, way in enumerate((_STRAIGHT, _TRANSPOSED))
    )
    total = nodes.add("Add", straight, transposed)
    return nodes.add("Mul", total, nodes.constant(np.array(1 / 2, np.float32)))


def _kept(nodes: _Nodes, windows: WindowShape) -> tuple[list[str], list[str]]:
    """For rows and for columns [C] of each flip."""
    axes = [nodes.axis(f"{OWN}kept", axis) for axis in (0, 1)]  # [F,C]
    rows, columns = ([nodes.axis(axis, flip) for flip in range(windows.flips)] for axis in axes)
    return rows, columns


def _flat_kept(nodes: _Nodes, six: str, rows: str, columns: str, windows: WindowShape) -> str:
    """One flip's core [C,C] of [F,2,T,F,2,T]."""
    side = windows.flips * 2 * windows.window
    flat = nodes.reshape(six, side, side)
    return nodes.add("Gather", nodes.add("Gather", flat, rows, axis=0), columns, axis=1)


def _mean_of_kept(nodes: _Nodes, six: str, rows: list[str], columns: list[str], windows: WindowShape) -> str:
    """The mean over the flips of [F,2,T,F,2,T], where the core lies in each: [C,C]."""
    if windows.flips == 1:
        return _flat_kept(nodes, six, rows[0], columns[0], windows)
    side = windows.flips * 2 * windows.window
    total = nodes.reshape(six, side, side)
    for axis, kept in enumerate((rows, columns)):
        total = nodes.add("Add", *(nodes.add("Gather", total, flip, axis=axis) for flip in kept))
    return nodes.add("Mul", total, nodes.constant(np.array(1 / 4, np.float32)))


def _finish(nodes: _Nodes, denoised: str, before: str, target: Kind) -> None:
    """Blend [C,C] with what it was, and round where counts come out."""
    from onnx import TensorProto

    strength = f"{OWN}strength"
    rest = nodes.add("Sub", nodes.constant(np.array(1, np.float32)), strength)
    blend = [nodes.add("Mul", denoised, strength), nodes.add("Mul", before, rest)]
    if target is np.float32:
        nodes.add("Add", *blend, output=CORE)
        return
    scaled = nodes.add("Mul", nodes.add("Add", *blend), f"{OWN}gain")
    limits = [nodes.constant(np.array(limit, np.float32)) for limit in (0, HIGHEST_COUNT)]
    rounded = nodes.add("Clip", nodes.add("Round", scaled), *limits)
    nodes.add("Cast", rounded, output=CORE, to=TensorProto.UINT16)
