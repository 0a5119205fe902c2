"""Data-parallel training: several processes that hold the same weights and average their gradients.

    torchrun --nproc-per-node 2 --no-python skdn search ...

One process a GPU (nccl), or any number on a CPU (gloo). Every process draws its own part of a batch from its
own random streams and the same structure sample; process 0 alone validates, writes and reports, and the
others take its decisions. Without torchrun every function here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from sk_deploy.errors import ConfigError

from .config import TrainConfig

T = TypeVar("T")


def world() -> int:
    """The number of processes, as torchrun tells each of them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes and reports."""
    return rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Within the group of processes, joined once; on CUDA, with a GPU of its own for each."""
    if world() == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def spread(config: TrainConfig) -> TrainConfig:
    """The configuration for as many processes as there are: each trains on a batch as large as configured."""
    if config.shards % world() == 0:
        return config
    return replace(config, batch=config.batch * world(), shards=config.shards * world())


def own_shards(shards: int) -> range:
    """The streams that this process draws from. ConfigError unless all processes have as many."""
    if shards % world():
        raise ConfigError(
            f"this training draws from {shards} random stream{'s' * (shards > 1)}, which {world()} processes "
            f"cannot share: start as many processes as divide {shards}"
        )
    each = shards // world()
    return range(rank() * each, (rank() + 1) * each)


def average(tensors: list[Tensor]) -> None:
    """Replace each tensor by its mean over the processes: one all_reduce, no wait for the host."""
    if world() == 1:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    flat /= world()
    parts = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


def share(value: T) -> T:
    """The value that process 0 has."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gather(values: list[T]) -> list[T]:
    """The values of all processes, in the order of their numbers."""
    if world() == 1:
        return values
    gathered: list[list[T]] = [[] for _ in range(world())]
    dist.all_gather_object(gathered, values)
    return [value for values in gathered for value in values]


def anywhere(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if world() == 1:
        return flag
    flags = torch.tensor(int(flag))  # on the host: a device is not waited for
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)
