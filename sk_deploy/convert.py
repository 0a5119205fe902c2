"""A model in another form: half precision, a package for darktable. No PyTorch.

A target that ends in .onnx is a model file; one that ends in .dtmodel is a package for darktable.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .darktable import pack_for_darktable
from .errors import ConfigError
from .half import to_half
from .half_cost import half_cost
from .model_file import read_model
from .models import find_model
from .noise import NoiseProfile
from .spec import METADATA_KEY, ModelSpec
from .whole import check_place, whole


def plan_targets(target: Path, darktable: bool, noise: NoiseProfile | None, force: bool) -> list[Path]:
    """The files to be written: `target`, and for a model file its package beside it where `darktable` asks.

    Raises ConfigError when one of them cannot be written, or when there is a level that none of them takes.
    """
    if target.suffix not in (".onnx", ".dtmodel"):
        raise ConfigError(
            f"{target} does not end in .onnx, as a model does, or .dtmodel, as a package for darktable"
        )
    targets = [target]
    if darktable and target.suffix == ".onnx":
        targets.append(target.with_suffix(".dtmodel"))
    if noise is not None and targets[-1].suffix != ".dtmodel":
        raise ConfigError(f"{target} takes its noise level when it runs: --noise is for --darktable")
    for path in targets:
        check_place(path, force=force)
    return targets


def convert(
    model: str | Path,
    target: Path,
    *,
    fp16: bool = False,
    darktable: bool = False,
    noise: NoiseProfile | None = None,
    name: str | None = None,
    force: bool = False,
) -> ModelSpec:
    """Write a model file, or a shipped model given by its name, in another form. Returns what it then says.

    name: the model's, None takes the target's. Raises ConfigError for targets that cannot be written and
    options that do not fit the model, ModelError for a model that cannot take the form.
    """
    import onnx

    targets = plan_targets(target, darktable, noise, force)
    data, spec = read_model(find_model(model))
    if target.suffix == ".onnx" and not fp16:
        raise ConfigError(
            f"{model} is a model file already: expected --fp16, or a target that ends in .dtmodel"
        )
    spec = dataclasses.replace(spec, name=name or target.stem)
    graph = onnx.load_model_from_string(data)
    if fp16:
        graph, spec = halve(graph, spec)
    deliver(graph, spec, targets, noise)
    return spec


def halve(model: Any, spec: ModelSpec) -> tuple[Any, ModelSpec]:
    """A model in half precision, and its facts with what that costs. ModelError when it costs too much."""
    if spec.precision != "float32":
        raise ConfigError(f"model {spec.name} is {spec.precision} already: leave out --fp16")
    half = to_half(model)
    cost = half_cost(model, half, spec.blind, spec.multiple)
    parity = spec.parity | {"float16_psnr_db": cost.psnr_db, "float16_cost_db": cost.cost_db}
    return half, dataclasses.replace(spec, precision="float16", parity=parity)


def deliver(model: Any, spec: ModelSpec, targets: list[Path], noise: NoiseProfile | None) -> None:
    """Write the model with its facts to every target, or to none where one of them refuses it."""
    import onnx

    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    contents = {
        path: pack_for_darktable(model, spec, noise)
        if path.suffix == ".dtmodel"
        else model.SerializeToString()
        for path in targets
    }
    for path, content in contents.items():
        with whole(path) as temporary:
            temporary.write_bytes(content)
