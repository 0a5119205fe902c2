"""Freed arrays leave the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
import sys
from pathlib import Path
import numpy as np
from sk_deploy.freed_memory import return_freed_memory

def mib():
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024

if sys.argv[1] == "return":
    return_freed_memory()
np.ones(30 * 2**20, np.uint8)  # after this, glibc takes arrays of 30 MiB from its heap
before = mib()
arrays = [np.ones(20 * 2**20, np.uint8) for _ in range(10)]
last = np.ones(20 * 2**20, np.uint8)
del arrays
print(mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_only_what_is_in_use_is_held() -> None:
    held = {
        mode: float(subprocess.check_output([sys.executable, "-c", MEASURE, mode], timeout=60))
        for mode in ("keep", "return")
    }
    assert held["return"] < 30
    assert held["keep"] >= held["return"]
