"""Profiling: enough samples, honest names, one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import onnx_models as models
import pytest
from command_line import invoke, succeed
from skdn_cli.profile_text import describe, describe_operators

from sk_deploy import latency_plot
from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import SkdnError
from sk_deploy.operators import operator_table
from sk_deploy.paired import Ratio, compare
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
    denoiser.session.lanes = 1  # a tile a pass
    run, calls = denoiser.session.run, []
    monkeypatch.setattr(denoiser.session, "run", lambda *inputs: calls.append(1) or run(*inputs))
    profile(denoiser, 64, 64, ensemble=True, warmups=0, runs=2, seconds=0)
    assert len(calls) == 16


def test_peak_memory_is_plausible() -> None:
    peak = peak_host_memory_mib()
    assert peak is None or 20 < peak < 100_000


def test_description(tmp_path: Path) -> None:
    denoiser = Denoiser.from_file(models.identity(tmp_path / "m.onnx", name="same"), "cpu")
    lines = describe(profile(denoiser, 64, 48, ensemble=True, warmups=1, runs=2, seconds=0), 1.0).splitlines()
    assert lines[0].startswith("same on cpu: ")
    assert "64×48 px (0.00 MP)" in lines[1]
    assert "self-ensemble" in lines[1]
    assert lines[2] == "2 runs after 1 warm-ups"
    assert "peak host memory " in lines[-2]
    assert "of the 1.0 that a large float32 matrix product reaches on cpu" in lines[-1]


def test_command(tmp_path: Path) -> None:
    model = models.identity(tmp_path / "m.onnx")
    told = invoke("profile", model, "--size", "64x32", "--runs", 2, "--json")
    assert told.exit_code == 0, told.output
    assert told.stderr == ""
    facts = json.loads(told.stdout)
    assert facts["provider"] == "cpu"
    assert facts["device"]
    assert 20 < facts["peak_host_memory_mib"] <= peak_host_memory_mib()
    assert facts["versions"].keys() >= {"skdn", "onnxruntime", "numpy", "python"}
    assert len(facts["total"]["samples_ms"]) >= 2
    assert facts["matmul_peak_gmacs_per_s"] > 0
    assert invoke("profile", model, "--size", "wide").exit_code == 2


def test_a_ratio_and_its_spread() -> None:
    first = Latency.of([0.002 * n for n in range(1, 12)])
    second = Latency.of([0.001 * n * (1 + n / 10) for n in range(1, 12)])
    ratio = Ratio.of(first, second)
    assert ratio.of_medians == pytest.approx(12 / (6 * 1.6))
    assert ratio.p10 == pytest.approx(2 / 2.0)
    assert ratio.p90 == pytest.approx(2 / 1.2)


def test_pairs_are_taken_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    pair = [Denoiser.from_file(models.identity(tmp_path / f"{n}.onnx", name=n), "cpu") for n in "ab"]
    for denoiser in pair:
        denoiser.session.lanes = 1  # a tile a pass
        run, name = denoiser.session.run, denoiser.spec.name
        monkeypatch.setattr(
            denoiser.session, "run", lambda *x, run=run, name=name: order.append(name) or run(*x)
        )
    compared = compare(*pair, 32, 32, warmups=1, runs=4, seconds=0)
    assert "".join(order) == "ab" + "abbaabba"
    assert (compared.first.model, compared.second.model) == ("a", "b")
    assert compared.facts()["total"].keys() == {"of_medians", "p10", "p90"}
    assert len(compared.first.total.samples_ms) == len(compared.second.total.samples_ms) == 4


def test_operators_in_the_report(tmp_path: Path) -> None:
    model = models.unet(tmp_path / "m.onnx")
    text = describe_operators(operator_table(model, "cpu", 64, 32), "cpu")
    assert "network by operator, traced: " in text
    assert "costliest nodes" in text
    facts = json.loads(succeed("profile", model, "--ops", "--size", "64x32", "--runs", 1, "--json"))
    assert {cost["operator"] for cost in facts["operators"]["operators"]} >= {"Conv", "DepthToSpace"}
    assert len(facts["operators"]["nodes"]) == sum(cost["nodes"] for cost in facts["operators"]["operators"])


def test_comparison_with_a_plot(tmp_path: Path) -> None:
    pair = [str(models.identity(tmp_path / f"{name}.onnx", name=name)) for name in "ab"]
    plot = tmp_path / "plot.svg"
    words = ["profile", "--compare", *pair, "--size", "64x32", "--runs", 2, "--plot", plot]
    told = succeed(*words)
    assert told.startswith(f"A: {pair[0]} (a)\nB: {pair[1]} (b)\nA and B on cpu: ")
    assert "A/B, end to end: " in told
    assert told.endswith(f"written: {plot}\n")
    drawn = ElementTree.fromstring(plot.read_text(encoding="utf-8"))
    assert len([path for path in drawn.iter() if path.get("fill") == "none"]) == 4
    with pytest.raises(SkdnError, match="--force overwrites it"):
        invoke(*words)


def test_a_plot_holds_every_sample(tmp_path: Path) -> None:
    measured = profile(
        Denoiser.from_file(models.identity(tmp_path / "m.onnx"), "cpu"), 32, 32, warmups=0, runs=5, seconds=0
    )
    drawn = ElementTree.fromstring(latency_plot.svg({"<a & b>": measured}))
    lines = [path.get("d") or "" for path in drawn.iter() if path.get("fill") == "none"]
    assert [line.count("V") for line in lines] == [5, 5]
    assert all(latency_plot._axis(ms, ms)[0] < latency_plot._axis(ms, ms)[1] for ms in (0.013, 7.0, 640.0))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give a MODEL to time, or --compare A B"),
        (["small", "--compare", "a", "b"], "give a MODEL"),
        (["small", "--lut", "lut.json"], "give a MODEL"),
        (["--compare", "a", "b", "--ops"], "--ops cannot be combined with --compare"),
        (["--lut", "lut.json", "--ops", "--plot", "p.svg"], "--ops, --plot cannot be combined with --lut"),
        (["small", "--force"], "--force cannot be combined with MODEL"),
        (["small", "--preset", "compact"], "--preset cannot be combined with MODEL"),
        (["small", "--plot", "p.png"], "expected a name that ends in .svg"),
    ],
)
def test_what_cannot_be_combined(arguments: list[str], complaint: str) -> None:
    refused = invoke("profile", *arguments)
    assert refused.exit_code == 2
    assert complaint in refused.stderr
