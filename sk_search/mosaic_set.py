"""Mosaics of any size, resident on the training device as 16-bit numbers, and random crops of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_deploy.bayer import PHASES
from sk_deploy.errors import ConfigError
from sk_deploy.noise import NoiseProfile

from .mosaics import uniform

_STEPS = 40_960
"""Stored steps from black to white: 2.5 in one of a 14-bit converter, and room for -0.3 to 1.3."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One clean mosaic, alone or with a noisy one of the same sites."""

    scene: str
    """Shots of one scene stay together when scenes are held out."""
    camera: str
    clean: Tensor
    """As `store` made it, [H,W]."""
    noisy: Tensor | None = None
    noise: NoiseProfile | None = None
    """Of `noisy`."""


def store(mosaic: NDArray[np.float32], phase: str) -> Tensor:
    """A mosaic [H,W], black 0 and white 1, of any phase -> int16 [H',W'] that begins at a red site.

    Sides become even. What lies beyond -0.3 or 1.3 is clipped.
    """
    row, column = PHASES[phase]
    height, width = ((side - cut) // 2 * 2 for side, cut in zip(mosaic.shape, (row, column), strict=True))
    aligned = mosaic[row : row + height, column : column + width]
    steps = np.rint((aligned - np.float32(0.5)) * np.float32(_STEPS))
    return torch.from_numpy(np.clip(steps, -32_768, 32_767).astype(np.int16))


def restore(stored: Tensor) -> Tensor:
    """The inverse of `store`: float32."""
    return stored.float() / _STEPS + 0.5


class MosaicSet:
    """Clean mosaics, or pairs, end to end in one tensor a channel."""

    def __init__(self, shots: Sequence[Shot], least_px: int, device: torch.device) -> None:
        """Raises ConfigError when a mosaic has a side below `least_px`, or when memory does not suffice."""
        for shot in shots:
            if min(shot.clean.shape) < least_px:
                height, width = shot.clean.shape
                raise ConfigError(
                    f"{shot.scene}: a mosaic of {width}×{height} px: patches need {least_px} px a side"
                )
        layers = [[shot.clean for shot in shots]]
        if any(shot.noisy is not None for shot in shots):
            layers.append([shot.noisy for shot in shots if shot.noisy is not None])
        self.steps = _lay_end_to_end(layers, device)  # [C,N], clean before noisy
        sizes = torch.tensor([shot.clean.shape for shot in shots], device=device)  # [M,2]
        areas = sizes.prod(1)
        self._sizes, self._starts = sizes, areas.cumsum(0) - areas
        self._shares = (areas.cumsum(0) / areas.sum()).float()

    @property
    def device(self) -> torch.device:
        return self.steps.device

    def crops(self, batch: int, side_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """RGGB crops float32 [B,C,side,side] from even places, and the index [B] of each one's shot.

        Every pixel of the set is as likely as any other, but for those near an edge.
        """
        u = uniform((3, batch), generator)
        shot = torch.searchsorted(self._shares, u[0], right=True).clamp_max(len(self._shares) - 1)
        size = self._sizes[shot]  # [B,2]
        places = (size - side_px) // 2 + 1
        corner = 2 * torch.minimum((u[1:].T * places).long(), places - 1)
        i = torch.arange(side_px, device=self.device)
        rows, columns = (corner[:, axis, None] + i for axis in (0, 1))  # [B,side]
        flat = (self._starts[shot, None] + rows * size[:, 1:])[:, :, None] + columns[:, None, :]
        return restore(self.steps[:, flat]).transpose(0, 1), shot


def _lay_end_to_end(layers: list[list[Tensor]], device: torch.device) -> Tensor:
    total = sum(mosaic.numel() for mosaic in layers[0])
    try:
        steps = torch.empty((len(layers), total), dtype=torch.int16, device=device)
    except RuntimeError as error:  # torch.OutOfMemoryError on CUDA, a plain RuntimeError on the CPU
        raise ConfigError(
            f"the data takes {len(layers) * total * 2 / 2**30:.1f} GiB, more than is free on {device}: "
            "name less data"
        ) from error
    for channel, mosaics in zip(steps, layers, strict=True):
        end = 0
        for mosaic in mosaics:
            channel[end : end + mosaic.numel()] = mosaic.reshape(-1)
            end += mosaic.numel()
    return steps
