"""`skdn export`: a run's network as one small ONNX file, proven equal to what was searched (§4.5.5).

Three equalities, stored as run/export/parity.json; if one fails nothing is written:
supernet under its hard choice = distilled network; trained network = ONNX; ONNX = the file as simplified.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxsim
import torch
from torch import Tensor, nn

from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.spec import METADATA_KEY, ModelSpec

from .config import RunConfig
from .data import Batches
from .dead_leaves import dead_leaves
from .distil import choices_of, distil, load_network, load_supernet
from .evaluate import denoise_mosaic, self_ensemble
from .finetune import finetune
from .mosaics import MosaicConfig, pack, sample_mosaics
from .nets import superconvs
from .noise_synthesis import add_noise
from .pictures import Picture, develop_alike
from .report import write_report
from .run import load_config, load_genotype, write_json, write_whole
from .training import Report

OPSET = 20
_LIMITS = {
    "supernet_distilled_float64": 1e-12,
    "supernet_distilled_float32": 1e-5,
    "torch_onnx": 1e-5,
    "onnx_simplified": 1e-5,
}
"""Largest absolute difference; for ONNX, relative to the range of the output."""
_QUARTER_STEP = 0.25 / (2**14 - 1)
_REACH_PACKED = 256


def export(
    run: Path,
    target: Path,
    *,
    name: str | None = None,
    licence: str = "unstated",
    report: Report = lambda record: None,
) -> ModelSpec:
    """Write the network of `run` to `target`, after distilling and fine-tuning where the run lacks that.

    name: the model's name, None takes the file's. Raises ConfigError for a run without a search, ModelError
    when an equality fails.
    """
    if target.suffix != ".onnx":
        raise ConfigError(f"{target} does not end in .onnx")
    config = load_config(run)
    if not (run / "genotype.json").is_file():
        distil(run)
    if not _finished(run / "finetuned"):
        finetune(run, resume=(run / "finetuned" / "last.pt").is_file(), report=report)
    parity = distillation_parity(run, config)
    net = load_network(run, "finetuned").eval()
    raw_model = to_onnx(net, blind=config.net.conditioning == "none")
    simplified, _ = onnxsim.simplify(raw_model)
    onnx.checker.check_model(simplified)
    planes, noise = _example(2, 8 * config.net.multiple)
    with torch.no_grad():
        expected = net(planes, noise).numpy()
    exported = _run_onnx(raw_model.SerializeToString(), planes, noise)
    parity["torch_onnx"] = _relative(exported, expected)
    parity["onnx_simplified"] = _relative(_run_onnx(simplified.SerializeToString(), planes, noise), exported)
    _gate(parity)

    genotype = load_genotype(run)
    spec = ModelSpec(
        name=name or target.stem,
        licence=licence,
        multiple=config.net.multiple,
        halo=measure_halo(net, config),
        conditioning=config.net.conditioning,
        macs_per_mp=genotype["macs_per_mp"],
        parameters=genotype["parameters"],
        genotype=genotype,
        training_data=", ".join(Path(source).name for source in config.data),
        parity=parity,
        config_hash=config.digest(),
    )
    onnx.helper.set_model_props(simplified, {METADATA_KEY: spec.to_json()})
    (run / "export").mkdir(exist_ok=True)
    write_json(run / "export" / "parity.json", {**parity, "limits": _LIMITS})
    write_whole(target, lambda path: onnx.save(simplified, path))
    write_report(run, _before_after(net, config))
    return spec


def to_onnx(net: nn.Module, blind: bool) -> onnx.ModelProto:
    """The graph of a fixed network, its axes named batch, height and width."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it names every package that it could use
    planes, noise = _example(2, 64)
    axes = {0: "batch", 2: "height", 3: "width"}
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


def distillation_parity(run: Path, config: RunConfig) -> dict[str, float]:
    """Largest difference between the supernet under the genotype's choice and the distilled network."""
    supernet = load_supernet(run)
    distilled = load_network(run, "distilled")
    choices = choices_of(load_genotype(run))
    parity = {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        supernet.to(dtype), distilled.to(dtype)
        for conv_name, conv in superconvs(supernet).items():
            conv.superkernel.choose(choices[conv_name])
        planes, noise = (x.to(dtype) for x in _example(2, 8 * config.net.multiple))
        with torch.no_grad():
            difference = supernet(planes, noise) - distilled(planes, noise)
        parity[f"supernet_distilled_{name}"] = float(difference.abs().max())
    return parity


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
        "with self-ensemble": self_ensemble(net, noisy, levels, 2 * config.net.multiple),
        "clean": clean,
    }
    return develop_alike({label: m[0, 0].numpy() for label, m in mosaics.items()}, "clean")


@torch.no_grad()
def measure_halo(net: nn.Module, config: RunConfig) -> int:
    """Packed pixels beyond which a change moves the output by less than a quarter of a 14-bit step.

    Measured, because the theoretical field counts paths that carry nothing: every column right of the middle
    is exchanged for another scene, at noise levels across the training range, along both axes.
    """
    multiple = config.net.multiple
    side = 2 * (2 * _REACH_PACKED)  # sensor pixels
    scenes = dead_leaves(4, side, seed=config.seed + 1).float()
    generator = torch.Generator().manual_seed(0)
    batches = Batches(scenes, MosaicConfig(patch_px=side), config.noise)
    reach = 0
    for _ in range(4):
        _, one, levels = batches.sample(2, generator)
        other = batches.sample(2, generator)[1]
        for axis in (2, 3):
            x, y = pack(one), pack(other)
            if axis == 2:
                x, y = (plane.transpose(2, 3) for plane in (x, y))
            x, y = (plane[:, :, : 8 * multiple] for plane in (x, y))  # a strip is enough
            mixed = torch.cat([x[..., :_REACH_PACKED], y[..., _REACH_PACKED:]], 3)
            if axis == 2:
                x, mixed = (plane.transpose(2, 3) for plane in (x, mixed))
            change = (net(x, levels) - net(mixed, levels)).abs().amax((0, 1, 5 - axis))
            touched = torch.nonzero(change[:_REACH_PACKED] > _QUARTER_STEP)
            reach = max(reach, _REACH_PACKED - int(touched.min()) if len(touched) else 0)
    return -(-reach // multiple) * multiple


def _finished(folder: Path) -> bool:
    """Whether fine-tuning ended: by steps or by patience, not by an interruption."""
    if not (folder / "last.pt").is_file() or not (folder / "best.safetensors").is_file():
        return False
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    return bool(state["finished"])


def _example(batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Seeded planes [batch,4,side,2·side], some negative and some above white, and noise levels [batch,2]."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.rand((batch, 4, side, 2 * side), generator=generator) * 1.1 - 0.05
    levels = torch.tensor([[1e-3, 1e-5], [2e-2, 4e-4]])[:batch]
    return planes, levels


def _run_onnx(model: bytes, planes: Tensor, noise: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {"input": planes.numpy(), "noise": noise.numpy()}
    names = {i.name for i in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in names})[0]


def _relative(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(np.abs(a - b).max() / np.ptp(b))


def _gate(parity: dict[str, float]) -> None:
    for name, limit in _LIMITS.items():
        if name in parity and not parity[name] <= limit:
            raise ModelError(f"not exported: {name} differs by {parity[name]:.2e}, the limit is {limit:.0e}")
