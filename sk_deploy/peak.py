"""What the machine can do at best: a large float32 matrix product, on the provider that runs the network."""

from __future__ import annotations

import time

import numpy as np

from .session import open_runtime

SIDE = {"cpu": 2048, "cuda": 8192, "tensorrt": 8192}
"""Of the square matrices: large enough to be bound by arithmetic, small enough to be over in a moment."""
RUNS = 5


def matmul_peak_gmacs_per_s(provider: str, threads: int) -> float:
    """Multiply-accumulates a second, in 10⁹, of the quietest of five matrix products.

    Nothing but one number a run is copied to or from a GPU, whose matrix products take TF32 where it has it,
    as its convolutions do. Raises ProviderError when the provider cannot run.
    """
    from onnx import TensorProto, helper, numpy_helper

    side = SIDE[provider]
    values = np.random.default_rng(0).standard_normal((side, side), np.float32)
    nodes = [
        helper.make_node("Mul", ["values", "scale"], ["scaled"]),  # or the product would be folded on opening
        helper.make_node("MatMul", ["scaled", "values"], ["product"]),
        helper.make_node("ReduceMax", ["product"], ["largest"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "matrix product",
        [helper.make_tensor_value_info("scale", TensorProto.FLOAT, [])],
        [helper.make_tensor_value_info("largest", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(values, "values")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime = open_runtime(model.SerializeToString(), "matrix product", provider, threads)
    feeds = {"scale": np.ones((), np.float32)}
    runtime.run(None, feeds)
    quietest = float("inf")
    for _ in range(RUNS):
        started = time.perf_counter()
        runtime.run(None, feeds)
        quietest = min(quietest, time.perf_counter() - started)
    return side**3 / 1e9 / quietest
