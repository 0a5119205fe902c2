"""MATLAB files: one array by its name, from either generation, as MATLAB shows it.

Version 7.3 is HDF5 and needs h5py; what came before needs scipy. Both are in `skdn[search]`, and neither is
imported before a MATLAB file is read. HDF5 lists the axes of MATLAB's column-major arrays backwards: h5py
shows a mosaic [H,W] as [W,H], so its axes are reversed here.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .claims import DEFLATE_AT_BEST, MAX_PIXELS
from .errors import RawError

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512
"""MATLAB puts its own header of so many bytes before the HDF5 signature."""


def is_mat(data: bytes) -> bool:
    """Whether the first bytes of a file are a MATLAB file's, of version 5 and later."""
    return data.startswith((b"MATLAB ", HDF5_SIGNATURE)) or _is_hdf5(data)


def read_mat(source: Path | bytes, variable: str, name: str = "") -> NDArray[Any]:
    """The array `variable` of a MATLAB file, axes in MATLAB's order.

    `source` is a file, or its content called `name` in errors. Raises RawError, one line, for a file that is
    not MATLAB's, is damaged or lacks the variable, and where the library that reads it is not installed.
    """
    name = name or (source.name if isinstance(source, Path) else "this file")
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            head = file.read(_USER_BLOCK + len(HDF5_SIGNATURE))
            if not is_mat(head):
                raise RawError(f"{name}: not a MATLAB file: expected version 5 or 7.3")
            file.seek(0)
            read = _read_hdf5 if _is_hdf5(head) else _read_older
            return np.ascontiguousarray(read(file, variable, name))
    except ModuleNotFoundError as error:
        raise RawError(f"{name}: a MATLAB file needs {error.name}: pip install 'skdn[search]'") from error
    except (RawError, MemoryError):
        raise
    except Exception as error:  # both libraries raise whatever damaged bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RawError(
            f"{name}: cannot be read as a MATLAB file ({reason}): damaged or truncated?"
        ) from error


def _is_hdf5(head: bytes) -> bool:
    return head.startswith(HDF5_SIGNATURE) or head.startswith(HDF5_SIGNATURE, _USER_BLOCK)


def _read_hdf5(file: IO[bytes], variable: str, name: str) -> NDArray[Any]:
    import h5py

    with h5py.File(file, "r") as content:
        links = {key: content.get(key, getlink=True) for key in content if not key.startswith("#")}
        found = {key: content[key] for key, link in links.items() if isinstance(link, h5py.HardLink)}
        _check_variable(found, variable, name)
        dataset = found[variable]
        if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
            raise RawError(f"{name}: variable {variable} is no array of numbers")
        if dataset.is_virtual or dataset.external:
            raise RawError(f"{name}: variable {variable} is stored in other files: expected one file")
        _check_size(dataset.shape, variable, name)
        if dataset.nbytes > DEFLATE_AT_BEST * dataset.id.get_storage_size():
            raise RawError(f"{name}: variable {variable} claims {dataset.shape}, which its bytes cannot hold")
        return np.asarray(dataset[()]).T


def _read_older(file: IO[bytes], variable: str, name: str) -> NDArray[Any]:
    import scipy.io

    shapes = {key: shape for key, shape, _ in scipy.io.whosmat(file)}
    _check_variable(shapes, variable, name)
    _check_size(shapes[variable], variable, name)
    file.seek(0)
    return np.asarray(scipy.io.loadmat(file, variable_names=[variable])[variable])


def _check_size(shape: tuple[int, ...], variable: str, name: str) -> None:
    if math.prod(shape) > MAX_PIXELS:
        raise RawError(f"{name}: variable {variable} claims {shape} numbers: damaged, or not a photograph")


def _check_variable(found: Mapping[str, object], variable: str, name: str) -> None:
    if variable not in found:
        names = ", ".join(sorted(found)) or "no variable"
        raise RawError(f"{name}: expected variable {variable}, found {names}: another layout?")
