"""Pictures brought back to raw, and raw developed again, by one made-up camera.

The steps and the treatment of highlights are those of T. Brooks et al., *Unprocessing Images for Learned Raw
Denoising* (CVPR 2019): smoothstep tone curve, sRGB curve, colour matrix, white balance, each undone in turn.
The camera is fixed, unlike that of the training mosaics: in a quality table only the noise is random.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sk_deploy.bayer import unpack
from sk_deploy.srgb import srgb_curve

CAMERA_TO_SRGB = np.array([[1.631, -0.516, -0.115], [-0.215, 1.453, -0.238], [0.014, -0.556, 1.542]])
"""[3,3], white-balanced camera RGB to linear sRGB; its rows add up to 1."""
WHITE_BALANCE = np.array([2.0, 1.0, 1.7])
"""What R, G and B are multiplied with to make grey grey."""
_HIGHLIGHT = 0.9
"""Above this mean a pixel fades to its unbalanced value, so that white stays white in every colour."""

Array = NDArray[np.floating]


def linear_light(display: Array, tone: float = 1.0) -> Array:
    """Undo a tone curve and the sRGB curve: display values in [0,1] -> linear sRGB, the same shape.

    `tone`: strength of the curve, 0 none, 1 smoothstep.
    """
    untoned = (1 - tone) * display + tone * (0.5 - np.sin(np.arcsin(1 - 2 * display) / 3))
    return np.where(untoned <= 0.04045, untoned / 12.92, ((untoned + 0.055) / 1.055) ** 2.4)


def to_mosaic(linear: Array, blur: float = 0.0) -> NDArray[np.float32]:
    """Linear sRGB [H,W,3] -> clean RGGB mosaic [H,W] in [0,1]; an odd last row or column is cut off.

    `blur`: standard deviation in sensor pixels of the lens that the scene is seen through.
    """
    camera = np.clip(linear @ np.linalg.inv(CAMERA_TO_SRGB).T, 0, 1)
    if blur:
        camera = cv2.GaussianBlur(camera, (0, 0), blur)
    gain = 1 / WHITE_BALANCE
    fade = (np.maximum(camera.mean(-1, keepdims=True) - _HIGHLIGHT, 0) / (1 - _HIGHLIGHT)) ** 2
    camera = camera * np.maximum(fade + (1 - fade) * gain, gain)
    height, width = camera.shape[0] // 2 * 2, camera.shape[1] // 2 * 2
    red, green, blue = camera[:height, :width].transpose(2, 0, 1)
    planes = np.stack([red[::2, ::2], green[::2, 1::2], green[1::2, ::2], blue[1::2, 1::2]])
    return unpack(planes).astype(np.float32)


def develop(mosaic: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RGGB mosaic [H,W] -> display sRGB [H,W,3], demosaiced at full size along edges.

    White balance, colour matrix, sRGB curve and smoothstep: what `linear_light` and `to_mosaic` undid.
    """
    balanced = mosaic.copy()
    balanced[::2, ::2] *= WHITE_BALANCE[0]
    balanced[1::2, 1::2] *= WHITE_BALANCE[2]
    levels = np.rint(np.clip(balanced, 0, 1) * (2**16 - 1)).astype(np.uint16)
    camera = cv2.cvtColor(levels, cv2.COLOR_BayerRGGB2RGB_EA) / np.float32(2**16 - 1)
    display = srgb_curve(np.clip(camera @ CAMERA_TO_SRGB.T.astype(np.float32), 0, 1))
    toned = display**2 * (3 - 2 * display)
    return np.rint(np.clip(toned, 0, 1) * 255).astype(np.uint8)
