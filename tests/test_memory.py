"""Peak memory of `skdn denoise`, main process and decoder together: what the picture takes, and little more.

Where the system tells how much of it the two share (Pss), shared pages count once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from dng_layouts import DngLayout, write_layout

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

LAYOUTS = {
    "uncompressed": DngLayout(rows_per_strip=64, white=16383, black=(512,)),
    "lossless JPEG": DngLayout(lossless_jpeg=True, tile=(256, 256), white=16383, black=(512,)),
    "BigTIFF": DngLayout(bigtiff=True, tile=(512, 512), white=16383, black=(512,)),
}


def write_photograph(path: Path, megapixels: float, layout: DngLayout) -> None:
    """A 4:3 DNG of a gradient with noise, 14 bits."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5) // 16 * 16
    width = height * 4 // 3 // 16 * 16
    light = np.linspace(600, 15000, width, dtype=np.float32)
    rng = np.random.default_rng(0)
    counts = np.empty((height, width), np.uint16)
    for row in range(0, height, 256):
        part = counts[row : row + 256]
        part[:] = (light + np.sqrt(light) * rng.standard_normal(part.shape, np.float32)).clip(0, 16383)
    write_layout(path, counts, layout)


def peak_mib(*arguments: object) -> float:
    """Of `skdn denoise` and its worker together, at any time; looked at every 10 ms."""
    program = "from skdn_cli.main import main; main()"
    command = [sys.executable, "-c", program, "denoise", *map(str, arguments)]
    peak = 0.0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_mib, _family(process.pid))))
            time.sleep(0.01)
    assert process.returncode == 0
    return peak


def _family(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
        return [pid, *(one for child in children for one in _family(child))]
    return []


def _mib(pid: int) -> float:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024
    return 0.0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_twelve_megapixels(tmp_path: Path, layout: str) -> None:
    write_photograph(tmp_path / "a.dng", 12, LAYOUTS[layout])
    assert peak_mib(tmp_path / "a.dng", "--provider", "cpu") <= 450


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_grows_with_the_picture_only(tmp_path: Path, layout: str) -> None:
    """Twelve bytes a pixel: counts and floats (6), the file as it was read and as it will be written."""
    peaks = {}
    for megapixels in (12, 100):
        write_photograph(tmp_path / f"{megapixels}.dng", megapixels, LAYOUTS[layout])
        peaks[megapixels] = peak_mib(tmp_path / f"{megapixels}.dng", "--provider", "cpu")
    print(f"\n{layout}: {peaks[12]:.0f} MiB for 12 MP, {peaks[100]:.0f} MiB for 100 MP")
    assert peaks[100] - peaks[12] <= 88e6 * 12 / 2**20
