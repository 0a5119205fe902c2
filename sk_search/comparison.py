"""One picture for a model card: examples in rows; noisy, NLM, each model and clean in columns; enlarged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.errors import ConfigError
from sk_deploy.whole import check_place, whole

from .benchmark import NOISY, Method
from .classical import nlm
from .eval_set import Picture
from .pictures import side_by_side
from .quality import psnr_db
from .unprocess import develop

CROP_PX = 112
SCALE = 3
"""Pixels on each side that one sensor pixel becomes; none is interpolated, so that none looks smoother."""


def comparison(pictures: Sequence[Picture], models: Mapping[str, Method]) -> NDArray[np.uint8]:
    """RGB [H,W,3]: of each picture with a clean mosaic the part with most detail, and its PSNR as a whole."""
    columns: dict[str, Method] = {NOISY: lambda picture: picture.noisy, "NLM": nlm, **models}
    rows = []
    for picture in pictures:
        assert picture.clean is not None
        clean = develop(picture.clean)
        part = _most_detail(clean)
        row = []
        for label, method in columns.items():
            mosaic = method(picture)
            row.append((f"{label} {psnr_db(mosaic, picture.clean):.2f} dB", develop(mosaic)[part]))
        row.append((f"clean ({picture.group})", clean[part]))
        parts = [(label, np.pad(rgb, ((0, 0), (0, 1), (0, 0)), constant_values=255)) for label, rgb in row]
        rows.append(side_by_side(parts, SCALE))
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    )


def check_picture(path: Path, *, force: bool) -> None:
    """Before minutes of measuring. Raises ConfigError for a name or place that will not do."""
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path}: expected a name that ends in .png")
    check_place(path, force=force)


def write_picture(path: Path, rgb: NDArray[np.uint8]) -> None:
    """As a PNG, packed tightly: enlarged pixels repeat."""
    _, png = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    with whole(path) as temporary:
        temporary.write_bytes(png.tobytes())


def _most_detail(rgb: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The window of CROP_PX, or less where the picture is smaller, with the largest steps between pixels."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    steps = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    height, width = (min(CROP_PX, size) for size in grey.shape)
    total = cv2.boxFilter(steps, -1, (width, height), anchor=(0, 0))
    inside = total[: grey.shape[0] - height + 1, : grey.shape[1] - width + 1]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)
