"""Every random draw of a training: the structure's, alike in all processes, and each one's own batches."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from . import parallel
from .data import Batches

log = logging.getLogger(__name__)


class Draws:
    """Generators on one device: one for the structure, and one for each shard of a batch.

    A shard is drawn from the same generator whichever process draws it, so the number of processes changes
    no draw.
    """

    def __init__(self, seed: int, shards: int, device: torch.device) -> None:
        def generator(number: int) -> torch.Generator:
            return torch.Generator(device).manual_seed((seed << 16) + number)

        self.seed, self.shards, self.device = seed, shards, device
        self.structure = generator(0)
        self.own = {shard: generator(1 + shard) for shard in parallel.own_shards(shards)}

    def batch(self, batches: Batches, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """This process's part of a batch of `size`: clean, noisy [b,1,P,P] and levels [b,2]."""
        parts = [batches.sample(size // self.shards, generator) for generator in self.own.values()]
        clean, noisy, levels = (torch.cat(part) for part in zip(*parts, strict=True))
        return clean, noisy, levels

    def skip(self, numbers: int) -> None:
        """Go on with other batches."""
        for generator in self.own.values():
            torch.rand(numbers, generator=generator, device=self.device)

    def state_dict(self) -> dict[str, Any]:
        """Of the generators of all processes."""
        states = parallel.gather([generator.get_state() for generator in self.own.values()])
        return {"structure": self.structure.get_state(), "shards": states}

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Go on where a checkpoint was made; on another kind of device with draws that step and seed name."""
        if state["structure"].numel() != self.structure.get_state().numel():
            log.warning("begun on another kind of device: on %s the draws are others", self.device.type)
            for number, generator in enumerate((self.structure, *self.own.values())):
                generator.manual_seed((self.seed << 40) + (step << 16) + number)
            return
        self.structure.set_state(state["structure"].cpu())
        for shard, generator in self.own.items():
            generator.set_state(state["shards"][shard].cpu())
