"""How large tiles are: what activations take, and what memory there is."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx_models as models
import pytest
from test_cpu_arena import held_mib

from sk_deploy import devices, tile_size
from sk_deploy.devices import free_memory
from sk_deploy.models import DEFAULT_MODEL, find_model
from sk_deploy.session import Session
from sk_deploy.tile_size import activation_bytes, tile_px_for
from sk_deploy.tiling import least_tile_px

PLANES = 4 * 4  # bytes of 4 float32 planes a packed pixel


def test_activations_by_hand(tmp_path: Path) -> None:
    """Input, for the sum at the end, and a convolution's input and output; a ReLU works in place."""
    chain = models.convolutions(tmp_path / "c.onnx", layers=3).read_bytes()
    assert activation_bytes(chain, 1) == 3 * PLANES
    assert activation_bytes(models.identity(tmp_path / "i.onnx").read_bytes(), 1) <= 2 * PLANES
    # Input, 4 planes, and 8 of half the size; at the end input, and 16 of half the size twice.
    assert activation_bytes(models.unet(tmp_path / "u.onnx").read_bytes(), 2) == 3 * PLANES


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_activations_as_measured() -> None:
    path = find_model(DEFAULT_MODEL)
    spec = Session(path, "cpu").spec
    side = 48 * spec.multiple
    estimate = tile_size.SLACK * activation_bytes(path.read_bytes(), spec.multiple) * side**2 / 2**20
    assert held_mib(path, side) == pytest.approx(estimate, rel=0.25)


def tile_px(path: Path, monkeypatch: pytest.MonkeyPatch, free: float) -> int:
    monkeypatch.setattr(tile_size, "free_memory", lambda: free)
    return tile_px_for(Session(path, "cpu", threads=2))


def test_tiles_follow_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.convolutions(tmp_path / "c.onnx", layers=3)
    pixel_bytes = 2 * (tile_size.SLACK * 3 * PLANES + tile_size.AROUND_BYTES)  # two at a time
    plenty = tile_px(path, monkeypatch, float("inf"))
    assert pixel_bytes * (plenty / 2) ** 2 == pytest.approx(tile_size.MEMORY_BYTES, rel=1e-2)
    scarce = tile_px(path, monkeypatch, 2**24)
    assert pixel_bytes * (scarce / 2) ** 2 == pytest.approx(2**23, rel=1e-2)
    assert tile_px(path, monkeypatch, 0) == least_tile_px(3, 1)


def test_a_wide_halo_is_worth_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models.convolutions(tmp_path / "c.onnx", layers=3, halo=600, multiple=8)
    px = tile_px(path, monkeypatch, float("inf"))
    assert (px / (px - 4 * 600)) ** 2 == pytest.approx(tile_size.MOST_COMPUTED, rel=1e-2)
    assert tile_px(path, monkeypatch, 2**24) == least_tile_px(600, 8)


def test_memory_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory() > 2**20
    monkeypatch.setattr(devices, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(devices, "CGROUP_MEMORY", tmp_path)
    assert free_memory() == float("inf")
    (tmp_path / "meminfo").write_text("MemTotal:  100 kB\nMemAvailable:   50 kB\n")
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() == 50 * 1024
    (tmp_path / "memory.max").write_text("4000\n")
    assert free_memory() == 3000
