"""The wheel: it holds what it should, and deploys far from the checkout without PyTorch."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dng_layouts import DngLayout, write_layout

from sk_deploy.models import DEFAULT_MODEL
from sk_deploy.raw import read_raw

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = {"sk_deploy": "sk_deploy", "sk_search": "sk_search", "cli": "skdn_cli", "models": "skdn_models"}
"""Folder of the checkout -> package in the wheel."""

SEARCH_ONLY = {
    "torch",
    "onnxscript",
    "onnxsim",
    "safetensors",
    "h5py",
    "scipy",
    "skimage",
    "tensorboard",
    "matplotlib",
}
RUN_SKDN = "from skdn_cli.main import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked; built from a copy of the sources, so that the checkout gets no build folder."""
    sources, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, sources / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(sources), "."]
    subprocess.run([sys.executable, "-m", *build], cwd=sources, check=True)
    (wheel,) = sources.glob("skdn-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(
    installed: Path, cwd: Path, code: str, *arguments: str, without: set[str] = SEARCH_ONLY
) -> "subprocess.CompletedProcess[str]":
    """Run `code` against the unpacked wheel in a fresh process, where importing a name in `without` fails."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({sorted(without)})); sys.argv[0] = 'skdn'\n"
    return subprocess.run(
        [sys.executable, "-c", blocked + code, *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_wheel_holds_every_file(installed: Path, folder: str) -> None:
    kinds = {".py", ".typed", ".onnx", ".md", ".json", ".png"}
    expected = {path.name for path in (ROOT / folder).iterdir() if path.suffix in kinds}
    found = {path.name for path in (installed / FOLDERS[folder]).iterdir() if path.is_file()}
    assert found == expected


def test_wheel_metadata(installed: Path) -> None:
    (info,) = installed.glob("skdn-*.dist-info")
    assert "skdn = skdn_cli.main:main" in (info / "entry_points.txt").read_text(encoding="utf-8")
    assert "END OF TERMS AND CONDITIONS" in (info / "licenses" / "LICENSE").read_text(encoding="utf-8")
    metadata = (info / "METADATA").read_text(encoding="utf-8")
    assert f"Version: {PROJECT['project']['version']}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert 'Requires-Dist: torch>=2.6; extra == "search"' in metadata


@pytest.mark.parametrize("package", ["sk_deploy", "skdn_cli", "skdn_models"])
def test_it_is_the_unpacked_wheel_that_runs(installed: Path, tmp_path: Path, package: str) -> None:
    done = run(installed, tmp_path, f"import {package}; print({package}.__file__)")
    assert done.stdout.startswith(str(installed)), done.stderr


def test_deployment_imports_neither_pytorch_nor_the_search(installed: Path, tmp_path: Path) -> None:
    modules = [
        f"sk_deploy.{path.stem}" for path in (ROOT / "sk_deploy").glob("*.py") if path.stem != "__init__"
    ]
    verbs = [f"skdn_cli.{verb}" for verb in ("denoise", "profile", "models")]
    code = "".join(f"import {module}\n" for module in modules + verbs)
    done = run(installed, tmp_path, code, without={*SEARCH_ONLY, "sk_search"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments", ["--help", "models --help", "denoise --help", "profile --help", "show --help"]
)
def test_deploys_without_the_search_extra(installed: Path, tmp_path: Path, arguments: str) -> None:
    done = run(installed, tmp_path, RUN_SKDN, *arguments.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_shipped_models_are_found(installed: Path, tmp_path: Path) -> None:
    shipped = [path.stem for path in (ROOT / "models").glob("*.onnx")]
    listed = run(installed, tmp_path, RUN_SKDN, "models").stdout.splitlines()
    assert shipped
    assert [line.split()[0] for line in listed] == sorted(shipped)


@pytest.mark.skipif(
    not (ROOT / "models" / f"{DEFAULT_MODEL}.onnx").exists(), reason="no default model ships yet"
)
def test_denoises_with_the_shipped_model_far_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    black, white = 64, 1023
    rng = np.random.default_rng(0)
    clean = np.linspace(0.05, 0.6, 192) * np.ones((160, 1))
    noisy = clean + rng.standard_normal(clean.shape) * np.sqrt(2e-3 * clean + 1e-5)
    counts = np.rint(black + noisy * (white - black)).clip(0, white).astype(np.uint16)
    write_layout(tmp_path / "shot.dng", counts, DngLayout("GBRG", black=(black,), white=white))
    done = run(installed, tmp_path, RUN_SKDN, "denoise", "shot.dng", without={*SEARCH_ONLY, "sk_search"})
    assert done.returncode == 0, done.stderr
    assert f"{DEFAULT_MODEL} on " in done.stdout
    before, after = (read_raw(tmp_path / name).mosaic for name in ("shot.dng", "shot_denoised.dng"))
    assert np.sqrt(np.mean((after - clean) ** 2)) < 0.5 * np.sqrt(np.mean((before - clean) ** 2))  # 6 dB


def test_help_imports_nothing_heavy(installed: Path, tmp_path: Path) -> None:
    code = "from skdn_cli.main import skdn; skdn(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = set(run(installed, tmp_path, code, without=set()).stdout.split())
    assert "click" in loaded
    assert not {"numpy", "onnx", "onnxruntime", "cv2", "rawpy", "torch", "rich", "sk_deploy"} & loaded
