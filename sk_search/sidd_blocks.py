"""SIDD's and SIDD+'s evaluation blocks: 256×256 mosaics cut from full frames, 32 a frame.

SIDD (the dataset's site): ValidationNoisyBlocksRaw.mat, ValidationGtBlocksRaw.mat and
BenchmarkNoisyBlocksRaw.mat hold one variable of the file's name, single [40,32,256,256] in [0,1]. The 40
frames are the scene instances held back from training, in the order of their names, as SIDD_Benchmark_Data
lists them; the name tells the phone, the phone its phase.
SIDD+ (NTIRE 2020 challenge on real image denoising, raw-RGB track): siddplus_valid_noisy_raw.mat,
siddplus_valid_gt_raw.mat and siddplus_test_noisy_raw.mat hold one variable of the file's name, single
[1024,256,256]. siddplus_bayer_patterns.csv has the phase of each of the 32 frames, a line each, and
siddplus_valid_nlfs.csv or siddplus_test_nlfs.csv, below a header, beta1 and beta2 of R, G and B.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sk_deploy.bayer import PHASES
from sk_deploy.errors import ConfigError, RawError
from sk_deploy.mat import read_mat
from sk_deploy.noise import NoiseProfile, estimate_noise
from sk_deploy.sidd_metadata import PHONE_PHASES

from .sidd import noise_of, phone_of, read_calibration, read_rows

BLOCKS_A_FRAME = 32
PATTERNS_CSV = "siddplus_bayer_patterns.csv"

# fmt: off
SCENES = (
    "0009_001_S6_00800_00350_3200_L", "0021_001_GP_10000_05000_5500_N", "0024_001_N6_03200_01500_5500_N",
    "0026_001_G4_00400_00160_5500_L", "0031_001_IP_01600_02000_3200_N", "0037_002_GP_06400_03200_3200_L",
    "0041_002_IP_01600_04000_5500_L", "0046_002_G4_00400_00350_3200_L", "0049_002_N6_00800_00800_5500_L",
    "0053_002_S6_03200_02000_5500_N", "0056_003_N6_03200_04000_5500_N", "0058_003_G4_00400_00500_5500_L",
    "0061_003_S6_00800_00500_4400_L", "0067_003_GP_01600_01500_3200_L", "0071_003_IP_02000_04000_5500_L",
    "0074_004_N6_00400_00040_3200_L", "0079_004_G4_00800_00160_3200_N", "0082_004_S6_03200_00500_4400_L",
    "0085_004_GP_06400_02000_4400_N", "0093_004_IP_01250_00250_3200_L", "0095_005_N6_00400_00200_3200_L",
    "0100_005_G4_00800_00400_3200_N", "0103_005_S6_01600_00800_4400_L", "0109_005_GP_10000_08000_4400_N",
    "0112_005_IP_01000_07500_5500_L", "0119_006_N6_00400_00100_3200_L", "0124_006_G4_00800_00350_3200_N",
    "0128_006_S6_03200_01600_4400_L", "0131_006_GP_01600_01250_4400_N", "0141_006_IP_01600_01620_3200_L",
    "0143_007_N6_00800_00800_4400_N", "0148_007_G4_00400_00400_4400_L", "0153_007_S6_03200_03200_5500_L",
    "0158_007_GP_03200_03200_5500_N", "0162_007_IP_01600_01600_3200_L", "0171_008_N6_03200_01600_4400_L",
    "0174_008_G4_00800_00800_4400_N", "0176_008_S6_00400_00100_5500_L", "0183_008_GP_06400_06400_5500_N",
    "0187_008_IP_01600_01600_3200_L",
)
"""The scene instances of the 40 frames of SIDD's blocks, in their order."""
# fmt: on
SIDDPLUS_VALID = ("BGGR",) * 16 + ("RGGB",) * 12 + ("BGGR",) * 4
"""Phases of SIDD+'s 32 validation frames, as participants list them; for folders without the CSV."""


@dataclass(frozen=True)
class BlockFiles:
    """One published set, as found in a folder."""

    title: str
    noisy: Path
    clean: Path | None
    sidd_plus: bool


@dataclass(frozen=True, eq=False)
class Blocks:
    """One published set, read."""

    noisy: NDArray[np.float32]
    """[frames,32,H,W]."""
    clean: NDArray[np.float32] | None
    frames: list[str]
    """Name of each frame."""
    phases: list[str]
    noise: list[NoiseProfile]
    noise_source: str
    """"calibration" or "estimate"."""
    sidd_plus: bool


