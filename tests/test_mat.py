"""MATLAB files of both generations, SIDD's metadata, and .mat mosaics as input."""

from __future__ import annotations

import builtins
from pathlib import Path

import h5py
import numpy as np
import pytest
import sidd_layouts as sidd
from command_line import succeed

from sk_deploy import NoiseProfile, RawError, read_raw
from sk_deploy.mat import read_mat
from sk_deploy.sidd_metadata import PHONE_PHASES, metadata_path, read_sidd_metadata

SHARED = Path(__file__).parents[1].parent / "shared" / "data" / "noise" / "sidd_metadata"
WRITERS = {"hdf5": sidd.write_hdf5, "older": sidd.write_older}


@pytest.mark.parametrize("generation", WRITERS)
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 5)])
def test_both_generations_give_the_same_array(
    tmp_path: Path, generation: str, shape: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).random(shape, np.float32)
    path = WRITERS[generation](tmp_path / "a.mat", x=array, other=array * 2)
    for source in (path, path.read_bytes()):
        found = read_mat(source, "x", "a.mat")
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array)


def test_hdf5_without_matlabs_header_is_read_too(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["x"] = array.T
    np.testing.assert_array_equal(read_mat(tmp_path / "a.mat", "x"), array)


@pytest.mark.parametrize("generation", WRITERS)
def test_another_layout_is_one_line(tmp_path: Path, generation: str) -> None:
    path = WRITERS[generation](tmp_path / "a.mat", y=np.zeros((4, 4)), depth=np.zeros((2, 2)))
    with pytest.raises(RawError, match=r"^a\.mat: expected variable x, found depth, y: another layout\?$"):
        read_mat(path, "x")
    data = path.read_bytes()
    (tmp_path / "torn.mat").write_bytes(data[: len(data) // 2])
    with pytest.raises(RawError, match=r"^torn\.mat: [^\n]+$"):
        read_mat(tmp_path / "torn.mat", "y")
    (tmp_path / "text.mat").write_text("no array")
    with pytest.raises(RawError, match=r"^text\.mat: not a MATLAB file"):
        read_mat(tmp_path / "text.mat", "x")


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sidd.write_hdf5(tmp_path / "a.mat", x=np.zeros((4, 4)))
    real = builtins.__import__

    def without_h5py(name: str, *rest: object) -> object:
        if name == "h5py":
            raise ModuleNotFoundError("No module named 'h5py'", name="h5py")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(RawError, match=r"a\.mat: a MATLAB file needs h5py: pip install 'skdn\[search\]'"):
        read_mat(path, "x")


@pytest.mark.parametrize("phone", PHONE_PHASES)
def test_metadata_name_phase_noise_and_camera(tmp_path: Path, phone: str) -> None:
    path = sidd.write_older(tmp_path / "m.MAT", metadata=sidd.metadata(phone, (2e-3, 3e-6)))
    found = read_sidd_metadata(path)
    assert found.phase == PHONE_PHASES[phone]
    assert found.noise is not None
    assert (found.noise.shot, found.noise.read) == pytest.approx((2e-3, 3e-6))
    assert (found.capture.make, found.capture.model) == (sidd.MAKES[phone], f"Model {phone}")
    assert found.capture.iso == 100


def test_read_noise_is_never_less_than_rounding(tmp_path: Path) -> None:
    path = sidd.write_older(tmp_path / "m.MAT", metadata=sidd.metadata("S6", (4.8e-4, 0.0)))
    assert read_sidd_metadata(path).noise == NoiseProfile(4.8e-4, 1 / (1023 - 64) ** 2 / 12)
    path = sidd.write_older(tmp_path / "n.MAT", metadata=sidd.metadata("S6", None))
    assert read_sidd_metadata(path).noise is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"metadata": np.zeros((2, 2))}, "no struct"),
        ({"metadata": {"Make": "samsung"}}, "no CFAPattern"),
        ({"info": {"Make": "samsung"}}, "expected variable metadata, found info"),
    ],
)
def test_what_is_no_metadata_is_one_line(tmp_path: Path, content: dict, says: str) -> None:
    path = sidd.write_older(tmp_path / "m.MAT", **content)
    with pytest.raises(RawError, match=rf"^m\.MAT: .*{says}"):
        read_sidd_metadata(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="SIDD's own metadata files are not beside the repository")
