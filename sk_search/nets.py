"""The networks: packed planes in, packed planes out, the input plus a residual.

Each is built twice from the same lines: with superkernel convolutions to search, with plain ones from a
genotype to fine-tune and export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from .attention_unet import AttentionUNet
from .baselines import FixedSuperkernel
from .compact_unet import CompactUNet
from .config import NetConfig, StructureConfig
from .filterwise import FilterwiseAttentionSuperkernel, FilterwiseSuperkernel
from .layers import CONVOLUTIONS, ConvReLU, SuperConvReLU, blocks_of
from .prefix import CoupledSuperkernel, FactorizedSuperkernel, JointSuperkernel
from .skipinit_unet import SkipInitUNet
from .superkernel import Choice

Network = CompactUNet | SkipInitUNet | AttentionUNet

ARCHS = {"compact-unet": CompactUNet, "skipinit-unet": SkipInitUNet, "attention-unet": AttentionUNet}
"""`--arch` -> the network: of (config, make_conv)."""

SUPERKERNELS = {
    "joint": JointSuperkernel,
    "factorized": FactorizedSuperkernel,
    "filterwise": FilterwiseSuperkernel,
    "filterwise-attention": FilterwiseAttentionSuperkernel,
    "coupled": CoupledSuperkernel,
    "none": FixedSuperkernel,
    "uniform": FixedSuperkernel,
    "random": FixedSuperkernel,
}
"""`--type` -> the class that models the structure of one convolution."""

_NOTHING = Choice(kernel=1, filters=(0,))
"""What stands in a block that is about to be left out."""


def build_supernet(config: NetConfig, structure: StructureConfig) -> Network:
    """The network with a superkernel in every searched place."""
    superkernel, convolution = SUPERKERNELS[structure.type], CONVOLUTIONS[structure.mode]

    def make_conv(name: str, channels_in: int, width: int) -> nn.Module:
        options = superkernel(config.kernels, config.filter_counts(width), structure.keep_above)
        return convolution(channels_in, options, structure.bias_rule)

    return ARCHS[config.arch](config, make_conv)


def build_network(config: NetConfig, choices: Mapping[str, Choice], left_out: Iterable[str] = ()) -> Network:
    """The fixed network that a genotype describes, with fresh weights.

    Without the blocks `left_out`, and without those that `choices` do not name: a level may have fewer than
    `config.blocks`.
    """

    named = {name.rpartition(".")[0] for name in choices}

    def make_conv(name: str, channels_in: int, width: int) -> nn.Module:
        choice = choices[name] if name.rpartition(".")[0] in named else _NOTHING
        return ConvReLU(channels_in, len(choice.filters), choice.kernel)

    net = ARCHS[config.arch](config, make_conv)
    leave_out(net, [*left_out, *(blocks_of(net).keys() - named)])
    return net


def leave_out(net: Network, blocks: Iterable[str]) -> None:
    """Take blocks out of a network, in place: what enters one leaves it."""
    for name in blocks:
        net.set_submodule(name, nn.Identity())


def superconvs(net: nn.Module) -> dict[str, SuperConvReLU]:
    """Name -> superkernel convolution, in forward order of construction."""
    return {name: module for name, module in net.named_modules() if isinstance(module, SuperConvReLU)}
