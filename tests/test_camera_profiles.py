"""Noise levels from an installed darktable: a small one that the tests write, and the real one if there."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models as models
import pytest
from command_line import invoke, succeed
from numpy.typing import NDArray

from sk_deploy import camera_profiles
from sk_deploy.batch import Options, Result, denoise_files
from sk_deploy.camera_profiles import (
    LEAST,
    MOST,
    USUAL,
    CameraProfile,
    camera_profile,
    find_profiles,
    named_profile,
)
from sk_deploy.denoiser import Denoiser
from sk_deploy.dng import write_dng
from sk_deploy.errors import ConfigError
from sk_deploy.inputs import find_jobs
from sk_deploy.noise import NoiseProfile, estimate_noise
from sk_deploy.raw import read_raw
from sk_deploy.raw_image import Capture

MARKETS = """<?xml version="1.0" encoding="UTF-8" ?>
<!DOCTYPE Cameras [ <!ELEMENT Cameras ( Camera+ ) > ]>
<Cameras>
  <Camera make="NIKON CORPORATION" model="NIKON D5000" mode="12bit">
    <ID make="Nikon" model="D5000">Nikon D5000</ID></Camera>
  <Camera make="Canon" model="Canon EOS 500D"><ID make="Canon" model="EOS 500D">Canon EOS 500D</ID>
    <Aliases><Alias id="EOS Rebel T1i">Canon EOS REBEL T1i</Alias></Aliases></Camera>
  <Camera make="Panasonic" model="DC-G9"/>
</Cameras>
"""


def entry(iso: float, a: float, b: float, **more: Any) -> dict[str, Any]:
    """One ISO; red and blue differ, as in the real file, and must not be taken."""
    return {"name": f"iso {iso}", "iso": iso, "a": [3 * a, a, 2 * a], "b": [-b, b, 5 * b], **more}


D5000 = [
    entry(200, 9.0, 9.0, skip=True),
    entry(400, 8e-6, 2e-7),
    entry(100, 2e-6, -1e-7),
    entry(200, 4e-6, 1e-7),
    entry(200, 5e-6, 5e-7),
]
"""Out of order, with an entry to be skipped, a second one at an ISO and one that is no noise."""


def profiles() -> dict[str, Any]:
    cameras = {
        "Nikon": {"D5000": D5000},
        "Canon": {"EOS 500D": [entry(100, 1e-6, 1e-9)], "EOS R6": [entry(100, 3e-6, 1e-9)]},
        "Ricoh": {"K-1": [entry(100, 1e-6, 1e-9)]},
        "Pentax": {"K-3": [entry(100, 2e-6, 1e-9)]},
    }
    makers = [
        {"maker": maker, "models": [{"model": model, "profiles": found} for model, found in known.items()]}
        for maker, known in cameras.items()
    ]
    return {"version": 0, "noiseprofiles": makers}


@pytest.fixture
def darktable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of a darktable that is the only one installed."""
    folder = tmp_path / "share with späces" / "darktable"
    (folder / "rawspeed").mkdir(parents=True)
    (folder / "noiseprofiles.json").write_text(json.dumps(profiles()))
    (folder / "rawspeed" / "cameras.xml").write_text(MARKETS)
    monkeypatch.setattr(camera_profiles, "PLACES", (str(tmp_path / "elsewhere"), str(folder)))
    monkeypatch.setattr(shutil, "which", lambda program: None)
    return folder


@pytest.mark.parametrize(
    ("make", "model", "a"),
    [
        ("NIKON CORPORATION", "NIKON D5000", 4e-6),
        ("Nikon", "d5000", 4e-6),
        ("Canon", "Canon EOS REBEL T1i", 1e-6),
        ("Canon", "Canon EOS R6", 3e-6),  # not in cameras.xml
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-3", 2e-6),
        ("NIKON CORPORATION", "NIKON D500", None),
        ("Panasonic", "DC-G9", None),
        ("Canon", "NIKON D5000", None),
        ("", "", None),
    ],
)
def test_a_camera_is_known_by_any_of_its_names(
    darktable: Path, make: str, model: str, a: float | None
) -> None:
    found = camera_profile(make, model, 200 if "5000" in model else 100)
    assert (found and found.a) == a


