"""SIDD's training folders: noisy and ground-truth mosaics of five phones.

Layout (SIDD-Small and SIDD-Medium, raw-RGB; A. Abdelhamed et al., *A High-Quality Denoising Dataset for
Smartphone Cameras*, CVPR 2018): a folder a scene instance, in `Data/`, whose name holds instance, scene,
phone, ISO, shutter speed, colour temperature and brightness; in it NNNN_NOISY_RAW_010.MAT,
NNNN_GT_RAW_010.MAT and NNNN_METADATA_RAW_010.MAT, and the same for frame 011. Mosaics are the variable `x`
in HDF5, normalised and clipped to [0,1]. noise_level_functions.csv, beside `Data/`, is the authors' own
calibration.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError, RawError
from sk_deploy.mat import read_mat
from sk_deploy.noise import MOST, NoiseProfile, estimate_noise
from sk_deploy.sidd_metadata import PHONE_PHASES, metadata_path, read_sidd_metadata

log = logging.getLogger(__name__)

_SCENE = re.compile(rf"(\d{{4}})_(\d{{3}})_({'|'.join(PHONE_PHASES)})_(\d{{5}})_(\d{{5}})_(\d{{4}})_([A-Z])")
_NOISY = re.compile(r"(?:\d{4}_)?NOISY_RAW_\d{3}\.mat", re.IGNORECASE)
_LEAST_READ = 1 / 1023**2 / 12
"""The rounding of the phones' 10-bit converters: a fitted line may cross zero variance, noise does not."""


@dataclass(frozen=True)
class Frame:
    """A noisy mosaic's file and its ground truth's."""

    noisy: Path
    clean: Path
    scene: str
    """The name of the scene instance."""

    @property
    def phone(self) -> str:
        return phone_of(self.scene)


@dataclass(frozen=True, eq=False)
class Pair:
    """A frame, read."""

    noisy: NDArray[np.float32]
    """[H,W] in [0,1]."""
    clean: NDArray[np.float32]
    phase: str
    noise: NoiseProfile
    noise_source: str
    """"calibration", "metadata" or "estimate"."""


def phone_of(scene: str) -> str:
    """GP, IP, S6, N6 or G4, from a scene instance's name."""
    return scene.split("_")[2]


def is_sidd(folder: Path) -> bool:
    """Whether the folder, or its `Data`, holds scene instances."""
    return any(_SCENE.fullmatch(sub.name) for sub in _data(folder).iterdir() if sub.is_dir())


def find_frames(folder: Path) -> list[Frame]:
    """All pairs, by scene instance and frame; a noisy frame without ground truth is left out with a warning.

    Raises ConfigError when there are none.
    """
    frames = []
    for sub in sorted(_data(folder).iterdir()):
        if not (sub.is_dir() and _SCENE.fullmatch(sub.name)):
            continue
        for noisy in sorted(path for path in sub.iterdir() if _NOISY.fullmatch(path.name)):
            clean = noisy.with_name(re.sub("NOISY", "GT", noisy.name, flags=re.IGNORECASE))
            if clean.is_file():
                frames.append(Frame(noisy, clean, sub.name))
            else:
                log.warning("%s has no %s beside it: left out", noisy, clean.name)
    if not frames:
        raise ConfigError(
            f"{folder} holds no pair of NNNN_NOISY_RAW_010.MAT and NNNN_GT_RAW_010.MAT: "
            "expected SIDD's raw-RGB data, unpacked"
        )
    return frames


def read_pair(frame: Frame, calibration: dict[str, NoiseProfile]) -> Pair:
    """Both mosaics of a frame, phase and noise.

    The phase is the metadata's; without metadata, the phone's. The noise is the calibration's, else the
    metadata's, else estimated. Raises RawError, one line, for files of another layout.
    """
    noisy, clean = _read_mosaic(frame.noisy), _read_mosaic(frame.clean)
    if noisy.shape != clean.shape:
        raise RawError(f"{frame.noisy}: {noisy.shape}, but its ground truth is {clean.shape}: damaged?")
    metadata_file = metadata_path(frame.noisy)
    metadata = metadata_file and read_sidd_metadata(metadata_file)
    phase = metadata.phase if metadata else PHONE_PHASES[frame.phone]
    if frame.scene in calibration:
        return Pair(noisy, clean, phase, calibration[frame.scene], "calibration")
    if metadata and metadata.noise:
        return Pair(noisy, clean, phase, metadata.noise, "metadata")
    return Pair(noisy, clean, phase, estimate_noise(noisy), "estimate")


def read_calibration(folder: Path) -> dict[str, NoiseProfile]:
    """Scene instance -> noise, from noise_level_functions.csv in the folder or its parent; {} without one.

    Columns: scene_instance_id, then beta1 and beta2 of R, G and B, variance = beta1 · x + beta2; the mean
    over the colours is taken. Raises ConfigError for another layout.
    """
    for path in (folder / "noise_level_functions.csv", folder.parent / "noise_level_functions.csv"):
        if path.is_file():
            return {row[0].strip(): noise_of(row[1:7], path) for row in read_rows(path, header=True)}
    return {}


def read_rows(path: Path, *, header: bool) -> Iterator[list[str]]:
    """The rows of a CSV file that hold anything."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    yield from rows[1:] if header else rows


def noise_of(betas: list[str], path: Path) -> NoiseProfile:
    """Noise from beta1 and beta2 of R, G and B. ConfigError naming `path` for anything else."""
    try:
        shot, read = (sum(float(beta) for beta in betas[i::2]) / 3 for i in (0, 1))
        if len(betas) != 6 or not (shot < MOST and read < MOST):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"{path}: {', '.join(betas)} is no noise level: "
            "expected six numbers below 1, beta1 and beta2 of R, G and B"
        ) from None
    return NoiseProfile(max(shot, 0.0), max(read, _LEAST_READ))


def _data(folder: Path) -> Path:
    """Where the scene instances are."""
    return folder / "Data" if (folder / "Data").is_dir() else folder


def _read_mosaic(path: Path) -> NDArray[np.float32]:
    x = read_mat(path, "x")
    if x.ndim != 2 or x.dtype.kind != "f" or not (x.size and x.min() >= -1 and x.max() <= 2):
        raise RawError(
            f"{path}: x is {'×'.join(map(str, x.shape))} of {x.dtype}, expected a mosaic of floats in [0,1]"
        )
    return np.ascontiguousarray(x, np.float32)
