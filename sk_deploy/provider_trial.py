"""One provider tried out, in a process of its own: `python -m sk_deploy.provider_trial cuda` prints JSON.

A library that is missing, or that crashes, then costs no more than this process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from .devices import cpu_threads, cuda_absence
from .errors import SkdnError
from .gpu_libraries import missing_libraries
from .session import PROVIDERS, open_runtime


def try_out(provider: str) -> dict[str, Any]:
    """Run a small convolution; returns `reason`, empty when its result is right, and `missing` libraries."""
    missing = [] if provider == "cpu" else missing_libraries(provider)
    try:
        reason = _run(provider)
    except SkdnError as error:
        reason = str(error)
    return {"reason": (cuda_absence() if provider != "cpu" else "") or reason, "missing": missing}


def _run(provider: str) -> str:
    """What went wrong; empty when the provider computed what numpy does."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    x = random.standard_normal((1, 4, 16, 16)).astype(np.float32)
    weight = random.standard_normal((8, 4, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"])],
        "trial",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 16, 16))],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime = open_runtime(model.SerializeToString(), "trial", provider, cpu_threads())
    try:
        (y,) = runtime.run(None, {"x": x})
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return " ".join(str(error).split())
    expected = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0], x)
    error_max = float(np.abs(y - expected).max())
    return "" if error_max < 0.05 else f"a convolution came out wrong, by {error_max:.2g}"  # TF32 is coarse


if __name__ == "__main__":
    if sys.argv[1] not in PROVIDERS:
        sys.exit(f"{sys.argv[1]} is none of {', '.join(PROVIDERS)}")
    print(json.dumps(try_out(sys.argv[1])))