@pytest.mark.parametrize(
    ("iso", "expected"),
    [
        (200, (4e-6, 1e-7)),
        (250, (5e-6, 1.25e-7)),
        (400, (8e-6, 2e-7)),
        (180, (3.6e-6, 6e-8)),
        (100, None),  # b is negative
        (150, None),  # b is 0 there
        (99, None),
        (401, None),
        (None, None),
    ],
)
def test_isos_are_interpolated_and_never_extrapolated(
    darktable: Path, iso: float | None, expected: tuple[float, float] | None
) -> None:
    found = camera_profile("NIKON CORPORATION", "NIKON D5000", iso)
    assert (None if found is None else (found.a, found.b)) == (expected and pytest.approx(expected))


def test_without_darktable_there_are_none(darktable: Path) -> None:
    (darktable / "noiseprofiles.json").unlink()
    assert find_profiles() is None
    assert camera_profile("NIKON CORPORATION", "NIKON D5000", 200) is None
    with pytest.raises(ConfigError, match="no installed darktable was found"):
        named_profile("Nikon D5000@200")


def test_the_program_on_the_path_tells_where_its_data_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_profiles, "PLACES", ())
    program = tmp_path / "prefix" / "bin" / "darktable"
    data = tmp_path / "prefix" / "share" / "darktable" / "noiseprofiles.json"
    for path in (program, data):
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "link").symlink_to(program)
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "link"))
    found = find_profiles()
    assert found is not None
    assert found.resolve() == data


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({**profiles(), "version": 1}),
        json.dumps({"version": 0, "noiseprofiles": [{"maker": "Nikon"}]}),
        json.dumps(profiles()).replace("4e-06", '"x"'),
        json.dumps(profiles()).replace("[3e-06, 1e-06, 2e-06]", "[1e-06]"),
    ],
)
def test_a_damaged_file_is_named_and_not_used(
    darktable: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (darktable / "noiseprofiles.json").write_text(content)
    assert camera_profile("NIKON CORPORATION", "NIKON D5000", 200) is None
    assert "noiseprofiles.json: not darktable's noise profiles as known here" in caplog.text


def test_without_names_of_other_markets_the_plain_ones_still_match(darktable: Path) -> None:
    (darktable / "rawspeed" / "cameras.xml").write_text("<Cameras>")
    assert camera_profile("NIKON CORPORATION", "NIKON D5000", 200) is not None
    assert camera_profile("Canon", "Canon EOS REBEL T1i", 100) is None


@pytest.mark.parametrize(
    "name", ["Nikon D5000@200", "NIKON D5000@200", " nikon corporation nikon d5000 @200.0"]
)
def test_a_person_may_name_a_camera(darktable: Path, name: str) -> None:
    assert named_profile(name) == CameraProfile("Nikon D5000", 200, 4e-6, 1e-7)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nikon D5000@auto", "'auto' is not an ISO: expected CAMERA@ISO"),
        ("Nikon D500@200", "knows no such camera, perhaps 'Nikon D5000'"),
        ("Leica M9@200", "knows no such camera: give SHOT,READ"),
        ("Nikon D5000@100", "no sound profile of the Nikon D5000 at ISO 100"),
        ("Nikon D5000@6400", "only at 200, 400: give an ISO of these"),
    ],
)
def test_a_name_that_says_nothing_is_refused(darktable: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named_profile(name)


LIGHT = np.linspace(0.02, 0.6, 256, dtype=np.float32) * np.ones((256, 1), np.float32)
PROFILE = CameraProfile("Nikon D5000", 200, 4e-6, 1e-7)


@pytest.mark.parametrize(("asked", "factor"), [(12, 12), (8.7, 8.7), (100, MOST), (0.1, LEAST)])
def test_the_picture_tells_the_factor_within_its_span(asked: float, factor: float) -> None:
    fitted = PROFILE.fitted(PROFILE.noise(asked / USUAL * USUAL), LIGHT)
    assert (fitted.shot, fitted.read) == pytest.approx((factor * PROFILE.a, factor * PROFILE.b))


def test_a_picture_of_one_brightness_still_gets_shot_and_read_apart() -> None:
    """Its own estimate is one variance; the profile says how it splits."""
    truth = PROFILE.noise(10)
    light = np.full((256, 256), 0.2)
    rng = np.random.default_rng(1)
    noisy = light + rng.standard_normal(light.shape) * np.sqrt(truth.shot * light + truth.read)
    mosaic = noisy.astype(np.float32)
    fitted = PROFILE.fitted(estimate_noise(mosaic), mosaic)
    assert (fitted.shot, fitted.read) == pytest.approx((truth.shot, truth.read), rel=0.08)


def write_shot(path: Path, noise: NoiseProfile | None = None) -> NDArray[np.float32]:
    """A DNG of a Nikon D5000 at ISO 200 whose noise is ten times what the profile says."""
    rng = np.random.default_rng(0)
    noisy = LIGHT + rng.standard_normal(LIGHT.shape) * np.sqrt(4e-5 * LIGHT + 1e-6)
    np.save(path.with_suffix(".npy"), np.clip(np.round(noisy * 65535), 0, 65535).astype(np.uint16))
    raw = read_raw(path.with_suffix(".npy"), "GRBG")
    raw = replace(raw, capture=Capture(make="NIKON CORPORATION", model="NIKON D5000", iso=200))
    write_dng(raw, raw.mosaic, path, noise=noise, software="test")
    path.with_suffix(".npy").unlink()
    return raw.mosaic


def denoise(folder: Path, **options: Any) -> Result:
    denoiser = Denoiser.from_file(models.noise_adder(folder / "model.onnx"), "cpu")
    (result,) = denoise_files(denoiser, find_jobs([folder / "shot.dng"]), Options(force=True, **options))
    return result


def test_the_order_of_sources(darktable: Path, tmp_path: Path) -> None:
    mosaic = write_shot(tmp_path / "shot.dng")
    result = denoise(tmp_path)
    assert (result.status, result.noise_source) == ("done", "camera profile")
    assert result.noise is not None
    assert (result.noise.shot, result.noise.read) == pytest.approx((4e-5, 1e-6), rel=0.06)
    given = NoiseProfile(1e-2, 1e-3)
    assert denoise(tmp_path, noise=given).noise_source == "given"
    write_shot(tmp_path / "shot.dng", noise=given)
    assert (denoise(tmp_path).noise_source, denoise(tmp_path).noise) == ("file", given)
    write_shot(tmp_path / "shot.dng")
    (darktable / "noiseprofiles.json").unlink()
    result = denoise(tmp_path)
    assert (result.noise_source, result.noise) == ("estimate", estimate_noise(mosaic))


def test_the_command_line_says_where_the_level_is_from(darktable: Path, tmp_path: Path) -> None:
    write_shot(tmp_path / "shot.dng")
    model = models.noise_adder(tmp_path / "model.onnx")
    told = invoke("denoise", tmp_path / "shot.dng", "--model", model, "--provider", "cpu", "--force")
    assert "from darktable's profile of the camera" in told.output


def test_a_package_for_darktable_may_be_for_a_camera(darktable: Path, tmp_path: Path) -> None:
    model = models.noise_adder(tmp_path / "model.onnx")
    words = ["export", model, tmp_path / "model.dtmodel", "--noise"]
    succeed(*words, "Nikon D5000@400")
    with zipfile.ZipFile(tmp_path / "model.dtmodel") as package:
        (config,) = (name for name in package.namelist() if name.endswith("config.json"))
        description = json.loads(package.read(config))["description"]
    assert f"noise shot {USUAL * 8e-6:g}, read {USUAL * 2e-7:g}" in description
    refused = invoke(*words, "Nikon D5001@400")
    assert refused.exit_code == 2
    assert "perhaps 'Nikon D5000'" in " ".join(refused.output.split())


INSTALLED = find_profiles()
D5000_FILES = Path(__file__).parents[1].parent / "shared" / "data" / "raw"


@pytest.mark.skipif(INSTALLED is None, reason="no darktable is installed")
@pytest.mark.skipif(not D5000_FILES.is_dir(), reason="the D5000 file is not beside the checkout")
def test_a_real_camera_agrees_with_its_real_profile() -> None:
    """ISO 200 of a Nikon D5000: within 10 % of the standard deviation that is measured in the file."""
    (path,) = D5000_FILES.glob("nikon_d5000_*.dng")
    raw = read_raw(path)
    profile = camera_profile(raw.capture.make, raw.capture.model, raw.capture.iso)
    assert profile is not None
    estimate = estimate_noise(raw.mosaic)
    fitted = profile.fitted(estimate, raw.mosaic)
    for light in (0.02, 0.1, 0.5):
        ratio = (fitted.shot * light + fitted.read) / (estimate.shot * light + estimate.read)
        assert np.sqrt(ratio) == pytest.approx(1, abs=0.1)
