"""Putting a denoised mosaic on disk, in whatever format: checked first, then whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import RawError
from .raw_image import RawImage
from .treatment import Treatment
from .whole import whole

Chunks = Iterable[bytes | memoryview]
Encoder = Callable[[RawImage, NDArray[np.float32], Treatment], Chunks]
"""A file's bytes, of a mosaic that has the shape and scale of the raw's."""


def write_output(
    encode: Encoder, raw: RawImage, mosaic: NDArray[np.float32], target: Path, treatment: Treatment
) -> None:
    """Write `mosaic` [H,W], which has the shape and scale of raw.mosaic, to `target` as `encode` puts it.

    Raises RawError where `mosaic` is no such mosaic or `target` is the original, under any name, and
    SkdnError where the file cannot be written.
    """
    if mosaic.shape != raw.mosaic.shape:
        raise RawError(
            f"{raw.path.name}: a result of {mosaic.shape} pixels for a mosaic of {raw.mosaic.shape}"
        )
    if not np.all(np.isfinite(mosaic)):
        raise RawError(f"{raw.path.name}: the result has values that are no numbers: not written")
    _refuse_original(raw.path, target)
    chunks = encode(raw, mosaic, treatment)
    with whole(target) as path, path.open("wb") as file:
        file.writelines(chunks)


def _refuse_original(original: Path, target: Path) -> None:
    try:
        same = target.samefile(original)
    except OSError:
        same = os.path.realpath(target) == os.path.realpath(original)
    if same:
        raise RawError(f"{target}: is the original, which skdn never overwrites: name another output")
