"""How two forms of one network are compared: the same input through both, and the largest difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from .config import RunConfig
from .distil import choices_of, load_network, load_supernet
from .nets import superconvs
from .run import load_genotype


def distillation_parity(run: Path, config: RunConfig) -> dict[str, float]:
    """Largest difference between the supernet under the genotype's choice and the distilled network.

    Of a run that was adopted from a model, which has no supernet: what was measured when the model was made.
    """
    genotype = load_genotype(run)
    if "adopted" in genotype:
        return dict(genotype["parity"])
    supernet, distilled = load_supernet(run).eval(), load_network(run, "distilled").eval()
    choices = choices_of(genotype)
    parity = {}
    for name, dtype in (("float64", torch.float64), ("float32", torch.float32)):
        supernet.to(dtype), distilled.to(dtype)
        for conv_name, conv in superconvs(supernet).items():
            conv.superkernel.choose(choices[conv_name])
        planes, noise = (x.to(dtype) for x in example(2, config.mosaic.patch_px // 2))
        with torch.no_grad():
            difference = supernet(planes, noise) - distilled(planes, noise)
        parity[f"supernet_distilled_{name}"] = float(difference.abs().max())
    return parity


def example(batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Seeded planes [batch,4,side,2·side], some negative and some above white, and noise levels [batch,2]."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.rand((batch, 4, side, 2 * side), generator=generator) * 1.1 - 0.05
    levels = torch.tensor([[1e-3, 1e-5], [2e-2, 4e-4]])[:batch]
    return planes, levels


def run_onnx(model: onnx.ModelProto, planes: Tensor, noise: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"input": planes.numpy(), "noise": noise.numpy()}
    names = {i.name for i in session.get_inputs()}
    return session.run(None, {name: value for name, value in feeds.items() if name in names})[0]


def relative_difference(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(np.abs(a - b).max() / np.ptp(b))
