"""The noise of a camera at an ISO, as an installed darktable knows it.

darktable's `noiseprofiles.json` is read where it is installed and never shipped. For a camera and an ISO it
holds a and b of variance = a · x + b for red, green and blue, on the scale black 0, white 1, before white
balance. Names and ISOs are matched as darktable does (src/common/noiseprofiles.c): `cameras.xml` beside it
gives a camera one name in all its markets, and a and b are linear between two ISOs and unknown beyond them.

Those numbers are not a mosaic's. darktable measures them in the finest diagonal band of a demosaiced
picture (tools/noise/noiseprofile.c): a quarter of white noise's variance, and much less after interpolation.
By how much depends on the demosaicing of the day and on the light. Its own chain, repeated on synthetic
mosaics with darktable 4.2.1, gives 12.5 to 13.1 with PPG (until 2021) and 21 to 22 with RCD (since); on a
real Nikon D5000 file, measured against its mosaic, 8.7. (darktable's issue 2313 reports 10 to 15.) So a
profile tells the ratio of shot to read noise well and the level within a factor; the picture itself says
which.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .noise import NoiseProfile

log = logging.getLogger(__name__)

PLACES = (
    "/usr/share/darktable",
    "/usr/local/share/darktable",
    "/opt/darktable/share/darktable",
    "/opt/homebrew/share/darktable",
    "/var/lib/flatpak/app/org.darktable.Darktable/current/active/files/share/darktable",
    "~/.local/share/flatpak/app/org.darktable.Darktable/current/active/files/share/darktable",
    "/snap/darktable/current/usr/share/darktable",
    "/Applications/darktable.app/Contents/Resources/share/darktable",
    "~/Applications/darktable.app/Contents/Resources/share/darktable",
    "C:/Program Files/darktable/share/darktable",
)
"""Where darktable keeps its data on Linux (packages, source, flatpak, snap), macOS and Windows."""
BESIDE_THE_PROGRAM = ("../share/darktable", "../Resources/share/darktable")
"""The same, from the folder of the program that is on the path."""
LEAST, USUAL, MOST = 8.0, 12.5, 22.0
"""Variance of a mosaic over that of a profile: the span that was found, and a value near its middle."""

_FILE = "noiseprofiles.json"

Point = tuple[float, float, float]
"""ISO, a and b of green: half of all sites, and demosaicing changes it least."""


@dataclass(frozen=True)
class CameraProfile:
    """What darktable says of one camera at one ISO."""

    camera: str
    """darktable's name for it."""
    iso: float
    a: float
    """Of green, positive; variance per unit of signal, in darktable's measure."""
    b: float
    """Of green, positive; variance at zero signal, likewise."""

    def noise(self, factor: float = USUAL) -> NoiseProfile:
        """Of a mosaic, whose variance is `factor` times darktable's; the usual one where nothing tells."""
        return NoiseProfile(factor * self.a, factor * self.b)

    def fitted(self, estimate: NoiseProfile, mosaic: NDArray[np.float32]) -> NoiseProfile:
        """Of one mosaic [H,W]: the factor that its own `estimate` asks for, within LEAST and MOST.

        Texture raises an estimate by more than that span; a picture of one brightness cannot tell shot from
        read. Either way the profile mends it.
        """
        light = np.maximum(np.percentile(mosaic[::7, ::7], (25, 50, 75)), 0)  # odd: every site has its turn
        asked = (estimate.shot * light + estimate.read) / (self.a * light + self.b)
        return self.noise(float(np.clip(np.exp(np.mean(np.log(asked))), LEAST, MOST)))


def find_profiles() -> Path | None:
    """The `noiseprofiles.json` of an installed darktable; None where there is none."""
    program = shutil.which("darktable")
    beside = [Path(program).resolve().parent / place for place in BESIDE_THE_PROGRAM] if program else []
    for folder in (*beside, *(Path(place).expanduser() for place in PLACES)):
        if (folder / _FILE).is_file():
            return folder / _FILE
    return None


def camera_profile(make: str, model: str, iso: float | None) -> CameraProfile | None:
    """The profile of a camera, named as its EXIF tags Make and Model do, at an ISO.

    None without darktable, for a camera or an ISO that it does not know, and for a profile whose a or b is
    not positive, as one in eight is: that fit says nothing of the read noise.
    """
    path = find_profiles()
    if path is None or iso is None or not make or not model:
        return None
    maker, model = _market_name(make, model, path)
    for known_maker, known_model, points in _read(path):
        if known_maker.casefold() in maker.casefold() and known_model.casefold() == model.casefold():
            return _at_iso(f"{known_maker} {known_model}", points, iso)
    return None