@pytest.mark.parametrize(
    ("number", "phase", "model", "iso", "shot", "read"),
    [
        ("0001", "GRBG", "samsung SM-G925I", 100, 4.794565e-4, 1 / 1023**2 / 12),
        ("0093", "RGGB", "Apple iPhone 7", 1250, 6.916438e-4, 3.258116e-6),
        ("0095", "BGGR", "motorola Nexus 6", 400, 1.759924e-3, 1.301405e-5),
    ],
)
def test_metadata_as_published(
    number: str, phase: str, model: str, iso: int, shot: float, read: float
) -> None:
    found = read_sidd_metadata(SHARED / f"{number}_METADATA_RAW_010.MAT")
    assert (found.phase, found.camera, found.capture.iso) == (phase, model, iso)
    assert found.noise is not None
    assert (found.noise.shot, found.noise.read) == pytest.approx((shot, read), rel=1e-6)


@pytest.mark.parametrize("hdf5", [True, False])
def test_a_mosaic_takes_phase_and_noise_from_the_metadata_beside_it(tmp_path: Path, hdf5: bool) -> None:
    folder = sidd.write_scene(tmp_path, 7, "S6", shape=(40, 62), hdf5=hdf5)
    clean, noisy = sidd.mosaic_pair((40, 62), "GRBG", seed=17)
    raw = read_raw(folder / "0007_NOISY_RAW_010.MAT")
    np.testing.assert_array_equal(raw.mosaic, noisy)
    assert (raw.phase, raw.camera, raw.iso) == ("GRBG", "samsung Model S6", 100)
    assert raw.noise is not None
    assert (raw.noise.shot, raw.noise.read) == pytest.approx((1e-3, 1e-5))
    truth = read_raw(folder / "0007_GT_RAW_010.MAT")
    np.testing.assert_array_equal(truth.mosaic, clean)
    assert (truth.phase, truth.noise) == ("GRBG", None)
    # The colours lie where the phase says: red is dark in these mosaics, blue is bright.
    assert truth.mosaic[0::2, 1::2].max() < 0.25
    assert truth.mosaic[1::2, 0::2].min() > 0.75
    with pytest.raises(RawError, match="its mosaic is GRBG, not RGGB"):
        read_raw(folder / "0007_NOISY_RAW_010.MAT", "RGGB")


def test_a_mosaic_alone_needs_its_pattern(tmp_path: Path) -> None:
    path = sidd.write_hdf5(tmp_path / "shot.mat", x=np.full((30, 20), 0.25, np.float32))
    assert metadata_path(path) is None
    with pytest.raises(RawError, match="does not name its phase"):
        read_raw(path)
    raw = read_raw(path, "BGGR")
    assert raw.mosaic.shape == (30, 20)
    assert (raw.phase, raw.noise, raw.mosaic[0, 0]) == ("BGGR", None, 0.25)
    sidd.write_hdf5(path, x=np.full((30, 20), 900.0))
    with pytest.raises(RawError, match=r"shot\.mat: floats from 900 to 900"):
        read_raw(path, "BGGR")


def test_denoise_takes_a_mat_mosaic(tmp_path: Path) -> None:
    _, noisy = sidd.mosaic_pair((64, 80), "GBRG", seed=1)
    sidd.write_hdf5(tmp_path / "shot.mat", x=noisy)
    succeed("denoise", tmp_path / "shot.mat", "--pattern", "GBRG", "--provider", "cpu")
    denoised = read_raw(tmp_path / "shot_denoised.dng")
    clean, _ = sidd.mosaic_pair((64, 80), "GBRG", seed=1)
    assert denoised.phase == "GBRG"
    assert np.mean((denoised.mosaic - clean) ** 2) < 0.1 * np.mean((noisy - clean) ** 2)
