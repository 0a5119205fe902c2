"""The libraries that ONNX Runtime's GPU providers load, and which of them the system does not find."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import sys
from pathlib import Path

log = logging.getLogger(__name__)

CUDNN = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"
"""ONNX Runtime opens without it, and then has no convolutions."""


def preload_cuda() -> str:
    """Load CUDA and cuDNN from the NVIDIA wheels of an environment; returns what is complained of."""
    import onnxruntime

    if not hasattr(onnxruntime, "preload_dlls"):  # new in ONNX Runtime 1.21
        return ""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls()
    if complaint := " ".join(printed.getvalue().split()):
        log.info("loading CUDA libraries: %s", complaint)
    return complaint


def missing_libraries(provider: str) -> list[str]:
    """File names of the libraries that the system's loader does not find for "cuda" or "tensorrt"."""
    import onnxruntime

    complaints = preload_cuda()
    folder = Path(onnxruntime.__file__).parent / "capi"
    own = [path for part in ("shared", provider) for path in folder.glob(f"*onnxruntime_providers_{part}.*")]
    parts = [CUDNN, *map(str, own)]
    if provider == "tensorrt" and own:  # the loader would name the first that is missing, and no more
        parts += [name.decode() for name in set(re.findall(rb"libnvinfer\.so\.\d+", own[-1].read_bytes()))]
    for part in parts:
        with contextlib.suppress(AttributeError):  # RTLD_GLOBAL means nothing on Windows
            try:
                ctypes.CDLL(part, ctypes.RTLD_GLOBAL)
            except OSError as error:
                complaints += f" {error}"
    return sorted(set(re.findall(r"(lib[\w-]+\.so[.\d]*): cannot open", complaints)))
