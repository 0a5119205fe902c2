"""Profiling: enough samples, honest names, one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import onnx_models as models
import pytest
from click.testing import CliRunner
from skdn_cli.profile import command, describe

from sk_deploy.denoiser import Denoiser
from sk_deploy.profile import Latency, peak_host_memory_mib, profile


def test_percentiles() -> None:
    latency = Latency.of([0.001 * sample for sample in range(101, 0, -1)])
    assert latency.p50_ms == pytest.approx(51)
    assert latency.p90_ms == pytest.approx(91)
    assert latency.p99_ms == pytest.approx(100)
    assert latency.min_ms == pytest.approx(1)
    assert latency.samples_ms[:2] == pytest.approx([101, 100])


def test_counts_runs_and_seconds(tmp_path: Path) -> None:
    denoiser = Denoiser.from_file(models.convolutions(tmp_path / "m.onnx"), "cpu")
    few = profile(denoiser, 64, 48, warmups=1, runs=3, seconds=0)
    assert len(few.total.samples_ms) == len(few.network.samples_ms) == 3
    assert (few.width_px, few.height_px, few.provider, few.warmups) == (64, 48, "cpu", 1)
    assert all(
        inner < outer for inner, outer in zip(few.network.samples_ms, few.total.samples_ms, strict=True)
    )
    assert few.mp_per_s == pytest.approx(64 * 48 / 1e6 / (few.total.p50_ms / 1e3))
    assert few.load_s > 0
    shares: list[float] = []
    timed = profile(denoiser, 64, 48, warmups=2, runs=1, seconds=0.05, progress=shares.append)
    assert sum(timed.total.samples_ms) > 40
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_ensemble_takes_eight_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = Denoiser.from_file(models.identity(tmp_path / "m.onnx"), "cpu")
    run, calls = denoiser.session.run, []
    monkeypatch.setattr(denoiser.session, "run", lambda *inputs: calls.append(1) or run(*inputs))
    profile(denoiser, 64, 64, ensemble=True, warmups=0, runs=2, seconds=0)
    assert len(calls) == 16


def test_peak_memory_is_plausible() -> None:
    peak = peak_host_memory_mib()
    assert peak is None or 20 < peak < 100_000


def test_description(tmp_path: Path) -> None:
    denoiser = Denoiser.from_file(models.identity(tmp_path / "m.onnx", name="same"), "cpu")
    lines = describe(profile(denoiser, 64, 48, ensemble=True, warmups=1, runs=2, seconds=0)).splitlines()
    assert lines[0].startswith("same on cpu: ")
    assert "64×48 px (0.00 MP)" in lines[1]
    assert "self-ensemble" in lines[1]
    assert lines[2] == "2 runs after 1 warm-ups"
    assert "peak host memory " in lines[-1]


def test_command(tmp_path: Path) -> None:
    model = models.identity(tmp_path / "m.onnx")
    runner = CliRunner()
    told = runner.invoke(command, [str(model), "--size", "64x32", "--runs", "2", "--json"])
    assert told.exit_code == 0, told.output
    assert told.stderr == ""
    facts = json.loads(told.stdout)
    assert facts["provider"] == "cpu"
    assert facts["device"]
    assert facts["peak_host_memory_mib"] == pytest.approx(peak_host_memory_mib(), rel=0.5)
    assert facts["versions"].keys() >= {"skdn", "onnxruntime", "numpy", "python"}
    assert len(facts["total"]["samples_ms"]) >= 2
    assert runner.invoke(command, [str(model), "--size", "wide"]).exit_code == 2
