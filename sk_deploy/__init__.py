"""Run a compact raw denoiser on raw photographs: numpy and ONNX Runtime, no PyTorch.

    from sk_deploy import Denoiser, estimate_noise, find_defects, read_raw, write_dng

    raw = read_raw("shot.dng")
    mosaic = raw.mosaic  # [H,W]: (raw - black) / (white - black)
    noise = raw.noise or estimate_noise(mosaic)
    find_defects(mosaic, noise).mend(mosaic)
    denoise = Denoiser.from_file("small")
    denoised = denoise(mosaic, noise, raw.phase, ensemble=True)
    write_dng(raw, denoised, "shot_denoised.dng", noise=None, software="my program")

The names below are the public ones. Each is imported when it is first asked for, so that `import sk_deploy`
costs nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# ONNX Runtime from 1.29 on reports its use to Microsoft, unless this is set before it is first imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .defects import Defects, find_defects
    from .denoiser import Denoiser
    from .dng import write_dng
    from .errors import ConfigError, ModelError, ProviderError, RawError, SkdnError
    from .levels import Levels
    from .noise import NoiseProfile, estimate_noise
    from .raw import RawImage, read_raw
    from .spec import ModelSpec

__all__ = [
    "ConfigError",
    "Defects",
    "Denoiser",
    "Levels",
    "ModelError",
    "ModelSpec",
    "NoiseProfile",
    "ProviderError",
    "RawError",
    "RawImage",
    "SkdnError",
    "estimate_noise",
    "find_defects",
    "read_raw",
    "write_dng",
]

_HOMES = {
    "defects": ("Defects", "find_defects"),
    "denoiser": ("Denoiser",),
    "dng": ("write_dng",),
    "errors": ("ConfigError", "ModelError", "ProviderError", "RawError", "SkdnError"),
    "levels": ("Levels",),
    "noise": ("NoiseProfile", "estimate_noise"),
    "raw": ("RawImage", "read_raw"),
    "spec": ("ModelSpec",),
}
"""Module -> the public names that it holds."""


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
