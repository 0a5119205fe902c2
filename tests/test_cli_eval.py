"""`skdn eval --bench` and `--charts`: models in one table, figures as computed directly, no PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx_models as models
import pytest
from command_line import succeed
from skdn_cli.main import main

from sk_deploy import Denoiser
from sk_search.bench_set import LEVELS, photograph_bench
from sk_search.benchmark import NOISY
from sk_search.charts import CHART_LEVELS, CONTENTS
from sk_search.classical import nlm
from sk_search.quality import plane_bias, psnr_db, ssim

MCMASTER = Path(__file__).parents[1].parent / "shared" / "data" / "mcmaster"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and a folder of two photographs."""
    models.identity(tmp_path / "same.onnx", name="same")
    models.plane_gains(tmp_path / "dim.onnx", (0.9, 1, 1, 1), name="dim")
    (tmp_path / "photos").mkdir()
    for i in range(2):
        small = np.random.default_rng(i).random((8, 9, 3))
        photograph = cv2.resize(small, (120, 96), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), np.rint(255 * photograph))
    (tmp_path / "old.png").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: object) -> str:
    return succeed("eval", *words, "--provider", "cpu")


@pytest.mark.usefixtures("network_alone")
def test_figures_are_those_of_a_direct_computation(folder: Path) -> None:
    facts = json.loads(run("same.onnx", "dim.onnx", "--bench", "photos", "--json"))
    assert facts["providers"] == {"same": "cpu", "dim": "cpu"}
    bench = facts["bench"]
    columns = [NOISY, "NLM", "wavelet", "same", "same +ensemble", "dim", "dim +ensemble"]
    assert list(bench["s_per_mp"]) == columns[1:]
    assert list(bench["groups"]) == [
        f"{content}-{level}" for content in ("sharp", "soft") for level in LEVELS
    ]
    denoisers = {name: Denoiser.from_file(f"{name}.onnx", "cpu") for name in ("same", "dim")}
    expected: dict[str, list] = {}
    for image, picture in zip(bench["images"], photograph_bench(folder / "photos").pictures, strict=True):
        outputs = {
            NOISY: picture.noisy,
            "NLM": nlm(picture),
            "same": picture.noisy,
            "dim": denoisers["dim"](picture.noisy),
            "dim +ensemble": denoisers["dim"](picture.noisy, ensemble=True),
        }
        for column, x in outputs.items():
            score = psnr_db(x, picture.clean), ssim(x, picture.clean), plane_bias(x, picture.clean)
            found = image["scores"][column]
            assert tuple(found.values()) == pytest.approx(score, rel=1e-5, abs=1e-7)
            expected.setdefault((column, picture.group), []).append(score)
    for (column, group), scores in expected.items():
        mean, found = np.mean(scores, 0), bench["groups"][group][column]
        assert found["psnr_db"] == pytest.approx(mean[0], rel=1e-5)
        assert found["bias"] == pytest.approx(max(score[2] for score in scores), rel=1e-4)


def test_plane_bias() -> None:
    clean = np.full((8, 8), 0.5, np.float32)
    x = clean.copy()
    x[1::2, ::2] *= 1.02
    x[::2, ::2] *= 0.95
    assert plane_bias(x, clean) == pytest.approx(0.05, abs=1e-6)
    assert plane_bias(np.full((8, 8), 0.001, np.float32), np.zeros((8, 8), np.float32)) == pytest.approx(0.1)


