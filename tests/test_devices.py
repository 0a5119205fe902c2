"""Counting the cores that a process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sk_deploy import devices


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_a_container_s_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(devices, "CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(devices, "CPU_TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert devices.cpu_threads() == cores


def test_no_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CGROUP_QUOTA", tmp_path / "absent")
    monkeypatch.setattr(devices, "CPU_TOPOLOGY", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert devices.cpu_threads() == 2


def test_the_processor_has_a_name() -> None:
    assert devices.cpu_name()


def test_hardware_threads_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu, siblings in enumerate(["0,4", "1,5", "2,6", "3,7"] * 2):
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
    assert devices._cores(set(range(8)), tmp_path) == 4
    assert devices._cores({0, 4, 5}, tmp_path) == 2
    assert devices._cores({8, 9}, tmp_path) == 2  # nothing is told of them
