"""Folders of raws to train on and to evaluate with: clean ones, or noisy/ and clean/ with the same names.

    DATA/clean/          raws without noise to speak of; or such raws directly in DATA
    DATA/noisy/          the same scenes with noise; noisy/a.dng belongs to clean/a.dng, a.npy or a.tif

Any raw that `skdn denoise` reads will do. A plain mosaic (npy, mat, TIFF, PNG, PGM) names its phase at the
end of its stem, as in a_GBRG.npy, unless the other half of its pair knows it. Files in a sub-folder are of
one scene and stay together when scenes are held out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sk_deploy.bayer import PHASES
from sk_deploy.errors import ConfigError, RawError
from sk_deploy.folders import RAW_SUFFIXES
from sk_deploy.raw import RawImage, read_raw

log = logging.getLogger(__name__)

CLEAN, NOISY = "clean", "noisy"
_PLAIN = {".npy", ".pgm", ".mat"}
_AMBIGUOUS = {".tif", ".tiff", ".png"}
"""Photographs, unless they lie in clean/ or noisy/."""
_PHASE = re.compile(rf"[._-]({'|'.join(PHASES)})$")


@dataclass(frozen=True)
class RawPair:
    """Two raws of the same picture."""

    noisy: Path
    clean: Path
    scene: str


def is_raw_folder(folder: Path) -> bool:
    """Whether it has a clean/ sub-folder, or raws and plain mosaics lie in it."""
    return (folder / CLEAN).is_dir() or any(_is_raw(path) for path in folder.iterdir())


def find_clean(folder: Path) -> list[tuple[Path, str]]:
    """The clean raws and the scene of each, by name. Raises ConfigError when there is none."""
    if (folder / CLEAN).is_dir():
        found = {key: path for path, key in _named(folder / CLEAN)}
    else:
        found = {_key(path, folder): path for path in sorted(folder.iterdir()) if _is_raw(path)}
    if not found:
        raise ConfigError(f"{folder / CLEAN} holds no raw")
    return [(path, _scene(key)) for key, path in found.items()]


def find_pairs(folder: Path) -> list[RawPair]:
    """What noisy/ and clean/ both hold, by name; a noisy file without a clean one is left out with a warning.

    Raises ConfigError when nothing is left, or when two clean files have one name.
    """
    clean: dict[str, Path] = {}
    for path, key in _named(folder / CLEAN):
        if key in clean:
            raise ConfigError(f"{path} and {clean[key].name} have one name: which is the clean one?")
        clean[key] = path
    pairs = []
    for path, key in _named(folder / NOISY):
        if key in clean:
            pairs.append(RawPair(path, clean[key], _scene(key)))
        else:
            log.warning("%s has no file of its name in %s: left out", path, folder / CLEAN)
    if not pairs:
        raise ConfigError(f"{folder / NOISY} holds no raw with one of its name in {CLEAN}/")
    return pairs


def read_one(path: Path, partner: RawImage | None = None) -> RawImage:
    """A raw, or a plain mosaic whose stem or partner names the phase. Raises RawError."""
    named = _PHASE.search(path.stem)
    try:
        return read_raw(path, named[1] if named else None)
    except RawError:
        if named:
            raise
        raw = read_raw(path, partner.phase if partner else "RGGB")  # what else is wrong with it shows first
        if partner is None:
            example = f"{path.stem}_GBRG{path.suffix}"
            raise RawError(f"{path}: a plain mosaic of unknown phase: name the file {example}, say") from None
        return raw


def read_both(pair: RawPair) -> tuple[RawImage, RawImage]:
    """Noisy and clean. Raises RawError when they are not the same sites."""
    try:
        noisy = read_one(pair.noisy)
    except RawError:  # perhaps the other half knows its phase
        clean = read_one(pair.clean)
        noisy = read_one(pair.noisy, clean)
    else:
        clean = read_one(pair.clean, noisy)
    if (noisy.mosaic.shape, noisy.phase) != (clean.mosaic.shape, clean.phase):
        raise RawError(
            f"{pair.noisy} is {_describe(noisy)}, but {pair.clean} is {_describe(clean)}: "
            "expected the same sites"
        )
    return noisy, clean


def _describe(raw: RawImage) -> str:
    height, width = raw.mosaic.shape
    return f"{width}×{height} {raw.phase}"


def _is_raw(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in RAW_SUFFIXES | _PLAIN and path.name[0] != "."


def _named(root: Path) -> Iterator[tuple[Path, str]]:
    """Raws under noisy/ or clean/, and their keys. TIFF and PNG count: the folder says that they are raws."""
    for path in sorted(root.rglob("*")):
        if (_is_raw(path) or path.suffix.lower() in _AMBIGUOUS) and "METADATA" not in path.stem:
            yield path, _key(path, root)


def _key(path: Path, root: Path) -> str:
    """What the two halves of a pair share: folder and stem, without a phase."""
    return (path.relative_to(root).parent / _PHASE.sub("", path.stem)).as_posix()


def _scene(key: str) -> str:
    """The first folder, else the file itself."""
    return key.split("/")[0]
