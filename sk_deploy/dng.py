"""Writing a denoised mosaic as a CFA DNG that edits like the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dng_new import build
from .dng_patch import patch
from .errors import RawError
from .noise import NoiseProfile
from .output import write_output
from .raw_image import RawImage
from .treatment import Treatment

LEAST_SIDE_PX = 22
"""LibRaw takes what is smaller for no photograph."""


def write_dng(
    raw: RawImage,
    mosaic: NDArray[np.float32],
    target: str | Path,
    *,
    noise: NoiseProfile | None,
    strength: float = 1.0,
    software: str,
) -> None:
    """Write `mosaic`, which has the shape and scale of raw.mosaic, to `target`, whole or not at all.

    A DNG is patched append-only (`dng_patch`), any other raw becomes a new DNG (`dng_new`). `noise` is what
    remains in `mosaic` and replaces the NoiseProfile; None keeps the file's own. `strength` in [0,1] is noted
    as NoiseReductionApplied, `software` as the program that did it. Raises RawError where `target` is the
    original, under any name, and SkdnError where the file cannot be written.
    """
    write_output(encode_dng, raw, mosaic, Path(target), Treatment(noise, strength, software))


def encode_dng(raw: RawImage, mosaic: NDArray[np.float32], treatment: Treatment) -> list[bytes | memoryview]:
    """The bytes of `write_dng`'s file. Raises RawError for what LibRaw would not open."""
    top, left, bottom, right = raw.area
    if min(bottom - top, right - left) < LEAST_SIDE_PX:
        raise RawError(
            f"{raw.path.name}: {right - left}×{bottom - top} pixels, LibRaw reads no DNG below "
            f"{LEAST_SIDE_PX}×{LEAST_SIDE_PX}"
        )
    return patch(_reread(raw.path), raw, mosaic, treatment) if raw.is_dng else build(raw, mosaic, treatment)


def _reread(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RawError(
            f"{path}: cannot be read again ({error.strerror}): the output is patched from it"
        ) from error
