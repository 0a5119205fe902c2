"""The pipeline for one mosaic, on arrays."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest

from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import ConfigError, ModelError, RawError
from sk_deploy.noise import NoiseProfile, estimate_noise


@pytest.fixture
def mosaic() -> np.ndarray:
    return np.random.default_rng(0).normal(0.3, 0.1, (61, 83)).astype(np.float32)


def test_identity_is_bit_identical(tmp_path: Path, mosaic: np.ndarray) -> None:
    denoise = Denoiser.from_file(models.identity(tmp_path / "m.onnx", multiple=8), "cpu")
    for phase in ("RGGB", "GRBG", "GBRG", "BGGR"):
        np.testing.assert_array_equal(denoise(mosaic, phase=phase), mosaic)


def test_strength_blends(tmp_path: Path, mosaic: np.ndarray) -> None:
    denoise = Denoiser.from_file(models.plane_gains(tmp_path / "m.onnx", (3, 3, 3, 3)), "cpu")
    np.testing.assert_allclose(denoise(mosaic, strength=0.25), 1.5 * mosaic, rtol=1e-5)
    np.testing.assert_array_equal(denoise(mosaic, strength=0), mosaic)
    with pytest.raises(ConfigError, match=r"strength 1\.5"):
        denoise(mosaic, strength=1.5)


def test_noise_reaches_the_network(tmp_path: Path, mosaic: np.ndarray, network_alone: None) -> None:
    denoise = Denoiser.from_file(models.noise_adder(tmp_path / "m.onnx"), "cpu")
    np.testing.assert_allclose(denoise(mosaic, NoiseProfile(0.25, 0.5)), mosaic + 0.75, rtol=1e-6)
    blind = estimate_noise(mosaic)
    expected = mosaic + np.float32(blind.shot + blind.read)
    np.testing.assert_allclose(denoise(mosaic, phase="GBRG"), expected, rtol=1e-6)


def test_tiles_by_option(tmp_path: Path, mosaic: np.ndarray) -> None:
    path = models.unet(tmp_path / "m.onnx")
    tiled, whole = Denoiser.from_file(path, "cpu", tile=40), Denoiser.from_file(path, "cpu")
    np.testing.assert_allclose(tiled(mosaic), whole(mosaic), atol=1e-6)
    with pytest.raises(ConfigError, match="tile of 20 px: model test needs at least 36 px"):
        Denoiser.from_file(path, "cpu", tile=20)


def test_out_of_memory_halves_the_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    denoise = Denoiser.from_file(models.unet(tmp_path / "m.onnx"), "cpu", tile=256)
    mosaic = np.random.default_rng(1).normal(0.3, 0.1, (300, 300)).astype(np.float32)
    expected = denoise(mosaic, ensemble=True)
    run, calls = denoise.session.run, []

    def small_memory(planes: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        calls.append(planes.shape)
        if planes.shape[2] > 40 and len(calls) > 2:
            raise MemoryError("no room")
        return run(planes, noise)

    monkeypatch.setattr(denoise.session, "run", small_memory)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(denoise(mosaic, ensemble=True), expected, atol=1e-6)
    assert denoise.tile_px == 64
    assert len(caplog.records) == 2

    def no_memory(planes: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        raise MemoryError("no room")

    monkeypatch.setattr(denoise.session, "run", no_memory)
    with pytest.raises(RawError, match="not enough memory for a tile of 36 px"):
        denoise(mosaic)


def test_refuses_what_is_no_mosaic(tmp_path: Path) -> None:
    denoise = Denoiser.from_file(models.identity(tmp_path / "m.onnx"), "cpu")
    with pytest.raises(RawError, match=r"\(4, 8, 8\)"):
        denoise(np.zeros((4, 8, 8), np.float32))
    with pytest.raises(RawError, match="at least 2×2"):
        denoise(np.zeros((1, 8), np.float32))
    with pytest.raises(ConfigError, match="XTRANS"):
        denoise(np.zeros((8, 8), np.float32), phase="XTRANS")


def test_no_such_model() -> None:
    with pytest.raises(ModelError, match="model absent: no such file, and no shipped model"):
        Denoiser.from_file("absent")
