"""Files in the layouts that SIDD and SIDD+ publish, of either MATLAB generation, small enough for a test."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from sk_deploy.bayer import PHASES
from sk_deploy.sidd_metadata import PHONE_PHASES

MAKES = {"GP": "Google", "IP": "Apple", "S6": "samsung", "N6": "motorola", "G4": "LGE"}
MATLAB_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Fri Sep 07 2018 HDF5 schema 1.00 ."


def write_hdf5(path: Path, **variables: NDArray) -> Path:
    """As MATLAB's `save -v7.3`: its header in a user block, axes backwards, classes as attributes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in variables.items():
            dataset = file.create_dataset(name, data=array.T, compression="gzip")
            dataset.attrs["MATLAB_class"] = np.bytes_({"f4": "single", "f8": "double"}[array.dtype.str[1:]])
    with path.open("r+b") as file:
        file.write(MATLAB_HEADER.ljust(116) + bytes(8) + b"\x00\x02IM")
    return path


def write_older(path: Path, **variables: object) -> Path:
    """As MATLAB's `save` before 7.3."""
    scipy.io.savemat(path, variables, appendmat=False)
    return path


def metadata(phone: str, noise: tuple[float, float] | None = (1e-3, 1e-5)) -> dict[str, object]:
    """What `imfinfo` says of the phone's DNG; an iPhone's mosaic is described in the first SubIFD."""
    site = PHASES[PHONE_PHASES[phone]]
    pattern = np.ones((2, 2), np.uint8)
    pattern[site], pattern[1 - site[0], 1 - site[1]] = 0, 2
    tags = {33421: [2, 2], 33422: pattern.ravel()} | ({51041: [*noise] * 3} if noise else {})
    unknown = np.zeros((len(tags), 1), [("ID", object), ("Offset", object), ("Value", object)])
    for row, (tag, value) in zip(unknown, tags.items(), strict=True):
        row[0] = (np.uint16(tag), np.uint16(0), np.atleast_2d(value))
    mosaic = {"BlackLevel": [[64, 64, 64, 64]], "WhiteLevel": 1023, "UnknownTags": unknown}
    whole = {"Make": MAKES[phone], "Model": f"Model {phone}"}
    if phone != "IP":
        return whole | {"ISOSpeedRatings": np.uint16(100)} | mosaic
    none = np.zeros((1, 1), unknown.dtype)
    none[0, 0] = (np.uint16(50936), np.uint16(0), "Embedded")
    sub_ifds = np.empty((1, 2), object)
    sub_ifds[0, 0], sub_ifds[0, 1] = mosaic, {"Width": np.uint16(1024)}
    exif = {"ISOSpeedRatings": np.uint16(100)}
    return whole | {"SubIFDs": sub_ifds, "DigitalCamera": exif, "UnknownTags": none}


def scene_name(number: int, phone: str) -> str:
    return f"{number:04}_{1 + number % 10:03}_{phone}_00100_00060_3200_L"


def mosaic_pair(
    shape: tuple[int, int], phase: str, seed: int, noise: tuple[float, float] = (1e-3, 1e-5)
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clean and noisy in [0,1]. Red is below a quarter, blue above three quarters, green between them."""
    rng = np.random.default_rng(seed)
    levels = np.full((2, 2), 0.5)
    row, column = PHASES[phase]
    levels[row, column], levels[1 - row, 1 - column] = 0.15, 0.85
    height, width = shape
    level = np.tile(levels, (height // 2 + 1, width // 2 + 1))[:height, :width]
    ramp = 0.02 * np.sin(np.arange(height) / 9 + seed)[:, None] + 0.04 * np.linspace(-1, 1, width)
    clean = level + ramp
    noisy = clean + rng.standard_normal(shape) * np.sqrt(noise[0] * clean + noise[1])
    return clean.astype(np.float32), np.clip(noisy, 0, 1).astype(np.float32)


def write_scene(
    data: Path,
    number: int,
    phone: str,
    *,
    shape: tuple[int, int] = (150, 190),
    frames: int = 1,
    hdf5: bool = True,
) -> Path:
    """A scene instance with noisy mosaic, ground truth and metadata of each frame."""
    folder = data / scene_name(number, phone)
    folder.mkdir(parents=True)
    write = write_hdf5 if hdf5 else write_older
    for frame in range(10, 10 + frames):
        clean, noisy = mosaic_pair(shape, PHONE_PHASES[phone], seed=number + frame)
        write(folder / f"{number:04}_NOISY_RAW_{frame:03}.MAT", x=noisy)
        write(folder / f"{number:04}_GT_RAW_{frame:03}.MAT", x=clean)
        write_older(folder / f"{number:04}_METADATA_RAW_{frame:03}.MAT", metadata=metadata(phone))
    return folder


def write_sidd(folder: Path, phones: str = "GP IP S6 N6 G4", each: int = 2, **options: object) -> Path:
    """SIDD's training data: `each` scene instances of every phone in folder/Data."""
    number = 0
    for phone in phones.split():
        for _ in range(each):
            number += 1
            write_scene(folder / "Data", number, phone, **options)  # type: ignore[arg-type]
    return folder
