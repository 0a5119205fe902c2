"""What this machine computes with: CPU name and cores, CUDA devices. Asking never loads a CUDA library."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import platform
import sys
from pathlib import Path

CUDA_DRIVERS = ("libcuda.so.1", "nvcuda.dll")
"""The driver itself, which comes with the GPU and not with a toolkit."""
CPU_TOPOLOGY = Path("/sys/devices/system/cpu")
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of CPU time a period, or "max", and the period (Linux, cgroup v2)."""
MEMORY = Path("/proc/meminfo")
CGROUP_MEMORY = Path("/sys/fs/cgroup")
"""Where memory.max is, the bytes that a container may use or "max", and memory.current (Linux, cgroup v2)."""


def cpu_name() -> str:
    """The processor's name as its maker gives it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_threads() -> int:
    """Cores that this process may use: fewer than the machine has under taskset or in a container.

    Two hardware threads of a core count once, where the system tells (Linux): convolutions keep a core's
    arithmetic busy by one, and ONNX Runtime by itself counts so too.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = _cores(os.sched_getaffinity(0), CPU_TOPOLOGY)
    return max(1, min(cores, _cgroup_cores(CGROUP_QUOTA)))


def _cores(cpus: set[int], topology: Path) -> int:
    """How many cores these hardware threads are of; each is one where nothing is told."""
    cores = set()
    for cpu in cpus:
        try:
            cores.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def _cgroup_cores(quota: Path) -> int:
    """Whole cores' worth of time that a container may use, begun ones included."""
    try:
        granted, period = quota.read_text().split()
    except OSError:
        return sys.maxsize
    return sys.maxsize if granted == "max" else math.ceil(int(granted) / int(period))


def free_memory() -> float:
    """Bytes that this process may still take without others being swapped out; infinity where nobody says."""
    available = math.inf
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split(":") for line in MEMORY.read_text().splitlines())
        available = 1024 * int(fields["MemAvailable"].split()[0])
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
        limit = int((CGROUP_MEMORY / "memory.max").read_text())
        available = min(available, limit - int((CGROUP_MEMORY / "memory.current").read_text()))
    return max(0.0, available)


def cuda_devices() -> tuple[str, ...]:
    """Names of the CUDA devices that the driver offers; empty without a driver or a device."""
    return _cuda()[0]


def cuda_absence() -> str:
    """Why there is no CUDA device; empty where there is one."""
    return _cuda()[1]


@functools.cache
def _cuda() -> tuple[tuple[str, ...], str]:
    """Names of the devices, or why there are none."""
    driver = cuda_driver()
    if driver is None:
        return (), f"no NVIDIA driver ({CUDA_DRIVERS[sys.platform == 'win32']} not found)"
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return (), f"the NVIDIA driver offers no device (CUDA error {status})"
    names = tuple(_cuda_name(driver, device) for device in range(count.value))
    return names, "" if names else "the NVIDIA driver offers no device"


def cuda_driver() -> ctypes.CDLL | None:
    """The NVIDIA driver's library; None without one."""
    try:
        return ctypes.CDLL(CUDA_DRIVERS[sys.platform == "win32"])
    except OSError:
        return None


def _cuda_name(driver: ctypes.CDLL, device: int) -> str:
    name = ctypes.create_string_buffer(256)
    if driver.cuDeviceGetName(name, len(name), device) != 0:
        return f"CUDA device {device}"
    return name.value.decode(errors="replace")
