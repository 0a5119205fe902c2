"""What a `--data` or an evaluation set is, told from its path: the one place that decides it.

Looked at in this order, so that the JPEGs beside raws are not taken for photographs:

    dead-leaves    the word: procedural scenes, nothing to download
    SIDD           sub-folders, or those of Data/, named as scene instances: 0001_001_S6_00100_00060_3200_L
    blocks         evaluation files: ValidationNoisyBlocksRaw.mat, siddplus_valid_noisy_raw.mat and their like
    pairs, clean   noisy/ and clean/; clean/ alone, or raws (DNG, NEF, ..., npy, pgm) directly in the folder
    photographs    JPEG, PNG or TIFF directly in the folder
"""

from __future__ import annotations

from pathlib import Path

from sk_deploy.errors import ConfigError

from .raw_folders import CLEAN, NOISY, is_raw_folder
from .sidd import is_sidd
from .sidd_blocks import holds_blocks

DEAD_LEAVES = "dead-leaves"


def recognise(source: str) -> str:
    """The kind, by its first word above in lower case. Raises ConfigError, naming them all, for none."""
    if source == DEAD_LEAVES:
        return DEAD_LEAVES
    folder = as_folder(source)
    if is_sidd(folder):
        return "sidd"
    if holds_blocks(folder):
        return "blocks"
    if (folder / NOISY).is_dir() and (folder / CLEAN).is_dir():
        return "pairs"
    if is_raw_folder(folder):
        return "clean"
    from .photographs import holds_photographs  # PyTorch's import, which evaluating can do without

    if holds_photographs(folder):
        return "photographs"
    raise ConfigError(
        f"{source} holds no JPEG, PNG or TIFF photographs, no raws, no noisy/ and clean/ with raws, no SIDD "
        "scenes and no SIDD blocks: expected a folder of one of these, or dead-leaves"
    )


def as_folder(source: str) -> Path:
    """Raises ConfigError where there is no such folder."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"{source} is not a folder: expected one with photographs, raws or SIDD, or dead-leaves"
        )
    return folder
