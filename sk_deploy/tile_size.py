"""How large tiles are on a CPU: as large as memory allows, since all that halos cost is computed twice.

What a network's activations take is read off its graph: the most that lies between operators at any time, an
operator's output taking the place of its input where it can. ONNX Runtime's arena (`cpu_arena`) takes a tenth
to a sixth more.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from .devices import free_memory
from .session import Session
from .spec import ModelSpec
from .tiling import least_tile_px

MEMORY_BYTES = 192 * 2**20
"""For all tiles that are computed at a time. 12 megapixels then take less than 450 MiB with all else."""
SHARE_OF_FREE = 0.5
"""Of the memory at hand; photographs need the rest."""
MOST_COMPUTED = 1.5
"""Pixels computed for each that is kept: a network whose halo is too wide for that takes more memory."""
SLACK = 1.2
"""What ONNX Runtime takes for each byte of activations."""
AROUND_BYTES = 32
"""What a packed pixel takes outside the network at the end of a tile: output, and unpacked output."""

_IN_PLACE = frozenset(
    {"Add", "Clip", "Div", "Identity", "LeakyRelu", "Mul", "PRelu", "Relu", "Reshape", "Sqrt", "Sub"}
)
"""Operators whose output may take the place of an input of the same size."""
_WORKSPACES = {"ConvTranspose": 3}
"""What an operator takes while it runs, in units of its output: columns, and input and output in another
order; as measured."""


def tile_px_for(session: Session) -> int:
    """The edge in sensor pixels of a square tile of as many pixels as there is memory for."""
    spec = session.spec
    pixel_bytes = session.lanes * (SLACK * activation_bytes(session.data, spec.multiple) + AROUND_BYTES)
    wanted = max(MEMORY_BYTES, pixel_bytes * _least_economical(spec) ** 2)
    memory = min(wanted, SHARE_OF_FREE * free_memory())
    return max(2 * math.isqrt(int(memory / pixel_bytes)), least_tile_px(spec.halo, spec.multiple))


def _least_economical(spec: ModelSpec) -> float:
    """The edge of a tile, in packed pixels, of which no more is computed than is reasonable."""
    return 2 * spec.halo / (1 - 1 / math.sqrt(MOST_COMPUTED))


def activation_bytes(data: bytes, multiple: int) -> float:
    """Bytes that a model's activations take for each packed pixel, at most at a time."""
    import onnx

    side = 8 * multiple
    model = onnx.load_model_from_string(data)
    _fix_shapes(model.graph, side)
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {
        value.name: 4 * math.prod(axis.dim_value for axis in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    readers = Counter(name for node in graph.node for name in set(node.input))
    readers.update(value.name for value in graph.output)
    held = {value.name: sizes[value.name] for value in graph.input}
    most = 0
    for node in graph.node:
        dying = {name for name in node.input if name in held and readers[name] == 1}
        readers.subtract(set(node.input))
        # A shape that only a run would tell is taken to be that of the largest input.
        unknown = max((held.get(name, 0) for name in node.input), default=0)
        made = {name: sizes.get(name, 0) or unknown for name in node.output if name}
        if node.op_type in _IN_PLACE and (places := [n for n in dying if held[n] == sum(made.values())]):
            del held[places[0]]
        held |= made
        working = _WORKSPACES.get(node.op_type, 0) * sum(made.values())
        most = max(most, sum(held.values()) + working)
        for name in dying:
            held.pop(name, None)
    return float(most / side**2)


def _fix_shapes(graph: Any, side: int) -> None:
    """One input of side × side packed pixels, so that every shape can be inferred."""
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        shape = value.type.tensor_type.shape
        lengths = [1, 4, side, side] if len(shape.dim) == 4 else [1, 2]
        for axis, length in zip(shape.dim, lengths, strict=True):
            axis.dim_value = length
