"""What `skdn eval` measures on: pictures with their noise level, read one at a time where they are files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_deploy.noise import NoiseProfile, estimate_noise

from .hold_out import VALIDATION, hold_out
from .raw_folders import RawPair, find_pairs, read_both
from .sidd import Frame, find_frames, phone_of, read_calibration, read_pair
from .sidd_blocks import BlockFiles, Blocks, find_blocks, read_blocks
from .sources import recognise


@dataclass(frozen=True, eq=False)
class Picture:
    """One noisy mosaic and, unless it is secret, what it should become."""

    name: str
    group: str
    """What a mean is given for: a phone, a camera or a scene."""
    noisy: NDArray[np.float32]
    """[H,W], black 0 and white 1."""
    clean: NDArray[np.float32] | None
    phase: str
    noise: NoiseProfile
    noise_source: str
    """"file", "metadata", "calibration" or "estimate"."""


@dataclass(frozen=True, eq=False)
class EvalSet:
    """Pictures to measure on."""

    title: str
    pictures: Iterable[Picture] = field(repr=False)
    count: int
    blocks: BlockFiles | None = None
    """Where the pictures are published blocks, their files."""


def open_eval_set(source: str, *, secret: bool = False) -> EvalSet:
    """The pictures that a folder stands for.

    Evaluation blocks of SIDD or SIDD+ (with `secret`, those without ground truth come first); of SIDD's
    training scenes, those that training holds out; of noisy/ and clean/, every pair. Raises ConfigError for
    anything else, and whatever reading raises, the pictures' own errors once they are asked for.
    """
    folder = Path(source).expanduser()
    kind = recognise(source) if folder.is_dir() else "nothing"
    if kind == "blocks":
        files = find_blocks(folder, secret=secret)
        blocks = read_blocks(files)
        return EvalSet(files.title, _blocks(blocks), blocks.noisy[..., 0, 0].size, files)
    if secret:
        raise ConfigError(f"{source} is scored here: --submission is for SIDD's and SIDD+'s blocks")
    if kind == "sidd":
        frames = _held_out(find_frames(folder))
        return EvalSet("SIDD, held-out scenes", _frames(frames, folder), len(frames))
    if kind == "pairs":
        pairs = find_pairs(folder)
        return EvalSet(f"pairs in {folder}", _pairs(pairs), len(pairs))
    raise ConfigError(
        f"{source} holds nothing to compare with: expected a folder with noisy/ and clean/ raws, SIDD's "
        "scenes, or blocks of SIDD or SIDD+"
    )


def _held_out(frames: list[Frame]) -> list[Frame]:
    """The frames of the scenes that no run trains on."""
    phones = {frame.scene: frame.phone for frame in frames}
    names = list(phones)
    held = {names[i] for i in hold_out(list(phones.values()), VALIDATION)}
    return [frame for frame in frames if frame.scene in held]


def _frames(frames: list[Frame], folder: Path) -> Iterator[Picture]:
    calibration = read_calibration(folder)
    for frame in frames:
        pair = read_pair(frame, calibration)
        name = f"{frame.scene}/{frame.noisy.name}"
        yield Picture(name, frame.phone, pair.noisy, pair.clean, pair.phase, pair.noise, pair.noise_source)


def _pairs(pairs: list[RawPair]) -> Iterator[Picture]:
    for pair in pairs:
        noisy, clean = read_both(pair)
        noise, source = noisy.noise, "file"
        if noise is None:
            noise, source = estimate_noise(noisy.mosaic), "estimate"
        group = noisy.camera or pair.scene
        yield Picture(pair.noisy.name, group, noisy.mosaic, clean.mosaic, noisy.phase, noise, source)


def _blocks(blocks: Blocks) -> Iterator[Picture]:
    for f, frame in enumerate(blocks.frames):
        group = frame if blocks.sidd_plus else phone_of(frame)
        for b, noisy in enumerate(blocks.noisy[f]):
            yield Picture(
                f"{frame}, block {b + 1:02}",
                group,
                noisy,
                None if blocks.clean is None else blocks.clean[f, b],
                blocks.phases[f],
                blocks.noise[f],
                blocks.noise_source,
            )
