"""`skdn eval`: figures as computed directly, phases and levels that are right, files as SIDD takes them."""

from __future__ import annotations

import base64
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
import scipy.io
import sidd_layouts as sidd
from command_line import succeed
from numpy.typing import NDArray
from skdn_cli.main import main
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sk_deploy import Denoiser, estimate_noise
from sk_deploy.sidd_metadata import PHONE_PHASES
from sk_search.benchmark import ENSEMBLE, NOISY, SINGLE, benchmark
from sk_search.eval_set import open_eval_set
from sk_search.hold_out import hold_out
from sk_search.quality import psnr_db
from sk_search.sidd_blocks import SCENES, SIDDPLUS_VALID

PHONES = [scene.split("_")[2] for scene in SCENES]
SIDE = 32


def blocks(phases: list[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clean and noisy [frames,32,SIDE,SIDE]."""
    pairs = [
        [sidd.mosaic_pair((SIDE, SIDE), phase, seed=100 * f + b) for b in range(32)]
        for f, phase in enumerate(phases)
    ]
    clean, noisy = (np.array([[pair[i] for pair in frame] for frame in pairs]) for i in (0, 1))
    return clean, noisy


def write_sidd_blocks(folder: Path, frames: int = 2, *, hdf5: bool = False, secret: bool = False) -> tuple:
    """Validation or, without ground truth, benchmark blocks of the first frames; clean and noisy."""
    write = sidd.write_hdf5 if hdf5 else sidd.write_older
    clean, noisy = blocks([PHONE_PHASES[phone] for phone in PHONES[:frames]])
    if secret:
        write(folder / "BenchmarkNoisyBlocksRaw.mat", BenchmarkNoisyBlocksRaw=noisy)
    else:
        write(folder / "ValidationNoisyBlocksRaw.mat", ValidationNoisyBlocksRaw=noisy)
        write(folder / "ValidationGtBlocksRaw.mat", ValidationGtBlocksRaw=clean)
    return clean, noisy


def write_plus(folder: Path, part: str, phases: list[str], *, patterns: bool = True) -> tuple:
    """SIDD+ validation or test blocks; clean and noisy, [frames·32,SIDE,SIDE]."""
    clean, noisy = (array.reshape(-1, SIDE, SIDE) for array in blocks(phases))
    sidd.write_older(folder / f"siddplus_{part}_noisy_raw.mat", **{f"siddplus_{part}_noisy_raw": noisy})
    if part == "valid":
        sidd.write_older(folder / "siddplus_valid_gt_raw.mat", siddplus_valid_gt_raw=clean)
    if patterns:
        (folder / "siddplus_bayer_patterns.csv").write_text("".join(f"{phase}\n" for phase in phases))
    return clean, noisy


def direct(x: NDArray, clean: NDArray) -> tuple[float, float]:
    """PSNR and SSIM, by scikit-image."""
    x = x.clip(0, 1)
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    psnr = peak_signal_noise_ratio(clean.astype(np.float64), x.astype(np.float64), data_range=1.0)
    return psnr, structural_similarity(x, clean, data_range=1.0, **window)


def run(*words: object) -> str:
    return succeed("eval", *words)


# -- figures ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("network_alone")
@pytest.mark.parametrize("hdf5", [False, True])
def test_scores_are_those_of_a_direct_computation(tmp_path: Path, hdf5: bool) -> None:
    clean, noisy = write_sidd_blocks(tmp_path, hdf5=hdf5)
    model = models.convolutions(tmp_path / "m.onnx", seed=1)
    facts = json.loads(run(model, tmp_path, "--provider", "cpu", "--json"))
    denoise = Denoiser.from_file(model, "cpu")
    assert facts["pictures"] == 64
    assert [image["group"] for image in facts["images"]] == ["S6"] * 32 + ["GP"] * 32
    expected: dict[str, list] = {NOISY: [], SINGLE: [], ENSEMBLE: []}
    for index in range(64):
        f, b = divmod(index, 32)
        x, phase = noisy[f, b], PHONE_PHASES[PHONES[f]]
        outputs = {
            NOISY: x,
            SINGLE: denoise(x, None, phase),
            ENSEMBLE: denoise(x, None, phase, ensemble=True),
        }
        for column, output in outputs.items():
            expected[column].append(direct(output, clean[f, b]))
            score = facts["images"][index]["scores"][column]
            assert (score["psnr_db"], score["ssim"]) == pytest.approx(expected[column][-1], rel=1e-5)
    for column, values in expected.items():
        mean, first = facts["mean"][column], facts["groups"]["S6"][column]
        assert (mean["psnr_db"], mean["ssim"]) == pytest.approx(np.mean(values, 0), rel=1e-6)
        assert (first["psnr_db"], first["ssim"]) == pytest.approx(np.mean(values[:32], 0), rel=1e-6)


def test_psnr_clips_and_ends(tmp_path: Path) -> None:
    clean = np.ones((16, 16), np.float32)
    assert psnr_db(clean * 3, clean) == 120
    assert psnr_db(clean - 0.1, clean) == pytest.approx(20, abs=1e-5)


@pytest.mark.usefixtures("network_alone")
def test_every_block_is_denoised_at_its_own_phase(tmp_path: Path) -> None:
    """A model that blackens the red plane blackens the red sites of every phone."""
    clean, _ = write_sidd_blocks(tmp_path, frames=5)
    denoiser = Denoiser.from_file(models.plane_gains(tmp_path / "m.onnx", (0, 1, 1, 1)), "cpu")
    kept: list[NDArray] = []
    benchmark(denoiser, open_eval_set(str(tmp_path)), ensemble=False, keep=kept.append)
    assert {PHONE_PHASES[phone] for phone in PHONES[:5]} == {"GRBG", "BGGR", "RGGB"}
    for output, truth in zip(kept, clean.reshape(-1, SIDE, SIDE), strict=True):
        np.testing.assert_array_equal(output == 0, truth < 0.25)  # red is dark in these mosaics


@pytest.mark.usefixtures("network_alone")
def test_the_level_is_the_calibrations_or_that_of_all_blocks_of_a_frame(tmp_path: Path) -> None:
    _, noisy = write_sidd_blocks(tmp_path)
    levels = {picture.name.split(",")[0]: picture.noise for picture in open_eval_set(str(tmp_path)).pictures}
    assert levels == {SCENES[f]: estimate_noise(noisy[f].reshape(-1, SIDE)) for f in range(2)}
    rows = "".join(f"{SCENES[f]},.01,.02,.01,.02,.01,.02\n" for f in range(2))
    (tmp_path / "noise_level_functions.csv").write_text("id,r1,r2,g1,g2,b1,b2\n" + rows)
    model = models.noise_adder(tmp_path / "m.onnx")
    kept: list[NDArray] = []
    evaluation = benchmark(
        Denoiser.from_file(model, "cpu"), open_eval_set(str(tmp_path)), ensemble=False, keep=kept.append
    )
    assert evaluation.noise_sources() == {"calibration": 64}
    np.testing.assert_allclose(kept[0], noisy[0, 0] + 0.03, atol=1e-6)
    assert "calibration (64)" in run(model, tmp_path, "--provider", "cpu", "--no-ensemble")


def test_sidd_plus_takes_phases_and_levels_from_its_files(tmp_path: Path) -> None:
    phases = ["GRBG", "RGGB", "GBRG"]
    write_plus(tmp_path, "valid", phases)
    (tmp_path / "siddplus_valid_nlfs.csv").write_text(
        "beta1_r,beta2_r,beta1_g,beta2_g,beta1_b,beta2_b\n" + "1e-3,1e-5,1e-3,1e-5,1e-3,1e-5\n" * 3
    )
    pictures = list(open_eval_set(str(tmp_path)).pictures)
    assert [picture.phase for picture in pictures[::32]] == phases
    assert [picture.group for picture in pictures[31:33]] == ["frame 01", "frame 02"]
    noise = pictures[0].noise
    assert (noise.shot, noise.read) == pytest.approx((1e-3, 1e-5))
    (tmp_path / "siddplus_bayer_patterns.csv").unlink()
    assert {picture.phase for picture in open_eval_set(str(tmp_path)).pictures} == {"BGGR"}
    assert len(SIDDPLUS_VALID) == 32


def test_siddplus_test_blocks_need_their_phases(tmp_path: Path) -> None:
    write_plus(tmp_path, "test", ["RGGB"], patterns=False)
    with pytest.raises(Exception, match=r"needs siddplus_bayer_patterns\.csv beside it"):
        open_eval_set(str(tmp_path), secret=True)
    (tmp_path / "siddplus_bayer_patterns.csv").write_text("RYYB\n")
    with pytest.raises(Exception, match=r"expected the phase of 1 frames, a line each: RGGB, GRBG"):
        open_eval_set(str(tmp_path), secret=True)


def test_of_sidds_scenes_those_are_measured_that_training_holds_out(tmp_path: Path) -> None:
    sidd.write_sidd(tmp_path, phones="GP S6", each=10, shape=(40, 44), frames=2)
    names = [sidd.scene_name(i + 1, "GP" if i < 10 else "S6") for i in range(20)]
    held = {names[i] for i in hold_out(["GP"] * 10 + ["S6"] * 10, 0.1)}
    facts = json.loads(run(models.identity(tmp_path / "m.onnx"), tmp_path, "--json", "--no-ensemble"))
    assert facts["set"] == "SIDD, held-out scenes"
    assert {image["name"].split("/")[0] for image in facts["images"]} == held
    assert facts["pictures"] == 4
    assert facts["mean"][SINGLE] == facts["mean"][NOISY]
    assert ENSEMBLE not in facts["mean"]
    assert facts["noise_sources"] == {}  # a blind model


def test_pairs_and_the_table(tmp_path: Path) -> None:
    for half in ("noisy", "clean"):
        (tmp_path / "data" / half).mkdir(parents=True)
    for i in range(2):
        clean, noisy = sidd.mosaic_pair((70, 60), "GBRG", seed=i)
        np.save(tmp_path / "data" / "noisy" / f"shot{i}_GBRG.npy", noisy)
        np.save(tmp_path / "data" / "clean" / f"shot{i}.npy", clean)
    lines = run("small", tmp_path / "data", "--provider", "cpu").splitlines()
    assert lines[0].startswith("small on cpu: pairs in ")
    assert lines[0].endswith("2 pictures, 0.0 MP; noise level: estimate (2)")
    assert lines[1].split() == ["group", "n", "noisy", "denoised", "with", "self-ensemble"]
    assert [line.split()[:2] for line in lines[2:5]] == [["shot0", "1"], ["shot1", "1"], ["mean", "2"]]
    noisy_db, single_db, ensemble_db = (float(lines[4].split()[i]) for i in (2, 5, 8))
    assert noisy_db + 6 < single_db < ensemble_db
    assert lines[5].startswith("denoised ")
    assert "s/MP, with self-ensemble " in lines[5]


def test_measuring_needs_no_torch(tmp_path: Path) -> None:
    write_sidd_blocks(tmp_path, frames=1)
    words = ["eval", str(models.identity(tmp_path / "m.onnx")), str(tmp_path)]
    call = f"from skdn_cli.main import skdn; skdn({words!r}, standalone_mode=False)"
    code = f"import sys; {call}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    modules = set(done.stdout.split())
    assert "sk_search.benchmark" in modules
    assert "torch" not in modules


# -- submissions ------------------------------------------------------------------------------------------


def test_the_benchmarks_mat(tmp_path: Path) -> None:
    _, noisy = write_sidd_blocks(tmp_path, secret=True)
    model, out = models.identity(tmp_path / "m.onnx"), tmp_path / "SubmitRaw.mat"
    assert f"submission: {out}" in run(model, tmp_path, "--submission", out)
    content = scipy.io.loadmat(out)
    cells = content["DenoisedBlocksRaw"]
    assert (cells.shape, cells.dtype) == ((2, 32), object)
    assert cells[1, 5].dtype == np.float32
    for f in range(2):
        for b in range(32):
            np.testing.assert_allclose(cells[f, b], noisy[f, b], atol=1e-6)
    assert content["TimeMPRaw"].shape == (1, 1)
    assert content["TimeMPRaw"][0, 0] > 0
    assert content["OptionalData"]["MethodName"][0, 0][0] == "test"


def test_the_benchmarks_csv(tmp_path: Path) -> None:
    _, noisy = write_sidd_blocks(tmp_path, secret=True)
    out = tmp_path / "SubmitRaw.csv"
    run(models.identity(tmp_path / "m.onnx"), tmp_path, "--submission", out, "--no-ensemble")
    csv.field_size_limit(10**7)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ID"] for row in rows] == [str(i) for i in range(64)]
    block = np.frombuffer(base64.b64decode(rows[33]["BLOCK"]), np.float32).reshape(SIDE, SIDE)
    np.testing.assert_array_equal(block, noisy[1, 1])


def test_sidd_pluss_mat(tmp_path: Path) -> None:
    _, noisy = write_plus(tmp_path, "test", ["RGGB", "BGGR"])
    out = tmp_path / "results.mat"
    run(models.identity(tmp_path / "m.onnx"), tmp_path, "--submission", out, "--no-ensemble")
    results = scipy.io.loadmat(out)["results"]
    assert (results.shape, results.dtype) == ((64, SIDE, SIDE), np.float32)
    np.testing.assert_array_equal(results, noisy)


def test_the_secret_blocks_go_first_where_a_submission_is_asked_for(tmp_path: Path) -> None:
    write_sidd_blocks(tmp_path, frames=1)
    write_sidd_blocks(tmp_path, frames=1, secret=True)
    assert open_eval_set(str(tmp_path)).title == "SIDD validation blocks"
    assert open_eval_set(str(tmp_path), secret=True).title == "SIDD benchmark blocks"
    (tmp_path / "BenchmarkNoisyBlocksRaw.mat").unlink()
    facts = json.loads(
        run(models.identity(tmp_path / "m.onnx"), tmp_path, "--submission", tmp_path / "s.mat", "--json")
    )
    assert facts["mean"]  # what has its ground truth is scored besides
    assert (tmp_path / "s.mat").is_file()


# -- what cannot be done ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("secret", "wrong", "flat", "photos", "uneven"):
        (tmp_path / name).mkdir()
    write_sidd_blocks(tmp_path / "secret", frames=1, secret=True)
    sidd.write_older(tmp_path / "wrong" / "ValidationNoisyBlocksRaw.mat", blocks=np.zeros((1, 32, 16, 16)))
    sidd.write_older(
        tmp_path / "flat" / "ValidationNoisyBlocksRaw.mat", ValidationNoisyBlocksRaw=np.zeros((32, 16, 16))
    )
    for name in ("wrong", "flat"):
        (tmp_path / name / "ValidationGtBlocksRaw.mat").touch()
    write_sidd_blocks(tmp_path / "uneven", frames=1)
    sidd.write_older(
        tmp_path / "uneven" / "ValidationGtBlocksRaw.mat", ValidationGtBlocksRaw=np.zeros((1, 30, 32, 32))
    )
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "old.mat").write_text("mine")
    models.identity(tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("secret",), "--submission FILE writes"),
        (("secret", "--submission", "old.mat"), "old.mat exists: --force"),
        (("secret", "--submission", "s.txt"), "ends in .mat or .csv"),
        (("secret", "--submission", "nowhere/s.mat"), "nowhere is not a folder"),
        (("wrong",), "expected variable ValidationNoisyBlocksRaw, found blocks"),
        (("flat",), "[32,16,16] of float64, expected [40,32,256,256]"),
        (("uneven",), "[1,30,32,32], but its noisy blocks are [1,32,32,32]"),
        (("photos",), "nothing to compare with"),
        (("photos", "--submission", "s.mat"), "--submission is for SIDD"),
        (("absent",), "absent holds nothing to compare with"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: tuple, says: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["skdn", "eval", "m.onnx", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (1, "")
    assert err.count("\n") == 1
    assert says in err
    assert (folder / "old.mat").read_text() == "mine"


def test_force_overwrites_a_submission(folder: Path) -> None:
    run("m.onnx", "secret", "--submission", "old.mat", "--force", "--no-ensemble")
    assert "DenoisedBlocksRaw" in scipy.io.loadmat(folder / "old.mat")


# -- the whole way ----------------------------------------------------------------------------------------


def test_from_sidds_scenes_to_a_measured_model(tmp_path: Path) -> None:
    sidd.write_sidd(tmp_path / "sidd", phones="GP S6", each=4, shape=(140, 150))
    (tmp_path / "blocks").mkdir()
    write_sidd_blocks(tmp_path / "blocks", frames=1)
    found, model = tmp_path / "run", tmp_path / "model.onnx"
    for arguments in (
        ("search", "--preset", "tiny", "--steps", 4, "--data", tmp_path / "sidd", "--out", found),
        ("finetune", found, "--steps", 4),
        ("export", found, model),
    ):
        if arguments[0] == "finetune":
            succeed("distil", found)
        succeed(*arguments)
    facts = json.loads(run(model, tmp_path / "blocks", "--provider", "cpu", "--json"))
    assert facts["mean"][SINGLE]["psnr_db"] > 20
    assert facts["noise_sources"] == {"estimate": 32}
