"""The halo of a network: how far a pixel's result reaches, measured, not added up from its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sk_deploy.errors import ModelError

from .config import MosaicConfig, RunConfig
from .dead_leaves import dead_leaves
from .mosaics import pack, sample_mosaics
from .noise_synthesis import add_noise, sample_noise_levels

_STILL = 0.025 / (2**14 - 1)
"""A tenth of the quarter step that tiles may differ by: eight strips are not every scene."""
_LIMITS_PACKED = (64, 128, 256)
_PATCH_PACKED = 64


def measure_halo(net: nn.Module, config: RunConfig) -> int:
    """Packed pixels beyond which a change moves the output by less than a fortieth of a 14-bit step.

    Measured, because the theoretical field counts paths that carry nothing. What lies beyond an edge is cut
    off, as at the edge of a tile, and also exchanged for other scenes; along both axes, at noise levels
    across the training range, in evaluation mode. A multiple of the network's. Raises ModelError when the
    reach is larger than can be measured.
    """
    net.eval()
    for limit in _LIMITS_PACKED:
        reach = _reach(net, config, limit)
        if reach <= limit:
            return -(-reach // config.net.multiple) * config.net.multiple
    raise ModelError(f"not exported: a change reaches more than {limit} packed pixels")


@torch.no_grad()
def _reach(net: nn.Module, config: RunConfig, limit: int) -> int:
    """Packed pixels from an edge to the farthest that a change behind it moves.

    The strip before the edge is two limits long, so that its other end does not hide what reaches the limit.
    """
    scenes = dead_leaves(4, 256, seed=config.seed + 1).float()
    generator = torch.Generator().manual_seed(0)
    edge, reach = 2 * limit, 0
    for axis in (2, 3, 2, 3):
        noise = sample_noise_levels(2, generator, config.noise)
        x, y = (_strip(scenes, axis, 2 * edge, noise, generator, config) for _ in range(2))
        near, beyond = x.narrow(axis, 0, edge), y.narrow(axis, edge, edge)
        kept = net(x, noise).narrow(axis, 0, edge)
        for changed in (net(near, noise), net(torch.cat([near, beyond], axis), noise)):
            change = (kept - changed.narrow(axis, 0, edge)).abs().amax((0, 1, 5 - axis))  # [edge]
            touched = torch.nonzero(change > _STILL)
            reach = max(reach, edge - int(touched.min()) if len(touched) else 0)
    return reach


def _strip(
    scenes: Tensor, axis: int, length: int, noise: Tensor, generator: torch.Generator, config: RunConfig
) -> Tensor:
    """Noisy planes [2,4,·,·], `length` packed pixels along `axis`: patches of unlike scenes side by side."""
    count = length // _PATCH_PACKED
    camera = MosaicConfig(patch_px=2 * _PATCH_PACKED)
    clean = torch.cat(sample_mosaics(scenes, 2 * count, generator, camera).chunk(count), axis)
    return pack(add_noise(clean, noise, generator, config.noise))
