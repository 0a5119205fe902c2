"""Small model files for the tests: real ONNX graphs with skdn metadata, made with onnx.helper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sk_deploy.spec import METADATA_KEY, ModelSpec

OPSET = 20
IR_VERSION = 10


def spec(**facts: object) -> ModelSpec:
    """Metadata of a small model; `facts` overrides any of it."""
    usual = {
        "name": "test",
        "licence": "Apache-2.0",
        "multiple": 1,
        "halo": 0,
        "conditioning": "none",
        "macs_per_mp": 1e6,
        "parameters": 1,
    }
    return ModelSpec(**(usual | facts))  # type: ignore[arg-type]


def save(path: Path, nodes: list, weights: dict[str, NDArray], facts: ModelSpec | None) -> Path:
    """Write a graph from `input` (and `noise`, unless blind) to `output`."""
    planes = ["batch", 4, "height", "width"]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, planes)]
    if facts is not None and not facts.blind:
        inputs.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, ["batch", 2]))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, planes)]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    if facts is not None:
        model.metadata_props.add(key=METADATA_KEY, value=facts.to_json())
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def identity(path: Path, **facts: object) -> Path:
    """Output is input."""
    return save(path, [helper.make_node("Identity", ["input"], ["output"])], {}, spec(**facts))


def convolutions(path: Path, layers: int = 2, k: int = 3, seed: int = 0, **facts: object) -> Path:
    """Input + `layers` random zero-padded k×k convolutions with ReLU between: halo `layers` · (k // 2)."""
    rng = np.random.default_rng(seed)
    nodes, weights, x = [], {}, "input"
    for layer in range(layers):
        weight = rng.normal(0, (4 * k * k) ** -0.5, (4, 4, k, k))
        weights[f"w{layer}"] = weight.astype(np.float32)
        pads = [k // 2] * 4
        nodes.append(helper.make_node("Conv", [x, f"w{layer}"], [f"c{layer}"], pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        x = f"r{layer}"
    nodes.append(helper.make_node("Add", ["input", x], ["output"]))
    return save(path, nodes, weights, spec(**({"halo": layers * (k // 2)} | facts)))


def unet(path: Path, seed: int = 0, **facts: object) -> Path:
    """Convolution, stride-2 convolution, ReLU, convolution, up by two, plus input: multiple 2, halo 8."""
    rng = np.random.default_rng(seed)

    def kernel(out: int, into: int) -> NDArray:
        return rng.normal(0, (into * 9) ** -0.5, (out, into, 3, 3)).astype(np.float32)

    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Conv", ["input", "w0"], ["a"], pads=pads),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=pads, strides=[2, 2]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w2"], ["d"], pads=pads),
        helper.make_node("DepthToSpace", ["d"], ["e"], blocksize=2),
        helper.make_node("Add", ["input", "e"], ["output"]),
    ]
    weights = {"w0": kernel(4, 4), "w1": kernel(8, 4), "w2": kernel(16, 8)}
    return save(path, nodes, weights, spec(**({"multiple": 2, "halo": 8} | facts)))


def plane_gains(path: Path, gains: tuple[float, float, float, float], **facts: object) -> Path:
    """Each plane times its gain: shows which plane a site was packed into."""
    weights = {"gains": np.array(gains, np.float32).reshape(1, 4, 1, 1)}
    return save(path, [helper.make_node("Mul", ["input", "gains"], ["output"])], weights, spec(**facts))


def noise_adder(path: Path) -> Path:
    """Input + shot + read, so that a test sees which level the network was given."""
    nodes = [
        helper.make_node("ReduceSum", ["noise", "axes"], ["level"], keepdims=1),
        helper.make_node("Reshape", ["level", "shape"], ["plane"]),
        helper.make_node("Add", ["input", "plane"], ["output"]),
    ]
    weights = {"axes": np.array([1], np.int64), "shape": np.array([-1, 1, 1, 1], np.int64)}
    return save(path, nodes, weights, spec(conditioning="map"))
