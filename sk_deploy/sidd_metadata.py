"""SIDD's METADATA files: what MATLAB's `imfinfo` said of the DNG that a mosaic came from.

Layout: the files NNNN_METADATA_RAW_010.MAT that SIDD publishes (A. Abdelhamed et al., *A High-Quality
Denoising Dataset for Smartphone Cameras*, CVPR 2018) hold one struct `metadata` in MATLAB's version 5. Tags
that `imfinfo` has no name for, CFAPattern and NoiseProfile among them, are in `UnknownTags` as ID and Value.
An iPhone's come from Adobe's converter, which keeps the mosaic's tags in the first of the `SubIFDs`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bayer import PHASES
from .errors import RawError
from .mat import read_mat
from .noise import MOST, NoiseProfile
from .raw_image import Capture, camera_name
from .tags import Tag

PHONE_PHASES = {"GP": "BGGR", "IP": "RGGB", "S6": "GRBG", "N6": "BGGR", "G4": "BGGR"}
"""Phase of each of SIDD's five phones, for files without metadata. IP, S6 and N6 are those of published
metadata; GP and G4 as public code that reads SIDD has them."""


@dataclass(frozen=True)
class SiddMetadata:
    """How one SIDD frame was taken."""

    phase: str
    """Of the mosaic's first pixel: one of bayer.PHASES."""
    noise: NoiseProfile | None
    """From the DNG tag NoiseProfile, the mean over its colours; never less than the converter's rounding."""
    capture: Capture

    @property
    def camera(self) -> str:
        """Make and model."""
        return camera_name(self.capture)


def metadata_path(mosaic: Path) -> Path | None:
    """The METADATA file beside 0001_NOISY_RAW_010.MAT or 0001_GT_RAW_010.MAT; None where there is none."""
    stem, replaced = re.subn(r"(NOISY|GT)_RAW", "METADATA_RAW", mosaic.stem)
    path = mosaic.with_name(stem + mosaic.suffix)
    return path if replaced and path.is_file() else None


def read_sidd_metadata(path: Path) -> SiddMetadata:
    """Read a METADATA file. Raises RawError, one line, when it is none or names no Bayer phase."""
    content = read_mat(path, "metadata")
    if content.dtype.names is None or content.size != 1:
        raise RawError(f"{path.name}: variable metadata is no struct: expected SIDD's metadata")
    whole = content.reshape(-1)[0]
    for directory in (whole, *_sub_directories(whole)):
        tags = _unknown_tags(directory)
        if Tag.CFA_PATTERN in tags:
            return SiddMetadata(
                phase=_phase(tags[Tag.CFA_PATTERN], path.name),
                noise=_noise(tags.get(Tag.NOISE_PROFILE), directory),
                capture=_capture(whole),
            )
    raise RawError(f"{path.name}: no CFAPattern in it: expected the metadata of a Bayer mosaic")


def _sub_directories(directory: Any) -> Iterator[Any]:
    for sub in _array(directory, "SubIFDs").reshape(-1):
        if isinstance(sub, np.ndarray) and sub.dtype.names and sub.size:
            yield sub.reshape(-1)[0]


def _unknown_tags(directory: Any) -> dict[int, Any]:
    """ID -> values, flat."""
    entries = _array(directory, "UnknownTags").reshape(-1)
    if entries.dtype.names is None or not {"ID", "Value"} <= set(entries.dtype.names):
        return {}
    return {int(e["ID"].flat[0]): e["Value"].reshape(-1) for e in entries if e["ID"].size}


def _phase(pattern: Any, name: str) -> str:
    phase = "".join("RGB"[int(colour)] if 0 <= colour <= 2 else "?" for colour in pattern)
    if phase not in PHASES:
        raise RawError(f"{name}: CFAPattern {phase}: expected one of {', '.join(PHASES)}")
    return phase


def _noise(profile: Any, directory: Any) -> NoiseProfile | None:
    """None where the profile makes no sense. A Galaxy S6 states read noise 0: no converter rounds so well."""
    if profile is None or len(profile) < 2 or len(profile) % 2:
        return None
    shot, read = (float(mean) for mean in np.asarray(profile, np.float64).reshape(-1, 2).mean(0))
    if not (0 <= shot < MOST and 0 <= read < MOST and shot + read > 0):
        return None
    white = float(_array(directory, "WhiteLevel").max(initial=0))
    steps = white - float(_array(directory, "BlackLevel").max(initial=0))
    return NoiseProfile(shot, max(read, 1 / steps**2 / 12 if steps > 1 else 0.0))


def _capture(whole: Any) -> Capture:
    exif = _array(whole, "DigitalCamera").reshape(-1)
    iso = _array(whole, "ISOSpeedRatings")
    if not iso.size and exif.dtype.names and exif.size:
        iso = _array(exif[0], "ISOSpeedRatings")
    return Capture(
        make=_text(whole, "Make"), model=_text(whole, "Model"), iso=float(iso.flat[0]) if iso.size else None
    )


def _array(record: Any, field: str) -> Any:
    """A field of a MATLAB struct; empty where it has none."""
    return np.asarray(record[field]) if field in record.dtype.names else np.empty(0)


def _text(record: Any, field: str) -> str:
    value = _array(record, field)
    return str(value.flat[0]).strip() if value.size else ""
