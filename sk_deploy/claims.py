"""What a file claims to hold, checked before memory is asked for: a few bytes can claim terabytes."""

from __future__ import annotations

from .errors import RawError

MAX_SIDE_PX = 65_535
MAX_PIXELS = 500_000_000
"""Three times the largest sensor on sale; beyond it a file is damaged or hostile."""
DEFLATE_AT_BEST = 1032
"""Bytes that one byte of a deflated stream can stand for."""


def check_claim(name: str, height: int, width: int, at_most: float = MAX_PIXELS) -> None:
    """Raise RawError unless height × width pixels are a photograph, and no more than `at_most`.

    `at_most` is what the bytes at hand can stand for in their compression.
    """
    if not (2 <= width <= MAX_SIDE_PX and 2 <= height <= MAX_SIDE_PX and width * height <= MAX_PIXELS):
        raise RawError(f"{name}: claims {width}×{height} pixels: damaged, or not a photograph")
    if width * height > at_most:
        raise RawError(
            f"{name}: claims {width}×{height} pixels, its bytes hold {int(at_most)} at most: damaged"
        )
