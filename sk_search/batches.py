"""The interface that training uses, and what is behind it: scenes, clean mosaics, pairs, and mixtures.

All data is resident on the training device, and all draws come from a generator that lives there: no worker
process feeds a step, and no step waits for the host (design §4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .config import MosaicConfig, NoiseConfig
from .mosaic_set import MosaicSet
from .mosaics import augment_mosaic, sample_mosaics
from .noise_synthesis import add_noise, sample_noise_levels, stated

_FRAME_PX = 2
"""`augment_mosaic` takes one pixel off each side."""


class Batches(Protocol):
    """Noisy and clean RGGB mosaics on one device."""

    @property
    def device(self) -> torch.device: ...

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """clean [B,1,P,P] in [0,1], noisy [B,1,P,P], noise levels [B,2] (shot, read variance)."""
        ...


@dataclass(frozen=True)
class SceneBatches:
    """Mosaics and noise, both synthesised for every step."""

    scenes: Tensor
    """Linear sRGB [N,3,S,S]."""
    mosaic: MosaicConfig
    noise: NoiseConfig

    @property
    def device(self) -> torch.device:
        return self.scenes.device

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        clean = sample_mosaics(self.scenes, batch, generator, self.mosaic)
        return _with_noise(clean, generator, self.noise)


@dataclass(frozen=True)
class CleanBatches:
    """Recorded clean mosaics, the noise synthesised for every step."""

    mosaics: MosaicSet
    patch_px: int
    noise: NoiseConfig

    @property
    def device(self) -> torch.device:
        return self.mosaics.device

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        crops, _ = self.mosaics.crops(batch, self.patch_px + _FRAME_PX, generator)
        clean = augment_mosaic(crops, generator).clamp(0, 1)
        return _with_noise(clean, generator, self.noise)


@dataclass(frozen=True)
class PairBatches:
    """Recorded noise: the level is that of the shot."""

    mosaics: MosaicSet
    levels: Tensor
    """[M,2], shot and read variance of each shot."""
    patch_px: int

    @property
    def device(self) -> torch.device:
        return self.mosaics.device

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        crops, shot = self.mosaics.crops(batch, self.patch_px + _FRAME_PX, generator)
        clean, noisy = augment_mosaic(crops, generator).split(1, dim=1)
        return clean.clamp(0, 1), noisy, self.levels[shot]


@dataclass(frozen=True)
class MixedBatches:
    """Several kinds of data in every batch, each as likely as any other."""

    parts: Sequence[Batches]

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """What does not divide evenly falls to parts that are drawn, without asking the host."""
        share, rest = divmod(batch, len(self.parts))
        samples = [part.sample(share + rest, generator) for part in self.parts]
        if rest:
            chosen = torch.randint(len(self.parts), (rest,), generator=generator, device=self.device)
            slots = torch.arange(rest, device=self.device)
        columns = []
        for tensors in zip(*samples, strict=True):  # clean of all parts, noisy of all parts, levels
            column = [tensor[:share] for tensor in tensors]
            if rest:
                column.append(torch.stack([tensor[share:] for tensor in tensors])[chosen, slots])
            columns.append(torch.cat(column))
        clean, noisy, levels = columns
        return clean, noisy, levels


def _with_noise(
    clean: Tensor, generator: torch.Generator, config: NoiseConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """clean, noisy [B,1,P,P], and what the network is told of the noise [B,2]."""
    levels = sample_noise_levels(len(clean), generator, config)
    return clean, add_noise(clean, levels, generator, config), stated(levels, generator, config)
