"""Activations on a CPU: how much memory they hold, and that they let go of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx_models as models
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

MEASURE = """
import sys
from pathlib import Path
import numpy as np
from sk_deploy.freed_memory import return_freed_memory
from sk_deploy.session import Session

def mib():
    return_freed_memory()  # what the C library keeps of freed memory is not the arena's
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024

session = Session(sys.argv[1], "cpu", threads=1)
noise = None if session.spec.blind else np.full((1, 2), 1e-3, np.float32)
planes = {side: np.ones((1, 4, side, side), np.float32) for side in map(int, sys.argv[2:])}
before = mib()
for side in planes:
    session.run(planes[side], noise)
    session.run(planes[side], noise)
held = mib() - before
session.rest()
print(held, mib() - before)
"""


def held_mib(model: Path, *sides: int) -> float:
    """What runs of these sides, one after the other, leave held, in a process of their own."""
    return measure(model, *sides)[0]


def measure(model: Path, *sides: int) -> tuple[float, float]:
    """The same, and what is still held when the session rests."""
    command = [sys.executable, "-c", MEASURE, str(model), *map(str, sides)]
    held, resting = map(float, subprocess.check_output(command, timeout=300).split())
    return held, resting


def test_activations_are_held_once(tmp_path: Path) -> None:
    """A convolution and a ReLU at a time, on 4 planes: two to four of them, not a plan of all eight."""
    model = models.convolutions(tmp_path / "m.onnx", layers=4)
    plane_set_mib = 4 * 4 * 1024**2 / 2**20
    assert held_mib(model, 1024) < 6 * plane_set_mib


def test_growing_tiles_let_go_of_what_was_held(tmp_path: Path) -> None:
    model = models.convolutions(tmp_path / "m.onnx", layers=4)
    largest = held_mib(model, 1024)
    assert held_mib(model, *range(768, 1025, 32)) < 1.5 * largest


def test_a_session_at_rest_holds_little(tmp_path: Path) -> None:
    held, resting = measure(models.convolutions(tmp_path / "m.onnx", layers=4), 1024)
    assert resting < 0.4 * held  # one set of planes, of the three or four that processors differ in
