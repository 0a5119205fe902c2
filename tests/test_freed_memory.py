"""Freed arrays leave the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

MEASURE = """
from pathlib import Path
import numpy as np
from sk_deploy.freed_memory import return_freed_memory

def mib():
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024

np.ones(30 * 2**20, np.uint8)  # after this, glibc takes arrays of up to 30 MiB from its heap
before = mib()
arrays = [np.ones(20 * 2**20, np.uint8) for _ in range(10)]
last = np.ones(20 * 2**20, np.uint8)
del arrays
kept = mib() - before
return_freed_memory()
print(kept, mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a function of glibc")
def test_only_what_is_in_use_is_held() -> None:
    told = subprocess.check_output([sys.executable, "-c", MEASURE], timeout=60)
    kept, returned = map(float, told.split())
    assert returned < 30
    assert kept >= returned
