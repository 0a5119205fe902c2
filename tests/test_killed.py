"""`skdn denoise` killed by SIGKILL at any moment: originals and finished outputs stay, a resume completes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from dng_layouts import DngLayout, noise_like_counts, write_layout

from sk_deploy.raw import read_raw

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

MAIN = "from skdn_cli.main import main; main()"
FILES = 12


def test_killed_a_few_times(tmp_path: Path) -> None:
    kill_until_done(tmp_path, longest_s=2.5, kills=4)


@pytest.mark.slow
def test_killed_many_times(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / str(index)).mkdir()
        kill_until_done(tmp_path / str(index), longest_s=4, kills=6)


def kill_until_done(folder: Path, longest_s: float, kills: int) -> None:
    """Start a batch and kill it; after `kills` such, let it complete.

    It dies within `longest_s` of its start, or soon after a new output appears.
    """
    seed = time.time_ns()
    print("seed", seed)  # shown when the test fails
    rng = random.Random(seed)
    model = models.convolutions(folder / "model.onnx", layers=6)
    originals, out = folder / "originals", folder / "out"
    originals.mkdir()
    for number in range(FILES):
        counts = noise_like_counts(number, 420, 560)
        write_layout(originals / f"{number:02}.dng", counts, DngLayout(sub_ifd=True, noise=(1e-3, 1e-6)))
    before = {path: path.read_bytes() for path in originals.iterdir()}
    finished: dict[Path, tuple[int, bytes]] = {}
    for _ in range(kills):
        process = start(originals, out, model)
        seen = len(finished)
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, longest_s))
        else:
            while len(list(out.glob("*.dng"))) == seen and process.poll() is None:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, longest_s / FILES))
        process.kill()
        process.wait()
        assert {path: path.read_bytes() for path in originals.iterdir()} == before
        finished = look(out, finished)
    last = start(originals, out, model)
    assert last.wait(100) == 0
    assert len(look(out, finished)) == FILES
    assert not list(out.glob(".skdn-*"))  # what the killed ones left
    assert {path: path.read_bytes() for path in originals.iterdir()} == before
    for path in before:
        assert read_raw(out / path.name).mosaic.shape == (420, 560)


def start(originals: Path, out: Path, model: Path) -> subprocess.Popen[bytes]:
    command = ["denoise", originals, "--out", out, "--model", model, "--provider", "cpu"]
    return subprocess.Popen([sys.executable, "-c", MAIN, *map(str, command)], stdout=subprocess.DEVNULL)


def look(out: Path, finished: dict[Path, tuple[int, bytes]]) -> dict[Path, tuple[int, bytes]]:
    """The outputs: each whole, and those that were finished earlier untouched since."""
    found = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("*.dng")}
    assert {path: found.get(path) for path in finished} == finished
    for path in found.keys() - finished.keys():
        assert np.isfinite(read_raw(path).mosaic).all()
    others = [path.name for path in out.iterdir() if path not in found] if out.exists() else []
    assert all(name.startswith(".skdn-") and name.endswith(".part") for name in others)
    return found
