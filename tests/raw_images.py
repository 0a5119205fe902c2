"""RawImages for the tests: random counts with masked borders and levels that differ at every site."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sk_deploy.raw_image import RawImage


def raw_image(height: int, width: int, seed: int = 0, phase: str = "GBRG", exact: bool = False) -> RawImage:
    """A mosaic of height × width with 3 masked rows above it and 1 masked column before it."""
    rng = np.random.default_rng(seed)
    return RawImage(
        path=Path("test.dng"),
        phase=phase,
        black=np.array([[64, 65], [66.5, 67]], np.float32),
        white=np.array([[1000, 1010], [1020, 1023]], np.float32),
        noise=None,
        camera="",
        iso=None,
        orientation=1,
        stored=rng.integers(0, 1023, (height + 3, width + 1), np.uint16),
        area=(3, 1, height + 3, width + 1),
        crop=(0, 0, height, width),
        black_rows=rng.integers(-2, 3, height).astype(np.float32),
        black_columns=rng.integers(-2, 3, width).astype(np.float32),
        exact=rng.normal(0.3, 0.2, (height, width)).astype(np.float32) if exact else None,
    )
