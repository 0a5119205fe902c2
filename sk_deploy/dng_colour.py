"""A DNG's colour, as far as a preview needs it: the matrix nearest D65 (DNG specification 1.7, chapter 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import RawError
from .raw_image import Colour
from .srgb import SRGB_TO_XYZ
from .tags import Tag
from .tiff import Tiff

Matrix = NDArray[np.float64]

_D65 = 21


def read_colour(tiff: Tiff) -> Colour:
    """White balance and matrices of the first directory; neutral defaults for what is missing or damaged."""
    try:
        xyz_to_camera = _matrix(tiff)
        neutral = _neutral(tiff, xyz_to_camera)
    except RawError:
        return Colour()
    if xyz_to_camera is None:
        return Colour(neutral=neutral)
    return Colour(xyz_to_camera, camera_to_srgb(xyz_to_camera), neutral)


def camera_to_srgb(xyz_to_camera: Matrix) -> Matrix | None:
    """[3,3] from white-balanced camera RGB to linear sRGB, grey to grey; None for a singular matrix."""
    srgb_to_camera = xyz_to_camera @ SRGB_TO_XYZ
    white = srgb_to_camera.sum(axis=1, keepdims=True)
    if np.any(white <= 0) or abs(np.linalg.det(srgb_to_camera / white)) < 1e-3:
        return None
    return np.linalg.inv(srgb_to_camera / white)


def _matrix(tiff: Tiff) -> Matrix | None:
    first = tiff.chain[0]
    second = Tag.COLOR_MATRIX_2 in first.entries and tiff.integers(first, Tag.CALIBRATION_ILLUMINANT_1) != (
        _D65,
    )
    colour = _array(tiff, Tag.COLOR_MATRIX_2 if second else Tag.COLOR_MATRIX_1, 9)
    if colour is None:
        return None
    calibration = _array(tiff, Tag.CAMERA_CALIBRATION_2 if second else Tag.CAMERA_CALIBRATION_1, 9)
    balance = _array(tiff, Tag.ANALOG_BALANCE, 3)
    matrix = colour.reshape(3, 3)
    if calibration is not None:
        matrix = calibration.reshape(3, 3) @ matrix
    return matrix if balance is None else np.diag(balance) @ matrix


def _neutral(tiff: Tiff, xyz_to_camera: Matrix | None) -> Matrix:
    neutral = _array(tiff, Tag.AS_SHOT_NEUTRAL, 3)
    white = _array(tiff, Tag.AS_SHOT_WHITE_XY, 2)
    if neutral is None and white is not None and xyz_to_camera is not None and white[1] > 0:
        x, y = white
        neutral = xyz_to_camera @ np.array([x / y, 1, (1 - x - y) / y])
    if neutral is None or np.any(neutral <= 0):
        return np.ones(3)
    scaled: Matrix = neutral / neutral[1]
    return scaled


def _array(tiff: Tiff, tag: Tag, length: int) -> Matrix | None:
    values = [float(value) for value in tiff.numbers(tiff.chain[0], tag)]
    return np.array(values) if len(values) == length else None
