"""A network made smaller or larger before it is trained on, and its genotype with it.

What grows does at first what it did before, or nearly (network morphism, T. Wei et al., ICML 2016).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from sk_deploy.errors import ConfigError

from .config import NetConfig
from .distil import costs_of, network_of, stated
from .layers import ConvReLU, blocks_of
from .nets import Network, leave_out


def take_out(genotype: dict[str, Any], net: Network, block: str) -> dict[str, Any]:
    """Take a block, such as "bottom.0", out of `net`, in place: what enters it leaves it. The new genotype.

    Raises ConfigError for a block that the network does not have.
    """
    if block not in (blocks := blocks_of(net)):
        raise ConfigError(f"the network has no block {block}: it has {', '.join(blocks)}")
    leave_out(net, [block])
    return shortened(genotype, net, [block])


def shortened(genotype: dict[str, Any], net: Network, blocks: Iterable[str]) -> dict[str, Any]:
    """The genotype of `net` once `blocks`, too, have been taken out of it."""
    return {**genotype, "left_out": [*genotype.get("left_out", ()), *blocks], **costs_of(net)}


def enlarge(genotype: dict[str, Any], net: Network, config: NetConfig, superkernel: str) -> dict[str, Any]:
    """Give a superkernel, such as "bottom.1.conv1", the next larger kernel of its space. The new genotype.

    In place: `net` does what it did, as the new kernel is zero around the one that was there. Raises
    ConfigError for a superkernel that the network does not have, or that has the largest kernel.
    """
    present = {name: module for name, module in net.named_modules() if isinstance(module, ConvReLU)}
    if superkernel not in present:
        raise ConfigError(f"the network has no superkernel {superkernel}: it has {', '.join(present)}")
    conv = present[superkernel]
    larger = [kernel for kernel in config.kernels if kernel > conv.kernel_size[0]]
    if not larger:
        raise ConfigError(f"{superkernel} has the largest kernel of its space already")
    kernel = min(larger)
    net.set_submodule(superkernel, conv.enlarged(kernel))
    entries = [
        {
            **entry,
            "kernel": kernel,
            "probability": entry["kernel_probabilities"][entry["kernels"].index(kernel)],
        }
        if entry["name"] == superkernel
        else entry
        for entry in genotype["superkernels"]
    ]
    enlarged = [*genotype.get("enlarged", ()), superkernel]
    return {**genotype, "superkernels": entries, "enlarged": enlarged, **costs_of(net)}


@torch.no_grad()
def deepen(
    genotype: dict[str, Any], net: Network, config: NetConfig, level: str
) -> tuple[dict[str, Any], Network, NetConfig]:
    """Genotype, network and configuration with the last block of a level, such as "decoder.0", as two.

    Each has half its strength, which nearly does what it did where a level has several (B. Chang et al.,
    Multi-level Residual Networks from Dynamical Systems View, ICLR 2018). A fresh block whose α is 0 would do
    exactly that, but at a high learning rate its ReLUs die before it helps. Raises ConfigError for a level
    without a block.
    """
    last = {name.rpartition(".")[0]: name for name in blocks_of(net)}  # of several, the one named last stays
    if level not in last:
        raise ConfigError(f"the network has no blocks at level {level}: it has some at {', '.join(last)}")
    entries = {entry["name"]: entry for entry in genotype["superkernels"]}
    numbers = [int(name.split(".")[-2]) for name in entries if name.startswith(f"{level}.")]
    added = f"{level}.{max(numbers) + 1}"  # not the number of one that was left out
    new = [{**entries[f"{last[level]}.{conv}"], "name": f"{added}.{conv}"} for conv in ("conv1", "conv2")]
    config = replace(config, blocks=max(config.blocks, max(numbers) + 2))
    deeper = {
        **genotype,
        "net": stated(config),
        "superkernels": [*genotype["superkernels"], *new],
        "added": [*genotype.get("added", ()), added],
    }
    twice = network_of(deeper, config)
    twice.load_state_dict(net.state_dict(), strict=False)
    half = twice.get_submodule(last[level])
    half.alpha.mul_(0.5)
    twice.get_submodule(added).load_state_dict(half.state_dict())
    return {**deeper, **costs_of(twice)}, twice, config