def named_profile(text: str) -> CameraProfile:
    """The profile that a person asked for: `CAMERA@ISO`, say "Nikon D5000@200".

    Raises ConfigError where darktable, the camera, the ISO or a positive a and b is missing.
    """
    name, _, number = text.rpartition("@")
    try:
        iso = float(number)
    except ValueError:
        raise ConfigError(f"noise {text!r}: {number!r} is not an ISO: expected CAMERA@ISO") from None
    path = find_profiles()
    if path is None:
        raise ConfigError(
            f"noise {text!r}: no installed darktable was found, which knows cameras: give SHOT,READ"
        )
    name = name.strip().casefold()
    wanted = {name, *(f"{maker} {model}".casefold() for maker, model in _names_in_other_markets(name, path))}
    cameras = {f"{maker} {model}": points for maker, model, points in _read(path)}
    for camera, points in cameras.items():
        if camera.casefold() in wanted:
            profile = _at_iso(camera, points, iso)
            if profile is None:
                sound = ", ".join(f"{point[0]:g}" for point in points if _at_iso(camera, points, point[0]))
                raise ConfigError(
                    f"noise {text!r}: darktable has no sound profile of the {camera} at ISO {iso:g}, only at "
                    f"{sound or 'none'}: give an ISO of these, or SHOT,READ"
                )
            return profile
    near = get_close_matches(name, [camera.casefold() for camera in cameras], n=1)
    meant = next((f", perhaps {camera!r}" for camera in cameras if camera.casefold() in near), "")
    raise ConfigError(f"noise {text!r}: darktable knows no such camera{meant}: give SHOT,READ")


def _at_iso(camera: str, points: list[Point], iso: float) -> CameraProfile | None:
    """Linear in ISO between the neighbours, as dt_noiseprofile_interpolate; None where that is no noise."""
    if not points or not points[0][0] <= iso <= points[-1][0]:
        return None
    isos, a, b = zip(*points, strict=True)
    found = CameraProfile(camera, iso, float(np.interp(iso, isos, a)), float(np.interp(iso, isos, b)))
    return found if 0 < found.a < 1 / MOST and 0 < found.b < 1 / MOST else None


@lru_cache(maxsize=1)
def _read(path: Path) -> list[tuple[str, str, list[Point]]]:
    """Maker, model and points in order of ISO: of several at one ISO the first, none that is to be skipped.

    A file that darktable itself would refuse is reported once and counts as empty.
    """
    try:
        return list(_cameras(json.loads(path.read_text("utf-8"))))
    except (OSError, ValueError, LookupError, TypeError) as error:
        log.warning("%s: not darktable's noise profiles as known here (%s); not used", path, error)
        return []


def _cameras(content: Any) -> Iterator[tuple[str, str, list[Point]]]:
    if content["version"] != 0:
        raise ValueError(f"version {content['version']}, expected 0")
    for maker in content["noiseprofiles"]:
        for model in maker["models"]:
            points: dict[float, Point] = {}
            for entry in model["profiles"]:
                if not entry.get("skip"):
                    (_, a, _), (_, b, _) = entry["a"], entry["b"]  # red, green, blue
                    iso = float(entry["iso"])
                    points.setdefault(iso, (iso, float(a), float(b)))
            yield str(maker["maker"]), str(model["model"]), sorted(points.values())


def _market_name(make: str, model: str, profiles: Path) -> tuple[str, str]:
    """darktable's maker and model for EXIF's; without an entry, as its profiling tool names a camera."""
    found = _markets(profiles.parent / "rawspeed" / "cameras.xml").get((make.casefold(), model.casefold()))
    if found is not None:
        return found
    first, _, rest = model.partition(" ")
    stripped = first.casefold() == make.split(" ")[0].casefold() or first == "PENTAX"
    return (first if first in ("PENTAX", "RICOH") else make), (rest if stripped else model)


def _names_in_other_markets(name: str, profiles: Path) -> list[tuple[str, str]]:
    markets = _markets(profiles.parent / "rawspeed" / "cameras.xml")
    return [to for (make, model), to in markets.items() if name in (model, f"{make} {model}")]


@lru_cache(maxsize=1)
def _markets(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """EXIF's Make and Model, case folded -> darktable's maker and model."""
    names: dict[tuple[str, str], tuple[str, str]] = {}
    try:
        cameras = ElementTree.parse(path).getroot().iter("Camera")
        for camera in cameras:
            make, model = camera.get("make", "").strip(), camera.get("model", "").strip()
            known = camera.find("ID")
            name = (make, model) if known is None else (known.get("make", make), known.get("model", model))
            for exif_model in (model, *(alias.text or "" for alias in camera.iter("Alias"))):
                names.setdefault((make.casefold(), exif_model.strip().casefold()), name)
    except (OSError, ElementTree.ParseError) as error:
        log.debug("%s: no names of cameras (%s)", path, error)
    return names
