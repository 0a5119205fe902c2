"""Photographs as training scenes: developed 8-bit pictures brought back to linear light and cut into crops.

Design §4.3. Area-downsampling in linear light takes a photograph's own noise and sharpening away. What is
left of the unprocessing (colour matrix, white balance, exposure) is drawn anew for every sample, in
`mosaics`.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sk_deploy.errors import ConfigError

from .unprocess import linear_light

log = logging.getLogger(__name__)

_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff"}
_DEFAULT_DOWNSAMPLE = 2
_FLAT_DETAIL = 0.008
"""Detail below which a crop is sky, wall or darkness: little to learn but the grain it still has."""


@dataclass(frozen=True)
class Scenes:
    """Linear scenes, and which photograph each was cut from."""

    pixels: torch.Tensor
    """Linear sRGB, float16 [N,3,S,S] in [0,1]."""
    photo: torch.Tensor
    """Index of the source photograph, int64 [N]."""

    def select(self, photos: Sequence[int]) -> Tensor:
        """The pixels [n,3,S,S] of the photographs with these positions among those that yielded scenes."""
        names = torch.unique(self.photo)
        return self.pixels[torch.isin(self.photo, names[torch.tensor(photos, dtype=torch.int64)])]


def holds_photographs(folder: Path) -> bool:
    """Whether a JPEG, PNG or TIFF lies directly in the folder."""
    return any(path.suffix.lower() in _SUFFIXES for path in folder.iterdir())


def photographs(
    folder: Path, crop: int = 256, *, downsample: int | None = None, flat_share: float = 0.25, seed: int = 0
) -> Scenes:
    """Every photograph directly in `folder` (JPEG, PNG, TIFF) as linear crops that cover it.

    Of the crops that show next to nothing, which make up half of many photographs, `flat_share` is kept.

    `downsample`: area factor; None takes each file's `recommended_downsample` from the folder's
    manifest.json, else 2. `seed` draws the strength of the tone curve that each photograph is assumed to
    have. A broken or too small file is skipped with a warning. Raises ConfigError when the folder yields
    nothing.
    """
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES)
    factors = _manifest_factors(folder)

    def crops_of(index: int) -> torch.Tensor | None:
        file = files[index]
        factor = downsample or factors.get(file.name, _DEFAULT_DOWNSAMPLE)
        rng = np.random.default_rng([seed, index])
        linear = _read_linear(file, factor, rng.random())
        if linear is None:
            log.warning("%s cannot be read and decoded: skipped", file)
            return None
        if min(linear.shape[:2]) < crop:
            height, width = linear.shape[:2]
            log.warning(
                "%s is %dx%d after downsampling, less than a crop of %d: skipped", file, width, height, crop
            )
            return None
        cut = _cut(linear, crop)
        return torch.from_numpy(cut[(_detail(cut) >= _FLAT_DETAIL) | (rng.random(len(cut)) < flat_share)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes outside Python's lock
        crops = [(i, cut) for i, cut in enumerate(pool.map(crops_of, range(len(files)))) if cut is not None]
    if not crops:
        raise ConfigError(f"no photograph in {folder} is readable and at least {crop} px after downsampling")
    return _join(crops)


def linear_table(strength: float) -> NDArray[np.float32]:
    """8-bit display value -> linear light [256]; undoes a tone curve (0 none, 1 smoothstep), then sRGB.

    The inverse smoothstep and the sRGB curve: Brooks et al., CVPR 2019.
    """
    return linear_light(np.arange(256) / 255, strength).astype(np.float32)


def _manifest_factors(folder: Path) -> dict[str, int]:
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        return {e["file"]: int(e["recommended_downsample"]) for e in json.loads(path.read_text())}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no list of objects with `file` and `recommended_downsample` ({error!r}): "
            "mend or remove it"
        ) from error


def _read_linear(file: Path, factor: int, strength: float) -> NDArray[np.float32] | None:
    """Linear RGB [H/factor,W/factor,3], or None for a file that cannot be read and decoded whole."""
    try:
        encoded = np.fromfile(file, np.uint8)
    except OSError:
        return None
    # From memory: reading a file by name, OpenCV takes half a JPEG for a whole one.
    bgr = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if encoded.size else None
    if bgr is None:
        return None
    linear = cv2.LUT(bgr, linear_table(strength))
    size = (bgr.shape[1] // factor, bgr.shape[0] // factor)
    linear = linear[: size[1] * factor, : size[0] * factor]
    return cv2.resize(linear, size, interpolation=cv2.INTER_AREA)[..., ::-1]


def _cut(linear: NDArray[np.float32], crop: int) -> NDArray[np.float16]:
    """Crops float16 [n,3,crop,crop] that cover the picture; the last ones are shifted inside."""
    height, width = linear.shape[:2]
    tops, lefts = (sorted({min(i, s - crop) for i in range(0, s, crop)}) for s in (height, width))
    cut = np.empty((len(tops) * len(lefts), 3, crop, crop), np.float16)
    corners = ((top, left) for top in tops for left in lefts)
    for n, (top, left) in enumerate(corners):
        cut[n] = linear[top : top + crop, left : left + crop].transpose(2, 0, 1)
    return cut


def _detail(cut: NDArray[np.float16]) -> NDArray[np.float32]:
    """Mean step between neighbouring pixels of the square root (where shot noise is even) of grey [n]."""
    grey = np.sqrt(cut.mean(1, dtype=np.float32))
    return np.abs(np.diff(grey, axis=1)).mean((1, 2)) + np.abs(np.diff(grey, axis=2)).mean((1, 2))


def _join(crops: list[tuple[int, torch.Tensor]]) -> Scenes:
    """One tensor; each photograph's crops are freed once copied, so the peak stays near the final size."""
    counts = torch.tensor([len(cut) for _, cut in crops])
    photo = torch.tensor([index for index, _ in crops]).repeat_interleave(counts)
    pixels = torch.empty((len(photo), *crops[0][1].shape[1:]), dtype=torch.float16)
    end = len(photo)
    while crops:
        _, cut = crops.pop()
        pixels[end - len(cut) : end] = cut
        end -= len(cut)
    return Scenes(pixels, photo)