@pytest.mark.usefixtures("network_alone")
def test_the_tables_the_worst_and_the_picture(folder: Path) -> None:
    words = ("--bench", "photos", "--charts", "--no-ensemble", "--picture", "card.png")
    out = run("same.onnx", "dim.onnx", *words)
    lines = out.splitlines()
    assert lines[0] == "same on cpu; dim on cpu"
    assert lines[2].startswith("2 photographs unprocessed to raw, 16 pictures, 0.2 MP: PSNR in dB / SSIM")
    assert lines[3].split() == [NOISY, "NLM", "wavelet", "same", "dim"]
    for line in lines[4:12]:
        name, *cells = line.replace(" / ", "/").split()
        assert name.split("-", 1)[1] in LEVELS
        assert cells[0] == cells[3]  # the identity
        assert float(cells[1].split("/")[0]) > float(cells[0].split("/")[0]) + 1  # NLM
    assert [line.split()[0] for line in lines[14:22]] == [line.split()[0] for line in lines[4:12]]
    assert all(float(line.split()[-1]) > 8 for line in lines[14:22])  # red loses a tenth
    assert lines[23].startswith("s/MP ")
    assert "rendered charts, 88 pictures" in out
    assert len(CONTENTS) * len(CHART_LEVELS) == 88
    same, dim, _, picture = lines[-4:]
    assert same.startswith("same: worst gain +0.00 dB (")
    assert dim.startswith("dim: worst gain -")
    assert "shot 1e-05, read 3.1e-10); largest bias 1" in dim
    rows = [line for line in lines if line.startswith("zone plate")]
    assert len(rows) == 2
    assert rows[0].split()[2::2] == ["+0.00"] * len(CHART_LEVELS)
    assert picture == "picture: card.png"
    assert cv2.imread("card.png").shape[1] == 5 * 113 * 3  # noisy, NLM, both models, clean


def test_models_of_one_name_are_told_apart(folder: Path) -> None:
    models.identity(folder / "other.onnx", name="same")
    facts = json.loads(run("same.onnx", "other.onnx", "--bench", "photos", "--no-ensemble", "--json"))
    assert list(facts["providers"]) == ["same.onnx", "other.onnx"]
    assert set(facts) == {"providers", "bench"}


def test_an_old_picture_is_replaced_by_force(folder: Path) -> None:
    run("same.onnx", "--bench", "photos", "--no-ensemble", "--picture", "old.png", "--force")
    assert cv2.imread("old.png") is not None


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--bench", "nowhere"), 1, "nowhere holds no photographs"),
        (("--charts", "--picture", "old.png"), 1, "old.png exists: --force"),
        (("--charts", "--picture", "new.jpg"), 1, "ends in .png"),
        (("absent.onnx", "--charts"), 1, "absent.onnx: no such file"),
        (("--charts", "--submission", "s.mat"), 2, "not for --bench or --charts"),
        (("photos", "--picture", "new.png"), 2, "--picture needs --bench PHOTOS or --charts"),
        ((), 2, "expected MODEL DATA, found same.onnx; several models"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: tuple,
    status: int,
    says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["skdn", "eval", "same.onnx", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (status, "")
    assert says in err
    assert (folder / "old.png").read_text() == "mine"


def test_it_needs_no_torch(folder: Path) -> None:
    words = ["eval", "same.onnx", "--bench", "photos", "--no-ensemble", "--picture", "card.png"]
    call = f"from skdn_cli.main import skdn; skdn({words!r}, standalone_mode=False)"
    code = f"import sys; {call}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "torch" not in done.stdout.split()
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not MCMASTER.is_dir(), reason="shared/ is not beside the project")
def test_mcmaster_gives_the_published_figures() -> None:
    """The noisy column of the protocol's table, and NLM at least as good as there."""
    bench = json.loads(run("small", "--bench", MCMASTER, "--no-ensemble", "--json"))["bench"]["groups"]
    levels = ("iphone7-400", "pixel-1600", "pixel-3200", "extreme")
    published = {
        "sharp": ((40.41, 33.32, 29.98, 26.10), (42.58, 37.73, 35.77, 33.43)),
        "soft": ((40.41, 33.32, 29.97, 26.08), (44.09, 39.98, 38.01, 35.58)),
    }
    for content, (noisy, classical) in published.items():
        for level, noisy_db, nlm_db in zip(levels, noisy, classical, strict=True):
            scores = bench[f"{content}-{level}"]
            assert scores[NOISY]["psnr_db"] == pytest.approx(noisy_db, abs=0.006)
            assert scores["NLM"]["psnr_db"] > nlm_db - 0.2
            assert scores["small"]["psnr_db"] > scores["NLM"]["psnr_db"] + 0.5
