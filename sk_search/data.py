"""The data of a run: its sources, read, split by scene, resident on the training device.

Sources of one kind are pooled, so that every pixel counts the same; where a run names several kinds (scenes
to photograph, clean raws, real pairs), they share every batch equally.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from sk_deploy.errors import ConfigError, RawError
from sk_deploy.noise import estimate_noise

from .batches import Batches, CleanBatches, MixedBatches, PairBatches, SceneBatches
from .config import RunConfig
from .dead_leaves import dead_leaves
from .hold_out import split
from .mosaic_set import MosaicSet, Shot, store
from .photographs import Scenes, photographs
from .raw_folders import find_clean, find_pairs, read_both, read_one
from .sidd import find_frames, read_calibration, read_pair
from .sources import as_folder, recognise
from .validation import Pairs

log = logging.getLogger(__name__)

__all__ = ["Batches", "Data", "load_data", "validation_set"]

_SCENE_PX = 256
_SCENE_SEED = 0
"""Of every run: its own seed must not change what it is validated on, or seeds could not be compared."""


@dataclass(frozen=True)
class Data:
    """Parts of a run's data; no scene is in two of them."""

    train: Batches
    structure: Batches | None
    """What a two-level search learns its structure from; None for any other run."""
    validation: Batches


def load_data(config: RunConfig, device: torch.device) -> Data:
    """Read and split the sources of a run. Raises ConfigError or RawError for what is no training data."""
    two_level = config.structure.two_level
    scenes: list[list[Tensor]] = [[], [], []]  # of each part: training, structure, validation
    clean: list[list[Shot]] = [[], [], []]
    pairs: list[list[Shot]] = [[], [], []]
    for source in config.data:
        kind = recognise(source)
        try:
            if kind == "blocks":
                raise ConfigError("evaluation blocks: train on SIDD's scenes, and give these to `skdn eval`")
            if kind in ("dead-leaves", "photographs"):
                _split_scenes(_load_scenes(source, kind, config), two_level, scenes)
            else:
                shots = _SHOTS[kind](as_folder(source))
                _split_shots(shots, two_level, clean if kind == "clean" else pairs)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    train, structure, validation = (
        _batches(scenes[part], clean[part], pairs[part], config, device) for part in range(3)
    )
    assert train is not None
    assert validation is not None
    return Data(train, structure, validation)


def validation_set(held_out: Batches, patches: int, margin_px: int = 0) -> Pairs:
    """The same pairs for every run."""
    generator = torch.Generator(held_out.device).manual_seed(0)
    return Pairs(*held_out.sample(patches, generator), margin_px)


def _load_scenes(source: str, kind: str, config: RunConfig) -> Scenes:
    if kind == "dead-leaves":
        return Scenes(_rendered(config.scenes), torch.arange(config.scenes))
    return photographs(as_folder(source), _SCENE_PX, seed=_SCENE_SEED)


@lru_cache(maxsize=1)
def _rendered(count: int) -> Tensor:
    """[count,3,S,S]. Kept: search, fine-tuning and every run of a study have the same, at 0.15 s a scene."""
    return dead_leaves(count, _SCENE_PX, _SCENE_SEED)


def _load_sidd(folder: Path) -> list[Shot]:
    frames, calibration = find_frames(folder), read_calibration(folder)
    shots = []
    for frame in frames:
        pair = read_pair(frame, calibration)
        clean, noisy = (store(mosaic, pair.phase) for mosaic in (pair.clean, pair.noisy))
        shots.append(Shot(frame.scene, frame.phone, clean, noisy, pair.noise))
    return shots


def _load_pairs(folder: Path) -> list[Shot]:
    shots = []
    for pair in find_pairs(folder):
        noisy, clean = read_both(pair)
        noise = noisy.noise or estimate_noise(noisy.mosaic)
        stored = store(clean.mosaic, clean.phase), store(noisy.mosaic, noisy.phase)
        shots.append(Shot(pair.scene, noisy.camera, *stored, noise))
    return shots


def _load_clean(folder: Path) -> list[Shot]:
    shots = []
    for path, scene in find_clean(folder):
        try:
            raw = read_one(path)
        except RawError as error:
            log.warning("%s: skipped", error)
        else:
            shots.append(Shot(scene, raw.camera, store(raw.mosaic, raw.phase)))
    if not shots:
        raise ConfigError("none of its raws can be read")
    return shots


_SHOTS: dict[str, Callable[[Path], list[Shot]]] = {
    "sidd": _load_sidd,
    "pairs": _load_pairs,
    "clean": _load_clean,
}


def _split_scenes(scenes: Scenes, two_level: bool, into: Sequence[list[Tensor]]) -> None:
    count = len(torch.unique(scenes.photo))
    for part, photos in zip(into, split([""] * count, two_level), strict=True):
        if photos:
            part.append(scenes.select(photos))


def _split_shots(shots: Sequence[Shot], two_level: bool, into: Sequence[list[Shot]]) -> None:
    camera = {shot.scene: shot.camera for shot in shots}
    names = list(camera)
    for part, indices in zip(into, split(list(camera.values()), two_level), strict=True):
        chosen = {names[i] for i in indices}
        part.extend(shot for shot in shots if shot.scene in chosen)


def _batches(
    scenes: Sequence[Tensor],
    clean: Sequence[Shot],
    pairs: Sequence[Shot],
    config: RunConfig,
    device: torch.device,
) -> Batches | None:
    """What the parts hold, mixed; None when they are empty."""
    patch_px, least_px = config.mosaic.patch_px, config.mosaic.patch_px + 2
    parts: list[Batches] = []
    if scenes:
        parts.append(SceneBatches(torch.cat(list(scenes)).to(device), config.mosaic, config.noise))
    if clean:
        parts.append(CleanBatches(MosaicSet(clean, least_px, device), patch_px, config.noise))
    if pairs:
        levels = [(s.noise.shot, s.noise.read) for s in pairs if s.noise is not None]
        mosaics = MosaicSet(pairs, least_px, device)
        parts.append(PairBatches(mosaics, torch.tensor(levels, device=device), patch_px))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else MixedBatches(parts)
