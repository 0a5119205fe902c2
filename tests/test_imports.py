"""What a fresh process loads: deployment never needs PyTorch, and importing the package is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest


def loaded_by(code: str) -> set[str]:
    """Names of all modules after `code` ran in a new interpreter."""
    listing = "import sys; print('modules:', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{listing}"], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.rpartition("modules:")[2].split())


def refuse_search(modules: set[str]) -> None:
    assert "sk_deploy" in modules
    assert not {"torch", "sk_search"} & modules


def test_importing_sk_deploy_loads_nothing() -> None:
    modules = loaded_by("import sk_deploy")
    refuse_search(modules)
    assert not {"numpy", "onnxruntime", "rawpy"} & modules


def test_every_public_name_needs_no_torch() -> None:
    modules = loaded_by("import sk_deploy; [getattr(sk_deploy, name) for name in sk_deploy.__all__]")
    refuse_search(modules)
    assert "sk_deploy.denoiser" in modules


def test_every_module_of_sk_deploy_needs_no_torch() -> None:
    walk = (
        "import importlib, pkgutil, sk_deploy\n"
        "for module in pkgutil.iter_modules(sk_deploy.__path__):\n"
        "    importlib.import_module(f'sk_deploy.{module.name}')"
    )
    refuse_search(loaded_by(walk))


def test_public_names() -> None:
    import sk_deploy

    assert sorted(sk_deploy.__all__) == sk_deploy.__all__
    assert {name for names in sk_deploy._HOMES.values() for name in names} == set(sk_deploy.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        sk_deploy.nonsense  # noqa: B018


def test_onnxruntime_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its telemetry begins with a device identity under the home folder."""
    model = models.identity(tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    loaded_by(f"from sk_deploy import Denoiser; Denoiser.from_file({str(model)!r})")
    assert list(home.rglob("*")) == []


def run_command(*arguments: str | Path) -> set[str]:
    words = [str(argument) for argument in arguments]
    return loaded_by(f"from skdn_cli.main import skdn\nassert not skdn({words!r}, standalone_mode=False)")


def test_denoise_needs_no_torch(tmp_path: Path) -> None:
    np.save(tmp_path / "shot.npy", np.full((32, 32), 1000, np.uint16))
    model = models.identity(tmp_path / "m.onnx")
    refuse_search(run_command("denoise", tmp_path / "shot.npy", "--pattern", "RGGB", "--model", model))
    assert (tmp_path / "shot_denoised.dng").exists()


def test_profile_needs_no_torch(tmp_path: Path) -> None:
    model = models.identity(tmp_path / "m.onnx")
    refuse_search(run_command("profile", model, "--size", "32x32", "--runs", "1"))


def test_help_loads_nothing_heavy() -> None:
    modules = run_command("--help")
    assert not {"torch", "numpy", "onnxruntime", "rawpy", "rich", "sk_search"} & modules
