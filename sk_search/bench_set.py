"""The quality benchmark: photographs brought back to raw, sharp and soft, at four noise levels.

A noisy mosaic depends on its photograph and on the photograph's place in the sorted folder, on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_deploy.noise import NoiseProfile

from .eval_set import EvalSet, Picture
from .unprocess import linear_light, to_mosaic

LEVELS = {
    "iphone7-400": NoiseProfile(7.35e-4, 3e-6),
    "pixel-1600": NoiseProfile(3.52e-3, 4.5e-5),
    "pixel-3200": NoiseProfile(7.03e-3, 1.79e-4),
    "extreme": NoiseProfile(2e-2, 1.2e-4),
}
"""Two phones at the ISO in their names, and what is left of a photograph taken in the dark."""
BLUR = {"sharp": 0.0, "soft": 1.0}
"""Content -> standard deviation of the lens's blur, sensor pixels."""
EXAMPLES = (("sharp", "pixel-1600"), ("soft", "pixel-3200"), ("sharp", "extreme"))
"""Groups that a comparison is shown of."""
BLACK, WHITE = 512, 2**14 - 1
"""Of the 14-bit raw that a noisy mosaic is stored as; what lies below 0 is cut off there."""
SIDE_PX = 512
"""The middle of a photograph that is used, at most."""
_SHORT_SIDE_PX = 1024
"""A photograph is averaged down by the whole factor that leaves its short side this long or longer."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}


def photograph_bench(folder: Path) -> EvalSet:
    """Every photograph directly in `folder` (8 or 16 bits), in groups named <content>-<level>.

    Raises ConfigError for a folder without photographs and, once its pictures are asked for, for a file that
    cannot be decoded.
    """
    files = _photographs(folder)
    pictures = chain.from_iterable(_levels(files, f, content) for content in BLUR for f in range(len(files)))
    count = len(files) * len(BLUR) * len(LEVELS)
    return EvalSet(f"{len(files)} photographs unprocessed to raw", pictures, count)


def photograph_examples(folder: Path) -> list[Picture]:
    """The benchmark's pictures to look at: one of each group in EXAMPLES, each of another photograph."""
    files = _photographs(folder)
    examples = []
    for e, (content, level) in enumerate(EXAMPLES):
        file = (2 * e + 1) * len(files) // (2 * len(EXAMPLES))
        examples += [picture for picture in _levels(files, file, content) if picture.group.endswith(level)]
    return examples


def with_noise(
    clean: NDArray[np.float32], noise: NoiseProfile, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Poisson-Gaussian noise on a mosaic [H,W], as a 14-bit raw file would hold it."""
    noisy = noise.shot * rng.poisson(clean / noise.shot) + np.sqrt(noise.read) * rng.standard_normal(
        clean.shape
    )
    stored = np.clip(np.round(noisy * (WHITE - BLACK) + BLACK), 0, WHITE)
    return ((stored - BLACK) / (WHITE - BLACK)).astype(np.float32)


def _photographs(folder: Path) -> list[Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [file for file in files if file.suffix.lower() in _SUFFIXES]
    if not files:
        raise ConfigError(f"{folder} holds no photographs: expected a folder of TIFF, PNG or JPEG files")
    return files


def _levels(files: list[Path], file: int, content: str) -> Iterator[Picture]:
    """One photograph at every level."""
    clean = to_mosaic(linear_light(_read(files[file])), BLUR[content])
    c = list(BLUR).index(content)
    for number, (level, noise) in enumerate(LEVELS.items()):
        place = (c * len(files) + file) * len(LEVELS) + number
        noisy = with_noise(clean, noise, np.random.default_rng([c, number, place]))
        yield Picture(files[file].name, f"{content}-{level}", noisy, clean, "RGGB", noise, "file")


def _read(file: Path) -> NDArray[np.float64]:
    """The middle of a photograph, display sRGB [H,W,3] in [0,1]."""
    encoded = np.fromfile(file, np.uint8)
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) if encoded.size else None
    if bgr is None or bgr.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f"{file} is no photograph of 8 or 16 bits that can be decoded: mend or remove it")
    display = bgr[..., ::-1] / float(np.iinfo(bgr.dtype).max)
    height, width = display.shape[:2]
    factor = max(1, min(height, width) // _SHORT_SIDE_PX)
    if factor > 1:
        display = cv2.resize(display, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
        height, width = display.shape[:2]
    if min(height, width) < 64:
        raise ConfigError(f"{file} is {width}x{height} pixels: expected at least 64x64")
    top, left = (max(0, (size - SIDE_PX) // 2) for size in (height, width))
    return display[top : top + SIDE_PX, left : left + SIDE_PX]
