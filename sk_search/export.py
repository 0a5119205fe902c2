"""`skdn export`: a run's network as one small ONNX file, proven equal to what was searched (§4.5.5).

Three equalities, stored as run/export/parity.json; if one fails nothing is written:
supernet under its hard choice = distilled network; trained network = ONNX; ONNX = the file as simplified.
Blocks that do nothing are left out first (idle.py).
Half precision is no equality: its cost in dB is measured, stored beside them, and has a limit too.
"""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import onnxsim
import torch
from torch import nn

from sk_deploy.convert import deliver, halve, plan_targets
from sk_deploy.darktable import check_noise, check_tiles
from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.half_cost import LIMIT_DB
from sk_deploy.noise import NoiseProfile
from sk_deploy.spec import ModelSpec

from .channel_attention import ChannelAttention
from .config import MosaicConfig, RunConfig
from .dead_leaves import dead_leaves
from .distil import load_network, stated
from .evaluate import denoise_mosaic, self_ensemble
from .finetune import trained_stage
from .halo import measure_halo
from .idle import LIMIT, leave_out_idle
from .layers import blocks_of
from .morphism import shortened
from .mosaics import sample_mosaics
from .nets import Network
from .noise_synthesis import add_noise
from .pictures import Picture, develop_alike
from .proof import distillation_parity, example, relative_difference, run_onnx
from .report import write_report
from .rescale import FEATURE_SCALE, rescale_features
from .run import load_config, load_genotype, write_json
from .stages import finish_stages
from .training import Report

log = logging.getLogger(__name__)

OPSET = 20
_LIMITS = {
    "supernet_distilled_float64": 1e-12,
    "supernet_distilled_float32": 1e-5,
    "torch_onnx": 1e-5,
    "onnx_simplified": 1e-5,
}
"""Largest absolute difference; for ONNX, relative to the range of the output."""


def export(
    run: Path,
    target: Path,
    *,
    name: str | None = None,
    licence: str = "unstated",
    fp16: bool = False,
    darktable: bool = False,
    noise: NoiseProfile | None = None,
    last: bool = False,
    masked_from: float | None = None,
    force: bool = False,
    report: Report = lambda record: None,
) -> ModelSpec:
    """Write the network of the last stage of `run` to `target`, after those that it lacks.

    name: the model's name, None takes the file's. fp16: in half precision. darktable: a package for it too,
    beside a target that ends in .onnx; a target that ends in .dtmodel is one, and nothing else is written.
    noise: the level of the package, for a conditioned network. last: the last weights of that stage in place
    of those that validated best. masked_from: `NetConfig.masked_from` in place of the run's. Raises
    ConfigError for a run without a search, a target that cannot be written or options that do not fit the
    run, ModelError when an equality fails, half precision costs too much or darktable's tiles would show.
    """
    targets = plan_targets(target, darktable, noise, force)
    config = load_config(run)
    if masked_from is not None:
        config = _masked(config, masked_from)
    name = name or target.stem
    if targets[-1].suffix == ".dtmodel":  # before hours of training, not after
        check_noise(name, config.net.conditioning == "none", noise)
        check_tiles(name, config.net.multiple, halo=0)
    finish_stages(run, report)
    net = load_network(run, trained_stage(run), last, config.net).eval()
    genotype, change = _without_idle(run, net, config)
    model, parity = prove(run, net, config)
    spec, limits = _spec(genotype, net, config, name, licence, parity | change), dict(_LIMITS)
    if change:
        limits |= {"idle_left_out": LIMIT}
    if fp16:
        model, spec = halve(model, spec)
        limits |= {"float16_cost_db": LIMIT_DB}
    deliver(model, spec, targets, noise)
    write_json(run / "export" / "parity.json", {**spec.parity, "limits": limits, "model": str(target)})
    write_report(run, _before_after(net, config))
    return spec


def _masked(config: RunConfig, contrast: float) -> RunConfig:
    """The configuration with another `masked_from`. Raises ConfigError for one without a `ContrastMask`."""
    net = config.net
    if not net.masked:
        raise ConfigError(
            f"a {net.arch} conditioned by {net.conditioning} masks nothing: leave masked_from out"
        )
    return replace(config, net=replace(net, masked_from=contrast))


