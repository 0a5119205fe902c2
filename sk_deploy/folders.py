"""The raw files that a folder or a glob pattern stands for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RAW_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos"),
        *("mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)
"""What a folder is searched for. A file that is named outright may have any suffix."""
PLAIN_SUFFIXES = frozenset({".npy", ".pgm", ".png", ".tif", ".tiff"})
"""What it is searched for too, where the phase of plain mosaics is given."""
DENOISED = "_denoised"
"""What is added to a name when the output lies beside the original."""


@dataclass(frozen=True)
class Found:
    """A file that an input stands for, or a folder that cannot be searched."""

    path: Path
    root: Path
    """The folder that its sub-folders count from."""
    problem: str = ""


def find_files(given: str | Path, out: Path | None, *, plain: bool) -> Iterator[Found]:
    """What a file, folder or pattern stands for. A missing file counts: opening it tells.

    Folders are searched to any depth for raws, and for plain mosaics if `plain` is set; hidden files, earlier
    outputs and the folder `out` are left out.
    """
    path = Path(given)
    if _is_folder(path):
        yield from _walk(path, out, RAW_SUFFIXES | PLAIN_SUFFIXES if plain else RAW_SUFFIXES)
    elif os.path.lexists(path) or not glob.has_magic(str(given)):
        yield Found(path, path.parent)
    else:
        parts = path.parts
        root = Path(*parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])
        for match in sorted(root.glob(str(path.relative_to(root)))):
            if match.is_file() and _is_original(match):
                yield Found(match, root)


def _walk(root: Path, out: Path | None, suffixes: frozenset[str]) -> Iterator[Found]:
    """Each folder once, and none that `root` lies in: links may make loops. Links are followed last."""
    seen = {os.path.realpath(folder) for folder in root.absolute().parents}
    if out is not None and os.path.realpath(out) != os.path.realpath(root):
        seen.add(os.path.realpath(out))
    folders, links = [root], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        except OSError as error:
            yield Found(folder, root, f"{folder}: cannot be searched ({error.strerror})")
            continue
        below = [entry for entry in entries if _is_folder(entry)]
        folders += [entry for entry in reversed(below) if not entry.is_symlink()]
        links += [entry for entry in below if entry.is_symlink()]
        for file in entries:
            if file not in below and file.suffix.lower() in suffixes and _is_original(file):
                yield Found(file, root)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # in a folder that must not be entered, or a name too long
        return False


def _is_original(path: Path) -> bool:
    """Neither hidden (a partial output is) nor the result of an earlier run."""
    return not path.name.startswith(".") and not path.stem.endswith(DENOISED)
