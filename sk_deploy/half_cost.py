"""What half precision costs, in dB, measured on noisy synthetic mosaics over the noise range of training.

Measured on the CPU, where ONNX Runtime computes float16 layers in float32 and drops the rounding between
them; so it is put back after every layer, as a GPU has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bayer import pack
from .devices import cpu_threads
from .errors import ModelError
from .noise import LEAST_READ
from .session import FATAL_ONLY, open_runtime

LIMIT_DB = 0.01
"""Half of the smallest gain that the paper reports for an architecture (0.02 dB): an export that gave it away
would not have been worth the search."""
LEVELS = ((1e-5, 1e-8), (1e-4, 1e-6), (1e-3, 1e-5), (1e-2, 1e-4), (3e-2, 2e-3))
"""Shot and read variance, from base ISO to the noisiest that training has seen."""
_QUIETEST = (0.0, LEAST_READ)
"""The least noise that an estimate reports; here half precision has to stay finite, no more."""
_SIDE_PACKED = 128


@dataclass(frozen=True)
class HalfCost:
    """Two models of the same weights on the same mosaics; the worst of all levels."""

    psnr_db: float
    """Of the float16 model's output against the float32 model's; peak 1."""
    cost_db: float
    """How much nearer to the clean mosaic the float32 model comes, PSNR."""


def half_cost(full: Any, half: Any, blind: bool, multiple: int) -> HalfCost:
    """Compare an ONNX model with `to_half` of it.

    Raises ModelError when the float16 model gives a picture that is not finite or costs more than `LIMIT_DB`.
    """
    runtimes = (
        open_runtime(full.SerializeToString(), "float32", "cpu", cpu_threads()),
        rounded_runtime(half),
    )
    rng = np.random.default_rng(0)
    clean = pack(_scene(2 * -(-_SIDE_PACKED // multiple) * multiple, rng))[None]  # [1,4,h,w]
    psnrs, costs = [], []
    for shot, read in (*LEVELS, _QUIETEST):
        noise = rng.normal(size=clean.shape) * np.sqrt(shot * clean + read)
        feeds = {"input": (clean + noise).astype(np.float32)}
        if not blind:
            feeds["noise"] = np.array([[shot, read]], np.float32)
        in_full, in_half = (runtime.run(["output"], feeds)[0] for runtime in runtimes)
        if not np.isfinite(in_half).all():
            raise ModelError(
                f"not exported: float16 overflows at noise {shot:g},{read:g}: export it without --fp16"
            )
        if (shot, read) != _QUIETEST:
            psnrs.append(_psnr_db(in_half, in_full))
            costs.append(_psnr_db(in_full, clean) - _psnr_db(in_half, clean))
    cost = HalfCost(min(psnrs), max(costs))
    if not cost.cost_db <= LIMIT_DB:
        raise ModelError(
            f"not exported: float16 costs {cost.cost_db:.3f} dB, the limit is {LIMIT_DB} dB: "
            "export it without --fp16"
        )
    return cost


def rounded_runtime(half: Any) -> Any:
    """A session that rounds every float16 tensor where it is made.

    ONNX Runtime drops a cast to float16 that the cast back follows, also where one float16 node that it can
    run stands between the two. Two of them stay, and it is told to optimise nothing away.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    model = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    halves = {
        value.name
        for value in model.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16
    }
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes.append(node)
        for position, name in enumerate(node.output):
            if name in halves:
                node.output[position] = f"{name}_exact"
                nodes.append(helper.make_node("Identity", [f"{name}_exact"], [f"{name}_rounded"]))
                nodes.append(helper.make_node("Identity", [f"{name}_rounded"], [name]))
    graph = helper.make_graph(
        nodes, model.graph.name, model.graph.input, model.graph.output, model.graph.initializer
    )
    model.graph.CopyFrom(graph)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = cpu_threads()
    options.log_severity_level = FATAL_ONLY
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _scene(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """An RGGB mosaic [side,side] of opaque discs, mostly small: edges at all scales, black and white."""
    rows, columns = np.mgrid[:side, :side]
    rgb = np.full((3, side, side), 0.2)
    radii = np.sort(3 / np.sqrt(rng.uniform((6 / side) ** 2, 1, 500)))[::-1]
    for radius in radii:
        row, column = rng.uniform(0, side, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        rgb[:, disc] = np.clip(rng.uniform(-0.1, 1.1) * rng.uniform(0.5, 1, (3, 1)), 0, 1)
    mosaic = rgb[1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = rgb[0, ::2, ::2], rgb[2, 1::2, 1::2]
    return np.asarray(mosaic, np.float32)


def _psnr_db(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    error = np.square(a.astype(np.float64) - b).mean()
    return float(-10 * np.log10(error + 1e-20))  # 200 dB where they are equal
