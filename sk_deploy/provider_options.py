"""How ONNX Runtime's GPU providers are set up: what is fastest for small convolutional networks.

tests/test_gpu_speed.py measures what the choices are worth.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

log = logging.getLogger(__name__)

Options = dict[str, str]

CUDA: Options = {
    "prefer_nhwc": "1",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
    "use_tf32": "0",
}
"""Tensor cores want channels last. Memory is asked for as it is needed: doubling would fail where half of it
is still free. float32 is float32: in TF32 a result is off by up to 2.75 steps of 14 bits, without it by a
quarter (an H200, 412 against 867 MP/s); who wants speed exports with --fp16 (1219 MP/s)."""


def provider_options(provider: str, graph: bytes) -> Options:
    """For a provider by ONNX Runtime's name, and the graph that it is to run."""
    if provider == "CUDAExecutionProvider":
        return CUDA
    if provider == "TensorrtExecutionProvider":
        return _tensorrt(engine_folder(graph))
    return {}


def engine_folder(graph: bytes) -> Path:
    """Where TensorRT keeps what it builds for a graph, which takes it up to minutes.

    One folder for each graph, weights included: ONNX Runtime tells engines apart by the names of their nodes,
    and two models of one architecture have the same.
    """
    return Path.home() / ".cache" / "skdn" / "tensorrt" / hashlib.sha256(graph).hexdigest()[:16]


def _tensorrt(folder: Path) -> Options:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("TensorRT builds anew each time: %s cannot be made (%s)", folder, error.strerror)
        return {}
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder.parent),
    }
