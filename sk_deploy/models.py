"""The models that ship with skdn, found wherever the package is installed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from .errors import ModelError

DEFAULT_MODEL = "small"


def shipped_models() -> dict[str, Path]:
    """Name -> model file, in the order of their names."""
    folder = Path(str(files("skdn_models")))
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def find_model(model: str | Path) -> Path:
    """A shipped model's file, given its name, else the path itself. Raises ModelError when it is neither."""
    path = Path(model)
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    if path.is_file():
        return path
    names = ", ".join(shipped) or "none"
    raise ModelError(f"model {model}: no such file, and no shipped model of that name (shipped: {names})")