_SETS = (
    ("SIDD validation blocks", "ValidationNoisyBlocksRaw", "ValidationGtBlocksRaw", False),
    ("SIDD+ validation blocks", "siddplus_valid_noisy_raw", "siddplus_valid_gt_raw", True),
    ("SIDD benchmark blocks", "BenchmarkNoisyBlocksRaw", None, False),
    ("SIDD+ test blocks", "siddplus_test_noisy_raw", None, True),
)
"""Title, noisy variable and file, ground truth's, whether SIDD+."""


def holds_blocks(folder: Path) -> bool:
    """Whether one of the noisy files is in the folder."""
    return any((folder / f"{noisy}.mat").is_file() for _, noisy, _, _ in _SETS)


def find_blocks(folder: Path, *, secret: bool) -> BlockFiles:
    """The set with ground truth, or, for a submission (`secret`), preferably the one without.

    Raises ConfigError when there is no ground truth and none may be missing.
    """
    found = []
    for title, noisy, clean, plus in _SETS:
        truth = folder / f"{clean}.mat"
        if (folder / f"{noisy}.mat").is_file():
            found.append(BlockFiles(title, folder / f"{noisy}.mat", truth if truth.is_file() else None, plus))
    chosen = min(found, key=lambda files: (files.clean is None) != secret)
    if chosen.clean is None and not secret:
        raise ConfigError(
            f"{chosen.noisy} has no ground truth beside it: "
            "--submission FILE writes what it takes to have it scored"
        )
    return chosen


def read_blocks(files: BlockFiles) -> Blocks:
    """Blocks, phases and noise of every frame. Raises RawError or ConfigError for another layout."""
    noisy = _read(files.noisy, files.sidd_plus)
    clean = None if files.clean is None else _read(files.clean, files.sidd_plus)
    if clean is not None and clean.shape != noisy.shape:
        raise RawError(f"{files.clean}: {_shape(clean)}, but its noisy blocks are {_shape(noisy)}")
    folder, count = files.noisy.parent, len(noisy)
    if files.sidd_plus:
        frames = [f"frame {i + 1:02}" for i in range(count)]
        phases = _plus_phases(files, count)
        calibrated = _plus_noise(files.noisy, count)
    else:
        if count > len(SCENES):
            raise RawError(f"{files.noisy}: {count} frames, expected SIDD's {len(SCENES)}")
        frames = list(SCENES[:count])
        phases = [PHONE_PHASES[phone_of(scene)] for scene in frames]
        calibration = read_calibration(folder)
        calibrated = [calibration[scene] for scene in frames if scene in calibration]
    if len(calibrated) == count:
        return Blocks(noisy, clean, frames, phases, calibrated, "calibration", files.sidd_plus)
    estimated = [estimate_noise(frame.reshape(-1, frame.shape[-1])) for frame in noisy]
    return Blocks(noisy, clean, frames, phases, estimated, "estimate", files.sidd_plus)


def _read(path: Path, sidd_plus: bool) -> NDArray[np.float32]:
    """[frames,32,H,W]."""
    blocks = read_mat(path, path.stem)
    expected = "[1024,256,256]" if sidd_plus else "[40,32,256,256]"
    right = blocks.dtype.kind == "f" and blocks.ndim == (3 if sidd_plus else 4)
    if right and sidd_plus and len(blocks) % BLOCKS_A_FRAME == 0:
        blocks = blocks.reshape(-1, BLOCKS_A_FRAME, *blocks.shape[1:])
    if not right or blocks.ndim != 4 or min(blocks.shape) < 1 or min(blocks.shape[2:]) < 2 * 8:
        raise RawError(
            f"{path}: {path.stem} is {_shape(blocks)} of {blocks.dtype}, expected {expected} of single"
        )
    return np.ascontiguousarray(blocks, np.float32)


def _plus_phases(files: BlockFiles, count: int) -> list[str]:
    path = files.noisy.with_name(PATTERNS_CSV)
    if path.is_file():
        phases = [row[0].strip().upper() for row in read_rows(path, header=False)]
    elif "valid" in files.noisy.name:
        phases = list(SIDDPLUS_VALID)
    else:
        raise ConfigError(
            f"{files.noisy} needs {PATTERNS_CSV} beside it: the phase of each frame, a line each"
        )
    if len(phases) < count or not set(phases) <= set(PHASES):
        raise ConfigError(f"{path}: expected the phase of {count} frames, a line each: {', '.join(PHASES)}")
    return phases[:count]


def _plus_noise(noisy: Path, count: int) -> list[NoiseProfile]:
    path = noisy.with_name(noisy.name.replace("noisy_raw.mat", "nlfs.csv"))
    if not path.is_file():
        return []
    return [noise_of(row, path) for row in read_rows(path, header=True)][:count]


def _shape(blocks: NDArray[np.generic]) -> str:
    return f"[{','.join(map(str, blocks.shape))}]"
