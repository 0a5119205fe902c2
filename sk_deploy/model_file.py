"""Model files: reading what they state, and refusing in one line what the pipeline cannot feed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten
from typing import Any

from .errors import ModelError
from .spec import METADATA_KEY, ModelSpec

MAX_BYTES = 2**29
"""A hundred times the paper's largest network."""


def read_model(path: str | Path) -> tuple[bytes, ModelSpec]:
    """A model file's bytes and the facts that it states.

    Raises ModelError when it is no ONNX file, keeps weights elsewhere, has no metadata or another schema, or
    other inputs and outputs than `spec` describes.
    """
    path = Path(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            size = f"{about.st_size / 2**20:.0f} MiB"
            raise ModelError(f"model {path}: {size}, expected a file of at most {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {path}: cannot be read ({error.strerror})") from error
    return data, _check(data, path.name)


def _check(data: bytes, name: str) -> ModelSpec:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        raise ModelError(f"model {name}: not an ONNX file") from None
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise ModelError(
            f"model {name}: no {METADATA_KEY!r} metadata: expected a model that `skdn export` wrote"
        )
    try:
        spec = ModelSpec.from_json(metadata[METADATA_KEY])
    except ModelError as error:
        raise ModelError(f"model {name}: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model)):
        raise ModelError(f"model {name}: its weights are in another file, expected one file: export it again")
    inputs = sorted(_signature(value) for value in model.graph.input)
    outputs = [_signature(value) for value in model.graph.output]
    planes = "float [?,4,?,?]"
    expected = [f"input {planes}"] if spec.blind else [f"input {planes}", "noise float [?,2]"]
    if inputs != expected or outputs != [f"output {planes}"]:
        found = f"{', '.join(inputs)} -> {', '.join(outputs)}"
        raise ModelError(f"model {name}: has {found}; expected {', '.join(expected)} -> output {planes}")
    return spec


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor in a model, wherever it is: weights, constants, and those of graphs inside nodes."""
    import onnx

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in (value,) if hasattr(value, "ListFields") else value:
            if isinstance(part, onnx.TensorProto):
                yield part
            else:
                yield from _tensors(part)


def _signature(value: Any) -> str:
    """A graph input or output in words: name, type, and its shape with ? for free axes."""
    import onnx

    tensor = value.type.tensor_type
    axes = ",".join(str(axis.dim_value) if axis.HasField("dim_value") else "?" for axis in tensor.shape.dim)
    kinds = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    kind = kinds.get(tensor.elem_type, f"type {tensor.elem_type}")
    name = value.name if str(value.name).isprintable() else repr(value.name)
    return shorten(f"{name} {kind} [{axes}]", 80)
