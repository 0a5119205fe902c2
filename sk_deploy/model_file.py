"""Model files: reading what they state, and refusing in one line what the pipeline cannot feed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .errors import ModelError
from .spec import METADATA_KEY, ModelSpec


def read_model(path: str | Path) -> tuple[bytes, ModelSpec]:
    """A model file's bytes and the facts that it states.

    Raises ModelError when it is no ONNX file, keeps weights elsewhere, has no metadata or another schema, or
    other inputs and outputs than `spec` describes.
    """
    path = Path(path)
    try:
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
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"model {name}: its weights are in another file, expected one file: export it again")
    inputs = sorted(_signature(value) for value in model.graph.input)
    outputs = [_signature(value) for value in model.graph.output]
    planes = "float [?,4,?,?]"
    expected = [f"input {planes}"] if spec.blind else [f"input {planes}", "noise float [?,2]"]
    if inputs != expected or outputs != [f"output {planes}"]:
        found = f"{', '.join(inputs)} -> {', '.join(outputs)}"
        raise ModelError(f"model {name}: has {found}; expected {', '.join(expected)} -> output {planes}")
    return spec


def _signature(value: Any) -> str:
    """A graph input or output in words: name, type, and its shape with ? for free axes."""
    import onnx

    tensor = value.type.tensor_type
    axes = ",".join(str(axis.dim_value) if axis.HasField("dim_value") else "?" for axis in tensor.shape.dim)
    return f"{value.name} {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{axes}]"
