"""Whom fine-tuning learns from besides the clean mosaics: a frozen network's output is a second target.

A teacher is worth what it knows more than its pupil, so each comes with its PSNR on the held-out pairs.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sk_deploy.errors import ConfigError

from .distil import load_network, load_supernet
from .evaluate import self_ensemble
from .mosaics import pack, unpack
from .nets import superconvs
from .run import load_config
from .superkernel import Superkernel
from .validation import Pairs


@dataclass(frozen=True)
class Teacher:
    """Called with noisy mosaics [B,1,H,W] and levels [B,2]; gives planes [B,4,H/2,W/2]."""

    name: str
    teach: Callable[[Tensor, Tensor], Tensor]
    psnr_db: float
    """On the held-out pairs."""
    digest: str
    """Of the weights, so that a resumed training learns from the same teacher."""

    @torch.no_grad()
    def __call__(self, noisy: Tensor, levels: Tensor) -> Tensor:
        return self.teach(noisy, levels)


def ensemble_teacher(net: nn.Module, weights: Path, mirrored_px: int, pairs: Pairs) -> Teacher:
    """The self-ensemble of `net` itself, frozen as it is: one pass shall give the mean of eight."""
    frozen = _frozen(net, pairs)
    return _teacher(
        "its self-ensemble",
        lambda noisy, levels: pack(self_ensemble(frozen, noisy, levels, mirrored_px)),
        weights,
        pairs,
    )


def supernet_teacher(run: Path, pairs: Pairs) -> Teacher:
    """The supernet of the run: its largest choice, or all choices by their probabilities, what is better.

    Its most probable choice would teach nothing: that is the distilled network.
    """
    candidates = []
    weights = run / "best.safetensors"
    for name, weigh in (("the largest choice", _largest), ("all its choices", _probabilities)):
        supernet = load_supernet(run)
        for conv in superconvs(supernet).values():
            conv.superkernel.weights = weigh(conv.superkernel)
        candidates.append(_network_teacher(f"the supernet, {name}", supernet, weights, pairs))
    return max(candidates, key=lambda teacher: teacher.psnr_db)


def _largest(superkernel: Superkernel) -> Tensor:
    weights = torch.zeros_like(superkernel.weights)
    weights[-1] = 1.0
    return weights


def _probabilities(superkernel: Superkernel) -> Tensor:
    return superkernel.probabilities().detach()


def run_teacher(other: Path, stage: str, pairs: Pairs) -> Teacher:
    """The network of another run. ConfigError when the patches do not fit it."""
    multiple_px = 2 * load_config(other).net.multiple
    if pairs.clean.shape[-1] % multiple_px:
        raise ConfigError(
            f"{other} cannot teach here: its network needs patches of a multiple of {multiple_px} sensor "
            f"pixels, these have {pairs.clean.shape[-1]}"
        )
    net = load_network(other, stage)
    return _network_teacher(f"the {stage} network of {other}", net, other / stage / "best.safetensors", pairs)


def _network_teacher(name: str, net: nn.Module, weights: Path, pairs: Pairs) -> Teacher:
    frozen = _frozen(net, pairs)
    return _teacher(name, lambda noisy, levels: frozen(pack(noisy), levels), weights, pairs)


def _frozen(net: nn.Module, pairs: Pairs) -> nn.Module:
    frozen = copy.deepcopy(net).eval().requires_grad_(False)
    return frozen.to(pairs.clean.device, memory_format=torch.channels_last)


@torch.no_grad()
def _teacher(name: str, teach: Callable[[Tensor, Tensor], Tensor], weights: Path, pairs: Pairs) -> Teacher:
    chunks = zip(pairs.noisy.split(16), pairs.levels.split(16), strict=True)
    output = torch.cat([unpack(teach(x, noise)) for x, noise in chunks])
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
    return Teacher(name, teach, pairs.psnr_db(output), digest)
