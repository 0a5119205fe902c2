"""Training sources: what is recognised, what is read, how it is split; and one line for everything else."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sidd_layouts as sidd
import torch

from sk_deploy.dng import write_dng
from sk_deploy.errors import ConfigError, RawError, SkdnError
from sk_deploy.noise import NoiseProfile, estimate_noise
from sk_deploy.raw import read_raw
from sk_search.batches import CleanBatches, MixedBatches, PairBatches, SceneBatches
from sk_search.config import MosaicConfig, RunConfig
from sk_search.data import load_data, validation_set
from sk_search.mosaics import pack
from sk_search.presets import tiny
from sk_search.raw_folders import find_pairs, read_both
from sk_search.sidd import find_frames, read_calibration, read_pair
from sk_search.sources import recognise

CPU = torch.device("cpu")


def config(*sources: str | Path, two_level: bool = False) -> RunConfig:
    base = tiny()
    return replace(
        base,
        data=tuple(str(source) for source in sources),
        scenes=20,
        mosaic=MosaicConfig(patch_px=32),
        structure=replace(base.structure, two_level=two_level),
    )


def write_pairs(folder: Path, count: int = 4, phase: str = "GBRG") -> Path:
    for half in ("noisy", "clean"):
        (folder / half).mkdir(parents=True)
    for i in range(count):
        clean, noisy = sidd.mosaic_pair((60, 70), phase, seed=i)
        np.save(folder / "noisy" / f"shot{i}_{phase}.npy", noisy)
        np.save(folder / "clean" / f"shot{i}.npy", clean)
    return folder


def assert_aligned(clean: torch.Tensor) -> None:
    """Red is dark in these mosaics, blue is bright: true of every sample, in whatever way it was turned."""
    planes = pack(clean)
    assert planes[:, 0].max() < 0.25
    assert planes[:, 3].min() > 0.75
    assert 0.4 < planes[:, 1:3].min() < planes[:, 1:3].max() < 0.6


# -- recognising ------------------------------------------------------------------------------------------


def test_kinds_are_told_from_the_path(tmp_path: Path) -> None:
    sidd.write_scene(tmp_path / "sidd" / "Data", 1, "GP", shape=(40, 40))
    sidd.write_scene(tmp_path / "flat", 1, "GP", shape=(40, 40))
    write_pairs(tmp_path / "pairs")
    for name, file in (
        ("photos", "a.JPG"),
        ("raws", "a.NEF"),
        ("mosaics", "a_RGGB.npy"),
        ("blocks", "BenchmarkNoisyBlocksRaw.mat"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / "raws" / "a.jpg").touch()  # a camera's own picture beside its raw
    (tmp_path / "alone" / "clean").mkdir(parents=True)
    kinds = {
        "sidd": "sidd",
        "flat": "sidd",
        "pairs": "pairs",
        "photos": "photographs",
        "raws": "clean",
        "mosaics": "clean",
        "alone": "clean",
        "blocks": "blocks",
    }
    assert {name: recognise(str(tmp_path / name)) for name in kinds} == kinds
    assert recognise("dead-leaves") == "dead-leaves"


def test_what_is_no_source_is_told_what_is(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="nowhere is not a folder: expected one with photographs, raws or SIDD"
    ):
        load_data(config(tmp_path / "nowhere"), CPU)
    (tmp_path / "noisy").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_data(config(tmp_path), CPU)
    for accepted in ("photographs", "raws", "noisy/ and clean/", "SIDD scenes", "SIDD blocks", "dead-leaves"):
        assert accepted in str(caught.value)
    (tmp_path / "ValidationNoisyBlocksRaw.mat").touch()
    with pytest.raises(ConfigError, match="skdn eval"):
        load_data(config(tmp_path), CPU)


# -- SIDD -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hdf5", [True, False])
def test_a_sidd_pair_as_it_was_written(tmp_path: Path, hdf5: bool) -> None:
    sidd.write_scene(tmp_path / "Data", 3, "S6", shape=(48, 70), frames=2, hdf5=hdf5)
    first, second = find_frames(tmp_path)
    assert (first.scene, first.phone) == (sidd.scene_name(3, "S6"), "S6")
    assert second.noisy.name == "0003_NOISY_RAW_011.MAT"
    pair = read_pair(first, {})
    clean, noisy = sidd.mosaic_pair((48, 70), "GRBG", seed=13)
    np.testing.assert_array_equal(pair.clean, clean)
    np.testing.assert_array_equal(pair.noisy, noisy)
    assert (pair.phase, pair.noise_source) == ("GRBG", "metadata")
    assert (pair.noise.shot, pair.noise.read) == pytest.approx((1e-3, 1e-5))


def test_the_calibration_goes_before_the_metadata(tmp_path: Path) -> None:
    folder = sidd.write_scene(tmp_path / "Data", 3, "IP", shape=(48, 70))
    (tmp_path / "noise_level_functions.csv").write_text(
        "scene_instance_id,beta1_r,beta2_r,beta1_g,beta2_g,beta1_b,beta2_b\n"
        f"{folder.name},0.001,1e-5,0.002,2e-5,0.003,-9e-5\n\n"
    )
    for root in (tmp_path, tmp_path / "Data"):
        calibration = read_calibration(root)
        pair = read_pair(find_frames(root)[0], calibration)
        assert pair.noise_source == "calibration"
        assert pair.noise == NoiseProfile(0.002, 1 / 1023**2 / 12)  # a fitted line below zero
    (tmp_path / "noise_level_functions.csv").write_text("id,r\n0003,high\n")
    with pytest.raises(ConfigError, match=r"noise_level_functions\.csv: high is no noise level"):
        read_calibration(tmp_path)


def test_without_metadata_the_phone_tells_the_phase_and_the_noise_is_estimated(tmp_path: Path) -> None:
    folder = sidd.write_scene(tmp_path, 5, "S6", shape=(200, 240))
    (folder / "0005_METADATA_RAW_010.MAT").unlink()
    pair = read_pair(find_frames(tmp_path)[0], {})
    assert (pair.phase, pair.noise_source) == ("GRBG", "estimate")
    assert pair.noise == estimate_noise(pair.noisy)


def test_the_metadatas_phase_goes_before_the_phones(tmp_path: Path) -> None:
    folder = sidd.write_scene(tmp_path, 5, "S6", shape=(48, 70))
    sidd.write_older(folder / "0005_METADATA_RAW_010.MAT", metadata=sidd.metadata("IP"))
    assert read_pair(find_frames(tmp_path)[0], {}).phase == "RGGB"


def test_sidd_is_split_by_scene_and_phone(tmp_path: Path) -> None:
    sidd.write_sidd(tmp_path, phones="GP S6", each=10, shape=(36, 40), frames=2)
    data = load_data(config(tmp_path, two_level=True), CPU)
    sizes = []
    for part in (data.train, data.structure, data.validation):
        assert isinstance(part, PairBatches)
        sizes.append(len(part.levels))
    assert sizes == [18, 18, 4]  # of 40 frames: two scenes to validate on, one of each phone
    assert load_data(config(tmp_path), CPU).structure is None
    assert_aligned(data.train.sample(64, torch.Generator().manual_seed(0))[0])


def test_no_scene_is_in_two_parts(tmp_path: Path) -> None:
    """The mosaics of a scene have a brightness of their own."""
    values = {}
    for i, phone in enumerate(["GP", "N6"] * 8):
        folder = sidd.write_scene(tmp_path, i + 1, phone, shape=(36, 36))
        values[i] = 0.2 + i / 40
        for file in folder.glob("*_RAW_010.MAT"):
            if "METADATA" not in file.name:
                sidd.write_hdf5(file, x=np.full((36, 36), values[i], np.float32))
    data = load_data(config(tmp_path, two_level=True), CPU)
    seen = []
    for part in (data.train, data.structure, data.validation):
        assert part is not None
        clean, _, _ = part.sample(400, torch.Generator().manual_seed(0))
        seen.append({round((value - 0.2) * 40) for value in clean[:, 0, 0, 0].tolist()})
    assert not seen[0] & seen[1]
    assert not (seen[0] | seen[1]) & seen[2]
    assert seen[0] | seen[1] | seen[2] == set(values)


def test_the_validation_pairs_are_those_of_every_run(tmp_path: Path) -> None:
    sidd.write_sidd(tmp_path, phones="IP", each=4, shape=(48, 48))
    one, other = (
        validation_set(load_data(replace(config(tmp_path), seed=seed), CPU).validation, 6) for seed in (0, 5)
    )
    assert all(torch.equal(getattr(one, x), getattr(other, x)) for x in ("clean", "noisy", "levels"))
    assert one.clean.shape == (6, 1, 32, 32)
    torch.testing.assert_close(one.levels, torch.tensor([[1e-3, 1e-5]]).expand(6, -1))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("0001_NOISY_RAW_010.MAT", {"y": np.zeros((36, 40))}, "expected variable x, found y"),
        ("0001_GT_RAW_010.MAT", {"x": np.zeros((40, 36), np.float32)}, r"\(36, 40\), but its ground truth"),
        ("0001_GT_RAW_010.MAT", {"x": np.zeros((3, 36, 40))}, r"3×36×40 of float64, expected a mosaic"),
        (
            "0001_NOISY_RAW_010.MAT",
            {"x": np.full((36, 40), 700.0)},
            r"expected a mosaic of floats in \[0,1\]",
        ),
        ("0001_METADATA_RAW_010.MAT", {"x": np.zeros((2, 2))}, "expected variable metadata, found x"),
    ],
)
def test_a_sidd_file_of_another_layout_is_one_line(
    tmp_path: Path, name: str, content: dict, says: str
) -> None:
    sidd.write_sidd(tmp_path, phones="GP", each=3, shape=(36, 40))
    sidd.write_hdf5(tmp_path / "Data" / sidd.scene_name(1, "GP") / name, **content)
    with pytest.raises(SkdnError, match=says) as caught:
        load_data(config(tmp_path), CPU)
    assert "\n" not in str(caught.value)


def test_incomplete_downloads_are_left_out_or_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sidd.write_sidd(tmp_path, phones="GP", each=3, shape=(36, 40))
    (tmp_path / "Data" / sidd.scene_name(2, "GP") / "0002_GT_RAW_010.MAT").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(find_frames(tmp_path)) == 2
    assert "0002_GT_RAW_010.MAT" in caplog.text
    for path in tmp_path.rglob("*_GT_*"):
        path.unlink()
    with pytest.raises(ConfigError, match="no pair of NNNN_NOISY_RAW_010"):
        load_data(config(tmp_path), CPU)


# -- folders of raws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["RGGB", "GBRG"])
def test_pairs_take_the_phase_of_the_half_that_knows_it(tmp_path: Path, phase: str) -> None:
    data = load_data(config(write_pairs(tmp_path, phase=phase)), CPU)
    assert isinstance(data.train, PairBatches)
    clean, noisy, levels = data.train.sample(48, torch.Generator().manual_seed(0))
    assert_aligned(clean)
    residual = (noisy - clean).square().mean()
    assert residual.item() == pytest.approx(1e-3 * clean.mean().item() + 1e-5, rel=0.15)
    assert len(levels.unique(dim=0)) == 3  # of four shots, one validates


def test_a_pair_may_be_a_dng_and_an_array_in_the_folder_of_its_scene(tmp_path: Path) -> None:
    clean, noisy = sidd.mosaic_pair((60, 70), "GBRG", seed=1)
    for half in ("noisy", "clean"):
        (tmp_path / half / "street").mkdir(parents=True)
    np.save(tmp_path / "a_GBRG.npy", noisy)
    raw = read_raw(tmp_path / "a_GBRG.npy", "GBRG")
    profile = NoiseProfile(2e-3, 3e-5)
    write_dng(raw, raw.mosaic, tmp_path / "noisy/street/a.dng", noise=profile, strength=0.0, software="test")
    np.save(tmp_path / "clean/street/a.npy", clean)
    (pair,) = find_pairs(tmp_path)
    assert pair.scene == "street"
    found, truth = read_both(pair)
    np.testing.assert_array_equal(truth.mosaic, clean)
    np.testing.assert_allclose(found.mosaic, noisy, atol=1e-4)
    assert found.phase == truth.phase == "GBRG"
    assert found.noise is not None
    assert found.noise.shot == pytest.approx(2e-3)


def test_pairs_that_do_not_match_are_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path)
    np.save(tmp_path / "noisy" / "lonely_RGGB.npy", np.zeros((20, 20), np.float32))
    with caplog.at_level(logging.WARNING):
        assert len(find_pairs(tmp_path)) == 4
    assert "lonely_RGGB.npy" in caplog.text
    np.save(tmp_path / "clean" / "shot1.npy", np.zeros((60, 68), np.float32))
    with pytest.raises(
        RawError, match=r"70×60 GBRG, but .*shot1\.npy is 68×60 GBRG: expected the same sites"
    ):
        load_data(config(tmp_path), CPU)
    (tmp_path / "clean" / "shot1.tif").touch()
    with pytest.raises(ConfigError, match=r"shot1\.tif and shot1\.npy have one name"):
        load_data(config(tmp_path), CPU)
    (tmp_path / "clean" / "shot1.tif").unlink()
    (tmp_path / "clean" / "shot1.npy").unlink()
    (tmp_path / "noisy" / "shot2_GBRG.npy").rename(tmp_path / "noisy" / "shot2.npy")
    with pytest.raises(RawError, match=r"plain mosaic of unknown phase: name the file shot2_GBRG\.npy"):
        load_data(config(tmp_path), CPU)


@pytest.mark.parametrize("inside", ["", "clean"])
def test_clean_raws_get_synthetic_noise(
    tmp_path: Path, inside: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / inside
    folder.mkdir(exist_ok=True)
    for i, phase in enumerate(("RGGB", "GRBG", "BGGR")):
        np.save(folder / f"shot{i}_{phase}.npy", sidd.mosaic_pair((60, 70), phase, seed=i)[0])
    (folder / "torn.dng").write_bytes(b"II*\0")
    with caplog.at_level(logging.WARNING):
        data = load_data(config(tmp_path), CPU)
    assert "torn.dng" in caplog.text
    assert isinstance(data.train, CleanBatches)
    clean, noisy, levels = data.train.sample(32, torch.Generator().manual_seed(0))
    assert_aligned(clean)
    assert not torch.equal(clean, noisy)
    assert len(levels.unique(dim=0)) == 32


def test_patches_larger_than_a_mosaic_are_refused(tmp_path: Path) -> None:
    wide = replace(config(write_pairs(tmp_path)), mosaic=MosaicConfig(patch_px=64))
    with pytest.raises(ConfigError, match="patches need 66 px a side"):
        load_data(wide, CPU)


# -- mixing -----------------------------------------------------------------------------------------------


def test_sources_of_several_kinds_share_every_batch(tmp_path: Path) -> None:
    sidd.write_sidd(tmp_path / "sidd", phones="GP", each=3, shape=(48, 48))
    pairs = write_pairs(tmp_path / "pairs")
    data = load_data(config(tmp_path / "sidd", "dead-leaves", pairs), CPU)
    assert isinstance(data.train, MixedBatches)
    scenes, recorded = data.train.parts
    assert isinstance(scenes, SceneBatches)
    assert isinstance(recorded, PairBatches)
    assert len(recorded.levels) == 2 + 3  # both folders, each less its held-out scene
    clean, _, _ = data.train.sample(8, torch.Generator().manual_seed(0))
    assert_aligned(clean[4:])  # half of the batch is recorded
    assert isinstance(data.validation, MixedBatches)


def test_a_source_of_one_scene_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pairs: cannot hold 1 of 1 scenes out: add scenes"):
        load_data(config(write_pairs(tmp_path / "pairs", count=1)), CPU)
