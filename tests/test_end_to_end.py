"""The project's promise through its own commands: search, export, denoise; and the demo."""

import json

import numpy as np
import pytest
import rawpy
from command_line import invoke, succeed

from sk_deploy import NoiseProfile, read_raw, write_dng
from sk_deploy.model_file import read_model
from sk_search.config import ARCHS, BASELINES, MODES, TYPES


@pytest.mark.parametrize(
    "arch",
    [a if a == "compact-unet" else pytest.param(a, marks=pytest.mark.slow) for a in ARCHS],
)
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("joint", "full"),
        *(
            pytest.param(kind, mode, marks=pytest.mark.slow)
            for kind in TYPES
            for mode in MODES
            if (kind, mode) != ("joint", "full")
        ),
    ],
)
def test_search_export_denoise(tmp_path, kind, mode, arch):
    found, model = tmp_path / "run", tmp_path / "model.onnx"
    structure = ["--type", kind, "--mode", mode, "--arch", arch]
    if kind in BASELINES and kind != "none":  # networks of a given cost
        structure += ["--target-macs", 5 if arch == "compact-unet" else 24]
    out = succeed("search", *structure, "--preset", "tiny", "--steps", 6, "--out", found)
    assert f"skdn export {found}" in out
    assert "encoder.0.0.conv1" in succeed("distil", found)
    succeed("finetune", found, "--steps", 6)
    assert "next: skdn denoise" in succeed("export", found, model, "--licence", "CC0-1.0")
    assert (found / "report.html").stat().st_size > 10_000
    parity = json.loads((found / "export" / "parity.json").read_text())
    assert all(parity[name] <= limit for name, limit in parity["limits"].items())
    assert json.loads(succeed("show", model, "--json"))["licence"] == "CC0-1.0"
    pooling = "none" if arch != "attention-unet" else "66×66 packed pixels"
    assert read_model(model)[1].pooling == pooling

    mosaic = np.random.default_rng(0).normal(0.3, 0.02, (90, 110)).astype(np.float32)
    np.save(tmp_path / "shot.npy", mosaic)
    raw = read_raw(tmp_path / "shot.npy", "GBRG")
    noise = NoiseProfile(1e-3, 1e-5)
    write_dng(raw, raw.mosaic, tmp_path / "shot.dng", noise=noise, strength=0.0, software="test")
    succeed("denoise", tmp_path / "shot.dng", "--model", model, "--ensemble", "--provider", "cpu")
    with rawpy.imread(str(tmp_path / "shot_denoised.dng")) as opened:
        assert opened.raw_image_visible.shape == mosaic.shape


def test_resume_takes_no_other_option(tmp_path):
    result = invoke("search", "--resume", "--out", tmp_path, "--steps", 5)
    assert result.exit_code == 2
    assert "--resume" in result.output


@pytest.mark.slow
def test_demo_gains_four_decibels(tmp_path):
    facts = json.loads(succeed("demo", "--out", tmp_path / "demo", "--json"))
    psnr_db = facts["psnr_db"]
    assert psnr_db["denoised"] > psnr_db["noisy"] + 4
    assert psnr_db["with self-ensemble"] > psnr_db["denoised"]
    assert facts["ssim"]["denoised"] > facts["ssim"]["noisy"]
