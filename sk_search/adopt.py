"""From a model file back to a run, so that a network can be trained on without the run that made it.

The genotype in the file's metadata builds the network, and the graph's convolutions, in the order in which
they run, fill it. What an export folds together (a block's factor, the stem's differences) is taken apart
again in one of the ways that give the same network. The file and the network must then agree.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor, nn

from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.model_file import read_model
from sk_deploy.models import find_model
from sk_deploy.spec import ModelSpec
from sk_deploy.whole import whole

from . import morphism
from .conditioning import LAYERS, Stem
from .config import NetConfig, RunConfig, StructureConfig
from .distil import network_of
from .layers import blocks_of
from .nets import Network
from .presets import PRESETS
from .proof import example, relative_difference, run_onnx
from .rescale import FEATURE_SCALE, rescale_features
from .run import claim_folder, create_run, write_json

_LIMIT = 1e-5
"""Largest difference between file and network, relative to the range of the output."""
_FILTER_AXIS = {"Conv": 0, "ConvTranspose": 1}
"""Of a convolution's weights."""
_SLOWER = 1 / 8
"""Of the learning rate for fresh weights. At 3/8 a `base` of 24 kernels lost 0.5 dB in 1,000 steps and
filters died: 14,000 were worth 0.02 dB on McMaster. 12,000 at 1/8 then gained 0.03."""


def adopt(
    model: str | Path,
    run: Path,
    data: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    enlarge: tuple[str, ...] = (),
    deepen: tuple[str, ...] = (),
) -> None:
    """Make `run` from a shipped model's name or a model file, ready for `finetune`.

    data: what to train on; none: the embedded scenes. The network changes first (see `morphism`): a block
    more at each level of `deepen`, without the blocks `without`, a larger kernel for each superkernel of
    `enlarge`.

    Raises ModelError for a file that does not say how it was made, is in half precision, or has channel
    attention; ConfigError for a folder that holds a run, a block or a level that the network does not have,
    or a superkernel that cannot be enlarged.
    """
    path = find_model(model)
    content, spec = read_model(path)
    net_config = _net_config(spec, path.name)
    net = _network(onnx.load_model_from_string(content), spec, net_config, path.name)
    genotype = {name: value for name, value in spec.genotype.items() if name != "supernet"}
    for level in deepen:
        genotype, net, net_config = morphism.deepen(genotype, net, net_config, level)
    for block in without:
        genotype = morphism.take_out(genotype, net, block)
    for superkernel in enlarge:
        genotype = morphism.enlarge(genotype, net, net_config, superkernel)
    preset = PRESETS["small"]()
    config = replace(
        preset,
        preset=spec.name,
        data=data or preset.data,
        net=net_config,
        structure=StructureConfig(type=spec.genotype["type"], mode=spec.genotype["mode"]),
        finetune=replace(preset.finetune, learning_rate=_SLOWER * preset.finetune.learning_rate),
    )
    claim_folder(run)
    (run / "distilled").mkdir(exist_ok=True)
    with whole(run / "distilled" / "best.safetensors") as temporary:
        save_file(net.state_dict(), temporary)
    proven = {name: value for name, value in spec.parity.items() if name.startswith("supernet_distilled")}
    write_json(run / "genotype.json", {**genotype, "adopted": spec.name, "parity": proven})
    create_run(run, config)


@torch.no_grad()
def _network(model: onnx.ModelProto, spec: ModelSpec, net_config: NetConfig, name: str) -> Network:
    """The network that `spec` describes with the weights of the file's graph."""
    if spec.precision != "float32" or spec.pooling != "none":
        raise ModelError(
            f"model {name}: only float32 models without channel attention can be trained on: continue its run"
        )
    net = network_of(spec.genotype, net_config).eval()
    planes, noise = example(2, 2 * spec.multiple * 8)
    modules = _in_running_order(net, planes, noise)
    weights = _convolutions(model.graph)[: len(modules)]  # behind them: those of a `ContrastMask`
    if [tuple(m.weight.shape) for m in modules] != [tuple(w.shape) for w, _ in weights]:
        raise ModelError(f"model {name}: its graph is not what its genotype describes: export it again")
    for module, (weight, bias) in zip(modules, weights, strict=True):
        if isinstance(module, Stem):
            mean = weight.mean((2, 3))
            module.sums.copy_(mean * module.kernel_size**2 / module.sum_scale)
            weight = weight - mean[..., None, None]
        module.weight.copy_(weight)
        module.bias.copy_(bias)
    for block in blocks_of(net).values():
        block.balance()
    rescale_features(net, 1 / FEATURE_SCALE)
    difference = relative_difference(net(planes, noise).numpy(), run_onnx(model, planes, noise))
    if not difference <= _LIMIT:
        raise ModelError(
            f"model {name}: differs by {difference:.1e} from the network that it describes: export it again"
        )
    return net


def _net_config(spec: ModelSpec, name: str) -> NetConfig:
    try:
        stated = {"masked_from": NetConfig.masked_from} | spec.genotype["net"]  # older files do not state it
        return RunConfig.from_dict({"net": {f.name: stated[f.name] for f in fields(NetConfig)}}).net
    except (KeyError, TypeError, ConfigError) as error:
        raise ModelError(f"model {name}: does not say how its network is built ({error})") from error


def _in_running_order(net: nn.Module, planes: Tensor, noise: Tensor) -> list[Any]:
    modules: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: modules.append(module))
        for module in net.modules()
        if isinstance(module, LAYERS)
    ]
    net(planes, noise)
    for hook in hooks:
        hook.remove()
    return modules


def _convolutions(graph: onnx.GraphProto) -> list[tuple[Tensor, Tensor]]:
    """Weights and bias of every convolution of a graph, in order; a bias that is absent is 0."""
    constants = {tensor.name: tensor for tensor in graph.initializer}

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(numpy_helper.to_array(constants[name]).copy())

    found = []
    for node in graph.node:
        if node.op_type in _FILTER_AXIS:
            weight = tensor(node.input[1])
            filters = weight.shape[_FILTER_AXIS[node.op_type]]
            bias = tensor(node.input[2]) if len(node.input) > 2 else torch.zeros(filters)
            found.append((weight, bias))
    return found