def prove(run: Path, net: Network, config: RunConfig) -> tuple[onnx.ModelProto, dict[str, float]]:
    """The simplified graph of `net`, and the differences that were measured on the way to it.

    They are stored in run/export/parity.json, also when one is too large and ModelError is raised.
    """
    raw_model = to_onnx(net, blind=config.net.conditioning == "none")
    model, _ = onnxsim.simplify(raw_model)
    del model.graph.value_info[:]  # shapes that every reader infers: a hundredth of a small file
    onnx.checker.check_model(model)
    planes, noise = example(2, config.mosaic.patch_px // 2)
    with torch.no_grad():
        expected = net(planes, noise).numpy()
    exported = run_onnx(raw_model, planes, noise)
    simplified = run_onnx(model, planes, noise)
    parity = distillation_parity(run, config) | {
        "torch_onnx": relative_difference(exported, expected),
        "onnx_simplified": relative_difference(simplified, exported),
    }
    (run / "export").mkdir(exist_ok=True)
    write_json(run / "export" / "parity.json", {**parity, "limits": _LIMITS})
    for equality, limit in _LIMITS.items():
        if not parity[equality] <= limit:
            raise ModelError(
                f"not exported: {equality} differs by {parity[equality]:.2e}, the limit is {limit:.0e}"
            )
    return model, parity


def to_onnx(net: Network, blind: bool) -> onnx.ModelProto:
    """The graph of a fixed network, its axes named batch, height and width.

    Blocks' factors are folded into their convolutions, and features have the scale that float16 can hold.
    """
    net = copy.deepcopy(net)
    rescale_features(net, FEATURE_SCALE)
    for block in blocks_of(net).values():
        block.fold()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every package that it could use
    planes, noise = example(2, 64)
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        program = torch.onnx.export(
            net,
            (planes,) if blind else (planes, noise),
            dynamo=True,
            input_names=["input"] if blind else ["input", "noise"],
            output_names=["output"],
            opset_version=OPSET,
            dynamic_shapes=(axes,) if blind else (axes, {0: "batch"}),
            verbose=False,
        )
    return program.model_proto


@torch.no_grad()
def _before_after(net: nn.Module, config: RunConfig) -> list[tuple[str, Picture]]:
    """A scene that training never saw, for the report."""
    scenes = dead_leaves(1, 256, seed=config.seed + 2).float()
    camera = MosaicConfig(patch_px=256, unscaled_share=1.0)
    generator = torch.Generator().manual_seed(0)
    clean = sample_mosaics(scenes, 1, generator, camera)
    levels = torch.tensor([[7e-3, 1.8e-4]])
    noisy = add_noise(clean, levels, generator, config.noise)
    mosaics = {
        "noisy": noisy,
        "denoised": denoise_mosaic(net, noisy, levels),
        "with self-ensemble": self_ensemble(net, noisy, levels, 4 * config.net.multiple),
        "clean": clean,
    }
    return develop_alike({label: m[0, 0].numpy() for label, m in mosaics.items()}, "clean")


def _without_idle(run: Path, net: Network, config: RunConfig) -> tuple[dict[str, Any], dict[str, float]]:
    """Take idle blocks out of `net`, in place; the genotype of what is left, and what it changed, if any."""
    genotype = {**load_genotype(run), "net": stated(config.net)}
    idle, change = leave_out_idle(net, config)
    if not idle:
        return genotype, {}
    log.warning("left out, because their ReLUs have died and they change nothing: %s", ", ".join(idle))
    return shortened(genotype, net, idle), {"idle_left_out": change}


def _spec(
    genotype: dict[str, Any],
    net: nn.Module,
    config: RunConfig,
    name: str,
    licence: str,
    parity: dict[str, float],
) -> ModelSpec:
    return ModelSpec(
        name=name,
        licence=licence,
        multiple=config.net.multiple,
        halo=measure_halo(net, config),
        pooling=_pooling(net),
        conditioning=config.net.conditioning,
        macs_per_mp=genotype["macs_per_mp"],
        parameters=genotype["parameters"],
        genotype=genotype,
        training_data=", ".join(Path(source).name for source in config.data),
        parity=parity,
        config_hash=config.digest(),
    )


def _pooling(net: nn.Module) -> str:
    """The window that channel attention averages, where there is one; all levels have the same."""
    for module in net.modules():
        if isinstance(module, ChannelAttention):
            return f"{module.window_px}×{module.window_px} packed pixels"
    return "none"
