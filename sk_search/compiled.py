"""torch.compile, where it pays and where it works."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from .evaluate import Forward

log = logging.getLogger(__name__)


def compiled(net: nn.Module, device: torch.device) -> Forward:
    """The forward pass of `net`, compiled on CUDA; `net` itself elsewhere, or where no compiler works."""
    if device.type != "cuda":
        return net
    try:
        torch.compile(lambda x: torch.relu(x) + 1)(torch.zeros(8, device=device))
    except TorchDynamoException as error:
        reason = str(error).strip().splitlines()[0]
        log.warning("training runs without torch.compile, and slower: nothing compiles here (%s)", reason)
        return net
    return torch.compile(net, dynamic=False)
