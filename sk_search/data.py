"""Where training pairs come from: the sources of a run, split, resident on the training device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .config import MosaicConfig, NoiseConfig, RunConfig
from .dead_leaves import dead_leaves
from .mosaics import sample_mosaics
from .noise_synthesis import add_noise, sample_noise_levels
from .photographs import Scenes, photographs

_SCENE_PX = 256
_HELD_OUT = 0.1


@dataclass(frozen=True)
class Batches:
    """Noisy and clean RGGB mosaics, synthesised on the device of the scenes for every step."""

    scenes: Tensor
    """Linear sRGB [N,3,S,S]."""
    mosaic: MosaicConfig
    noise: NoiseConfig

    def sample(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """clean [B,1,P,P], noisy [B,1,P,P], noise levels [B,2] (shot, read variance)."""
        clean = sample_mosaics(self.scenes, batch, generator, self.mosaic)
        levels = sample_noise_levels(batch, generator, self.noise)
        return clean, add_noise(clean, levels, generator, self.noise), levels


def load_data(config: RunConfig, device: torch.device) -> tuple[Batches, Batches]:
    """Training and validation sources; no scene is in both. ConfigError for what is no source."""
    parts = [_load_scenes(source, config) for source in config.data]
    splits = [scenes.split(_HELD_OUT, config.seed) for scenes in parts]
    train, held_out = (
        Batches(torch.cat([split[i].pixels for split in splits]).to(device), config.mosaic, config.noise)
        for i in (0, 1)
    )
    return train, held_out


def validation_set(held_out: Batches, patches: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same pairs for every run: clean, noisy, levels."""
    generator = torch.Generator(held_out.scenes.device).manual_seed(0)
    return held_out.sample(patches, generator)


def _load_scenes(source: str, config: RunConfig) -> Scenes:
    if source == "dead-leaves":
        pixels = dead_leaves(config.scenes, _SCENE_PX, config.seed).to(torch.float16)
        return Scenes(pixels, torch.arange(len(pixels)))
    return photographs(Path(source).expanduser(), _SCENE_PX, seed=config.seed)
