"""sRGB (IEC 61966-2-1): its tone curve and its primaries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SRGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""[3,3] linear sRGB to XYZ, white D65."""


def srgb_curve(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear values ≥ 0 as sRGB encodes them, the same shape; continued above 1."""
    curved: NDArray[np.float32] = np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    return curved
