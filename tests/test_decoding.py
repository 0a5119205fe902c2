"""The decoder's process: whatever a file does to it, the other files are decoded."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from dng_layouts import DngLayout, noise_like_counts, write_layout

from sk_deploy import decoding
from sk_deploy.batch import Options, denoise_files
from sk_deploy.decoding import decode_ahead, time_limit_s
from sk_deploy.denoiser import Denoiser
from sk_deploy.errors import RawError
from sk_deploy.inputs import find_jobs
from sk_deploy.raw import RawImage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the decoder here dies in POSIX ways")

RAWPY = """
import contextlib, ctypes, os, re, resource, signal, types
LibRawError = LibRawFileUnsupportedError = OSError

def imread(path):
    print("noise that nobody wants to read", flush=True)
    os.write(2, b"more of it\\n")
    if path.endswith(".dng"):
        sizes = types.SimpleNamespace(raw_height=48, raw_width=64)
        return contextlib.nullcontext(types.SimpleNamespace(sizes=sizes))
    eval(open(path).read())
"""
"""In place of the real one in the worker: it opens a DNG, and does what any other file says."""
SEGFAULT = "ctypes.string_at(0)"
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"
HANG = "re.match('(a+)+$', 40 * 'a' + 'b')"
"""Computing inside a C function that holds Python's lock."""
STARVE = "resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)), bytearray(2**34)"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `rawpy` the worker finds first."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/rawpy.py").write_text(textwrap.dedent(RAWPY))
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setattr(decoding, "LEAST_LIMIT_S", 1)
    return tmp_path


def good(path: Path) -> Path:
    write_layout(path, noise_like_counts(1, 48, 64), DngLayout())
    return path


def bad(path: Path, does: str) -> Path:
    path.write_text(does)
    return path


def test_each_way_to_fail_costs_one_file(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = [
        bad(path / "a.nef", SEGFAULT),
        good(path / "b.dng"),
        bad(path / "c.nef", HANG),
        bad(path / "d.nef", KILLED),
        bad(path / "e.nef", STARVE),
        bad(path / "f.nef", "1 / 0"),
        good(path / "g.dng"),
    ]
    told = [
        decoded.raw if isinstance(decoded.raw, RawImage) else str(decoded.raw)
        for decoded in decode_ahead(files)
    ]
    assert [answer for answer in told if isinstance(answer, str)] == [
        "a.nef: the decoder crashed on it (SIGSEGV): damaged, or too large",
        "c.nef: the decoder made nothing of it in 1 s and was stopped: damaged?",
        "d.nef: the decoder crashed on it (SIGKILL): damaged, or too large",
        "e.nef: not enough memory to decode it: damaged, or too large",
        "f.nef: cannot be decoded (ZeroDivisionError: division by zero): damaged?",
    ]
    for answer in (told[1], told[6]):
        assert isinstance(answer, RawImage)
        np.testing.assert_array_equal(answer.stored, noise_like_counts(1, 48, 64))
    assert capfd.readouterr() == ("", "")
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_between_files_is_replaced(path: Path) -> None:
    decoded = decode_ahead([good(path / "a.dng")] * 3)
    next(decoded)
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    time.sleep(0.1)
    answers = [type(answer.raw) for answer in decoded]
    assert answers[-1] is RawImage  # the second may have been with the worker, or not yet


def test_a_batch_goes_on(path: Path) -> None:
    """Nothing of the failed files appears, and the last file is done."""
    (path / "in").mkdir()
    bad(path / "in/a.nef", HANG), bad(path / "in/b.nef", SEGFAULT), good(path / "in/c.dng")
    denoiser = Denoiser.from_file(models.identity(path / "model.onnx"), "cpu")
    results = list(denoise_files(denoiser, find_jobs([path / "in"], path / "out"), Options()))
    assert [(result.source.name, result.status) for result in results] == [
        ("a.nef", "failed"),
        ("b.nef", "failed"),
        ("c.dng", "done"),
    ]
    assert [file.name for file in (path / "out").iterdir()] == ["c.dng"]


def test_the_command_line_ends_with_1_and_two_lines(path: Path) -> None:
    files = [bad(path / "a.nef", SEGFAULT), good(path / "b.dng")]
    model = models.identity(path / "model.onnx")
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from skdn_cli.main import main; main()",
            "denoise",
            *files,
            "--model",
            model,
            "--json",
        ],
        env=os.environ | {"PYTHONPATH": str(path / "fake")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stderr == "skdn: a.nef: the decoder crashed on it (SIGSEGV): damaged, or too large\n"
    assert [json.loads(line)["status"] for line in run.stdout.splitlines()] == ["failed", "done"]


def test_stopping_does_not_wait_for_a_decoder_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "LEAST_LIMIT_S", 100)
    decoded = decode_ahead([good(path / "a.dng"), bad(path / "b.nef", HANG)])
    next(decoded)
    time.sleep(0.2)
    started = time.monotonic()
    decoded.close()
    assert time.monotonic() - started < 5
    assert multiprocessing.active_children() == []


def test_the_limit_grows_with_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with (path / "raw.nef").open("wb") as file:
        file.truncate(25_000_000)
    assert time_limit_s(path / "raw.nef") == 8 + 50
    assert time_limit_s(good(path / "small.dng")) == 8
    assert time_limit_s(path / "absent") == 8


def test_a_pipe_is_refused_and_not_waited_for(path: Path) -> None:
    os.mkfifo(path / "pipe.dng")
    (decoded,) = decode_ahead([path / "pipe.dng"])
    assert isinstance(decoded.raw, RawError)
    assert "pipe.dng: not a file" in str(decoded.raw)


@pytest.mark.slow
def test_the_decoder_ends_with_its_parent(path: Path) -> None:
    """A decoder that hangs, of a parent that is killed."""
    bad(path / "a.nef", "open(path + '.pid', 'w').write(str(os.getpid())), " + HANG)
    code = (
        "import sys; from pathlib import Path; from sk_deploy import decoding; decoding.LEAST_LIMIT_S = 1; "
        "list(decoding.decode_ahead([Path(sys.argv[1])]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(path / "a.nef")],
        env=os.environ | {"PYTHONPATH": str(path / "fake")},
    )
    written = path / "a.nef.pid"
    _until(lambda: written.exists() and written.read_text() != "")
    parent.kill()
    parent.wait()
    _until(lambda: not Path(f"/proc/{written.read_text()}").exists())


def _until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited for 20 s")


def test_decoding_nothing() -> None:
    assert list(decode_ahead([])) == []
