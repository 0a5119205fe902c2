"""Denoising files: each kept apart from the failures of the others, and told what was done to it."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx_models as models
import pytest

from sk_deploy import batch
from sk_deploy.batch import Options, Result, denoise_files, noise_left
from sk_deploy.decoding import Decoded, decode_ahead
from sk_deploy.denoiser import Denoiser
from sk_deploy.dng import write_dng
from sk_deploy.inputs import find_jobs
from sk_deploy.noise import NoiseProfile
from sk_deploy.output import write_output
from sk_deploy.raw import read_raw

SHOT, READ = 1e-3, 4e-6


def write_shot(path: Path, seed: int = 0, noise: NoiseProfile | None = None) -> Path:
    """A small noisy raw: .npy as it is, .dng by way of one."""
    rng = np.random.default_rng(seed)
    clean = np.linspace(0.05, 0.8, 96)[:, None] * np.ones((96, 128))
    noisy = clean + rng.normal(size=clean.shape) * np.sqrt(SHOT * clean + READ)
    counts = np.clip(np.round(noisy * 65535), 0, 65535).astype(np.uint16)
    np.save(path.with_suffix(".npy"), counts)
    if path.suffix == ".dng":
        raw = read_raw(path.with_suffix(".npy"), "GRBG")
        write_dng(raw, raw.mosaic, path, noise=noise, software="test")
        path.with_suffix(".npy").unlink()
    return path


@pytest.fixture
def identity(tmp_path: Path) -> Denoiser:
    denoiser = Denoiser.from_file(models.identity(tmp_path / "model.onnx", name="same", multiple=4), "cpu")
    denoiser.session.lanes = 1  # one tile a file
    return denoiser


def run(denoiser: Denoiser, folder: Path, **options: object) -> list[Result]:
    return list(denoise_files(denoiser, find_jobs([folder]), Options(**options)))  # type: ignore[arg-type]


def test_one_bad_file_stops_nothing(identity: Denoiser, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index, name in enumerate(["a.dng", "c.dng", "d.dng"]):
        write_shot(folder / name, index)
    (folder / "b.dng").write_bytes((folder / "a.dng").read_bytes()[:3000])
    (folder / "e.nef").write_text("not a raw")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    results = {result.source.name: result for result in run(identity, folder)}
    assert {name: result.status for name, result in results.items()} == {
        "a.dng": "done",
        "b.dng": "failed",
        "c.dng": "done",
        "d.dng": "done",
        "e.nef": "failed",
    }
    for name in ("b.dng", "e.nef"):
        assert results[name].message.startswith(name)
        assert "\n" not in results[name].message
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in folder.iterdir()} - {path.name for path in before} == {
        "a_denoised.dng",
        "c_denoised.dng",
        "d_denoised.dng",
    }
    for name in ("a", "c", "d"):
        original, denoised = read_raw(folder / f"{name}.dng"), read_raw(folder / f"{name}_denoised.dng")
        np.testing.assert_array_equal(denoised.stored, original.stored)


@pytest.mark.parametrize("step", ["denoising", "writing"])
def test_an_error_of_our_own_stops_nothing(
    identity: Denoiser,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    for index, name in enumerate(["a.dng", "b.dng", "c.dng"]):
        write_shot(tmp_path / name, index)
    calls = []

    def break_the_second(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyError("a bug")
        return (network if step == "denoising" else write_output)(*arguments, **options)  # type: ignore[arg-type]

    network = identity.session.run
    if step == "denoising":
        monkeypatch.setattr(identity.session, "run", break_the_second)
    else:
        monkeypatch.setattr("sk_deploy.batch.write_output", break_the_second)
    with caplog.at_level(logging.DEBUG, "sk_deploy.batch"):
        results = run(identity, tmp_path)
    assert {result.source.name: result.status for result in results} == {
        "a.dng": "done",
        "b.dng": "failed",
        "c.dng": "done",
    }
    (message,) = [result.message for result in results if result.status == "failed"]
    assert message == "b.dng: KeyError: 'a bug'"
    (record,) = caplog.records
    assert record.exc_info is not None


def test_an_interrupt_ends_the_batch(
    identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shot(tmp_path / "a.dng", 1)
    write_shot(tmp_path / "b.dng", 2)

    def interrupt(*inputs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(identity.session, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(identity, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.dng")) == ["a.dng", "b.dng"]


def test_a_result_says_what_ran(identity: Denoiser, tmp_path: Path) -> None:
    write_shot(tmp_path / "a.dng")
    (result,) = run(identity, tmp_path)
    assert (result.model, result.provider, result.megapixels) == ("same", "cpu", 96 * 128 / 1e6)
    assert result.target == tmp_path / "a_denoised.dng"
    assert min(result.decode_s, result.denoise_s, result.write_s, result.mp_per_s) > 0
    assert result.facts()["target"] == str(result.target)


def test_an_interrupted_batch_goes_on(identity: Denoiser, tmp_path: Path) -> None:
    write_shot(tmp_path / "a.dng", 1)
    run(identity, tmp_path)
    (tmp_path / "a_denoised.dng").write_text("kept")
    write_shot(tmp_path / "b.dng", 2)
    statuses = [(result.source.name, result.status) for result in run(identity, tmp_path)]
    assert statuses == [("a.dng", "skipped"), ("b.dng", "done")]
    assert (tmp_path / "a_denoised.dng").read_text() == "kept"
    assert [result.status for result in run(identity, tmp_path, force=True)] == ["done", "done"]
    assert read_raw(tmp_path / "a_denoised.dng").mosaic.shape == (96, 128)


@pytest.mark.usefixtures("network_alone")
def test_noise_comes_from_the_best_source(tmp_path: Path) -> None:
    denoiser = Denoiser.from_file(models.noise_adder(tmp_path / "model.onnx"), "cpu")
    (tmp_path / "in").mkdir()
    write_shot(tmp_path / "in/plain.dng")
    write_shot(tmp_path / "in/profiled.dng", noise=NoiseProfile(2e-3, 5e-6))
    profiled, plain = sorted(run(denoiser, tmp_path / "in"), key=lambda result: result.noise_source)[::-1]
    assert (plain.noise_source, profiled.noise_source) == ("estimate", "file")
    assert plain.noise is not None
    assert plain.noise.shot == pytest.approx(SHOT, rel=0.15)
    assert profiled.noise == NoiseProfile(2e-3, 5e-6)
    given = NoiseProfile(0.01, 0.02)
    results = run(denoiser, tmp_path / "in", noise=given, force=True)
    assert [(result.noise, result.noise_source) for result in results] == [(given, "given")] * 2
    added = read_raw(results[0].target).mosaic - read_raw(results[0].source).mosaic
    assert np.median(added) == pytest.approx(0.03, abs=1e-3)


def test_a_blind_model_needs_no_noise_level(identity: Denoiser, tmp_path: Path) -> None:
    """Not even of a mosaic without any."""
    np.save(tmp_path / "small.npy", np.full((22, 22), 1000, np.uint16))
    jobs = find_jobs([tmp_path / "small.npy"])
    (small,) = denoise_files(identity, jobs, Options(pattern="RGGB"))
    assert (small.status, small.noise, small.noise_source) == ("done", None, "none")
    write_shot(tmp_path / "profiled.dng", noise=NoiseProfile(1e-6, 1e-8))
    (profiled,) = run(identity, tmp_path)
    assert (profiled.status, profiled.noise_source) == ("done", "none")
    assert profiled.noise_left is not None
    assert profiled.noise_left.shot <= 1.001e-6  # the file's own bounds what is left


def test_the_output_states_the_noise_that_is_left(tmp_path: Path) -> None:
    path = models.plane_gains(tmp_path / "model.onnx", (0.5, 0.5, 0.5, 0.5))
    write_shot(tmp_path / "a.dng", noise=NoiseProfile(SHOT, READ))
    (result,) = run(Denoiser.from_file(path, "cpu"), tmp_path)
    assert result.noise_left is not None
    assert result.noise_left.shot == pytest.approx(SHOT / 2, rel=0.2)
    stated = read_raw(result.target).noise
    assert stated is not None
    assert stated.shot == pytest.approx(result.noise_left.shot, rel=1e-4)


def test_noise_left_is_never_more_than_before() -> None:
    mosaic = np.random.default_rng(0).normal(0.5, 0.1, (64, 64)).astype(np.float32)
    before = NoiseProfile(1e-6, 2e-6)
    left = noise_left(mosaic, before)
    assert left.shot <= before.shot
    assert left.read <= before.read
    flat = np.full((64, 64), 0.5, np.float32)
    assert noise_left(flat, NoiseProfile(1e-3, 0)).shot <= 1e-3
    assert noise_left(mosaic[:8, :8], before) == before


def test_strength(identity: Denoiser, tmp_path: Path) -> None:
    path = models.plane_gains(tmp_path / "model.onnx", (0, 0, 0, 0))
    write_shot(tmp_path / "a.dng")
    (result,) = run(Denoiser.from_file(path, "cpu"), tmp_path, strength=0.5)
    before, after = read_raw(result.source).mosaic, read_raw(result.target).mosaic
    np.testing.assert_allclose(after, before / 2, atol=1 / 65535)


def test_a_full_disk(identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shot(tmp_path / "a.dng")
    files = sorted(tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (result,) = run(identity, tmp_path)
    assert result.status == "failed"
    assert "a_denoised.dng: cannot be written (No space left on device)" in result.message
    assert sorted(tmp_path.iterdir()) == files


def test_progress(identity: Denoiser, tmp_path: Path) -> None:
    write_shot(tmp_path / "a.dng")
    told: list[tuple[str, float, float]] = []
    list(
        denoise_files(
            identity,
            find_jobs([tmp_path]),
            Options(),
            lambda job, *done: told.append((job.source.name, *done)),
        )
    )
    assert told == [("a.dng", 1.0, 96 * 128 / 1e6)]


def test_steps_overlap(identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is denoised while the one before is still being written, and decoded while that is denoised."""
    count = 5
    for index in range(count):
        write_shot(tmp_path / f"{index}.dng", index)
    spans: dict[str, list[tuple[float, float]]] = {"decode": [], "denoise": [], "write": []}

    def slow(step: str, done: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            time.sleep(0.3)
            result = done(*arguments, **options)
            spans[step].append((began, time.monotonic()))
            return result

        return wait

    def slowly_decoded(*arguments: Any) -> Iterator[Decoded]:
        """As `decode_ahead` would, of a decoder that takes as long; started before, unlike its process."""
        with ThreadPoolExecutor(1) as ahead, closing(decode_ahead(*arguments)) as decoded:
            first = ahead.submit(slow("decode", next), decoded, None)
            while (file := first.result()) is not None:
                first = ahead.submit(slow("decode", next), decoded, None)
                yield file

    monkeypatch.setattr("sk_deploy.batch.decode_ahead", slowly_decoded)
    monkeypatch.setattr("sk_deploy.batch._denoise", slow("denoise", batch._denoise))
    monkeypatch.setattr("sk_deploy.batch._write", slow("write", batch._write))
    assert [result.status for result in run(identity, tmp_path)] == ["done"] * count
    for earlier, later in (("denoise", "decode"), ("write", "denoise")):
        ends = [end for _, end in spans[earlier]]
        begins = [begin for begin, _ in spans[later]]
        assert all(begin < end for begin, end in zip(begins[1:count], ends[: count - 1], strict=True))


def test_a_result_is_told_while_the_next_file_is_denoised(
    identity: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, name in enumerate(["a.dng", "b.dng"]):
        write_shot(tmp_path / name, index)
    told = threading.Event()
    network, files = identity.session.run, []

    def wait_at_the_second(*arguments: Any) -> Any:
        files.append(arguments)
        assert len(files) < 2 or told.wait(20), "the first result was not told"
        return network(*arguments)

    monkeypatch.setattr(identity.session, "run", wait_at_the_second)
    results = denoise_files(identity, find_jobs([tmp_path]), Options())
    assert next(results).source.name == "a.dng"
    told.set()
    assert next(results).status == "done"


def test_a_batch_that_is_given_up_stops_at_the_next_tile(identity: Denoiser, tmp_path: Path) -> None:
    for index, name in enumerate(["a.dng", "b.dng", "c.dng"]):
        write_shot(tmp_path / name, index)
    results = denoise_files(identity, find_jobs([tmp_path]), Options())
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not (tmp_path / "c_denoised.dng").exists()
    assert not list(tmp_path.glob(".skdn*"))


def test_what_a_killed_batch_left_is_removed(identity: Denoiser, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".skdn-0123456789abcdef.part").write_bytes(b"half")
    write_shot(tmp_path / "a.dng")
    (result,) = denoise_files(identity, find_jobs([tmp_path / "a.dng"], out), Options())
    assert result.status == "done"
    assert [path.name for path in out.iterdir()] == ["a.dng"]


@pytest.mark.parametrize("form", ["tiff", "npy", "png", "jpg"])
def test_other_formats(identity: Denoiser, tmp_path: Path, form: str) -> None:
    write_shot(tmp_path / "a.dng")
    (result,) = denoise_files(identity, find_jobs([tmp_path], form=form), Options(form=form))
    assert (result.status, result.message) == ("done", "")
    assert result.target == tmp_path / f"a_denoised.{form}"
    if form in ("tiff", "npy"):
        denoised = read_raw(result.target, "GRBG")
        np.testing.assert_array_equal(denoised.mosaic, read_raw(tmp_path / "a.dng").mosaic)
    else:
        assert cv2.imread(str(result.target)).shape == (96, 128, 3)
