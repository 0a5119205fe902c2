"""What a denoised mosaic can be written as."""

from __future__ import annotations

from .developed import encode_developed_jpeg, encode_developed_png
from .dng import encode_dng
from .mosaic_file import encode_npy, encode_tiff
from .output import Encoder

ENCODERS: dict[str, Encoder] = {
    "dng": encode_dng,
    "tiff": encode_tiff,
    "npy": encode_npy,
    "png": encode_developed_png,
    "jpg": encode_developed_jpeg,
}
"""Format, which is the suffix of its files too -> its encoder."""
