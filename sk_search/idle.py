"""Blocks that training has left without effect: found by measurement, told of, left out of the model file.

A ReLU that never fires has no gradient, so a block whose last one has died in a long training stays dead. It
costs as much as the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .config import RunConfig
from .dead_leaves import dead_leaves
from .layers import blocks_of
from .mosaics import pack, sample_mosaics
from .nets import Network, leave_out
from .noise_synthesis import add_noise, sample_noise_levels

LIMIT = 0.05 / (2**14 - 1)
"""Of white, a twentieth of a 14-bit step: what leaving blocks out may change at most."""
_FIRES = 1e-3
"""Share of a dead ReLU's outputs that may be above zero: of a fresh network's, half are."""
_MOSAICS = 32


@torch.no_grad()
def leave_out_idle(net: Network, config: RunConfig) -> tuple[list[str], float]:
    """Take the idle blocks out of a fixed network, in place; return their names and what that changes.

    Idle: its last ReLU is dead, and without it and those before it no pixel moves by more than LIMIT; over
    scenes and noise levels of the training range, in evaluation mode. The change is the largest of any pixel,
    white = 1.
    """
    net.eval()
    planes, noise = _mosaics(config)
    with dead_blocks(net) as dead:
        expected = net(planes, noise)
    idle, changed = [], 0.0
    for name in dead:
        block = net.get_submodule(name)
        leave_out(net, [name])
        change = float((net(planes, noise) - expected).abs().max())
        if change <= LIMIT:
            idle.append(name)
            changed = change
        else:
            net.set_submodule(name, block)
    return idle, changed


@contextmanager
def dead_blocks(net: nn.Module) -> Iterator[list[str]]:
    """Watches a network run; in the end the list names the blocks whose last ReLU was dead, in order."""
    fires: dict[str, float] = {}
    hooks = [
        block.conv2.register_forward_hook(
            lambda module, inputs, y, name=name: fires.update({name: max(fires.get(name, 0.0), _share(y))})
        )
        for name, block in blocks_of(net).items()
    ]
    dead: list[str] = []
    try:
        yield dead
    finally:
        for hook in hooks:
            hook.remove()
    dead += [name for name, share in fires.items() if share < _FIRES]


def _share(y: Tensor) -> float:
    return float((y > 0).float().mean())


def _mosaics(config: RunConfig) -> tuple[Tensor, Tensor]:
    """Noisy planes [N,4,h,w] of scenes that training never saw, and their noise levels [N,2]."""
    scenes = dead_leaves(4, 256, seed=config.seed + 1).float()
    generator = torch.Generator().manual_seed(0)
    clean = sample_mosaics(scenes, _MOSAICS, generator, config.mosaic)
    noise = sample_noise_levels(_MOSAICS, generator, config.noise)
    return pack(add_noise(clean, noise, generator, config.noise)), noise
