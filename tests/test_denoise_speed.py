"""What `skdn denoise` takes beyond the network, in one run: pytest -m bench -s tests/test_denoise_speed.py.

Everything is timed in turn, round after round, so that whatever else the machine does disturbs all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_memory import LAYOUTS, write_photograph

from sk_deploy.batch import Options, denoise_files
from sk_deploy.denoiser import Denoiser
from sk_deploy.inputs import find_jobs
from sk_deploy.models import DEFAULT_MODEL
from sk_deploy.noise import NoiseProfile
from sk_deploy.raw import read_raw

pytestmark = pytest.mark.bench

MEGAPIXELS = 12
NOISE = NoiseProfile(1e-3, 1e-5)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return Denoiser.from_file(DEFAULT_MODEL, "cpu")


def in_turn(actions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds that each action took in each round; what goes first changes."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    order = list(actions)
    for _ in range(rounds + 1):
        for name in order:
            started = time.perf_counter()
            actions[name]()
            taken[name].append(time.perf_counter() - started)
        order.reverse()
    return {name: seconds[1:] for name, seconds in taken.items()}  # the first round warms up


def ratio(taken: dict[str, list[float]], one: str, other: str) -> float:
    """Median of the rounds' ratios, printed with the spread."""
    ratios = sorted(a / b for a, b in zip(taken[one], taken[other], strict=True))
    median = statistics.median(ratios)
    print(f"{one} / {other}: {median:.3f} [{ratios[0]:.3f} to {ratios[-1]:.3f}]")
    return median


def test_beside_the_network_alone(tmp_path: Path, denoiser: Denoiser) -> None:
    """The network alone sees the same pixels once, in tiles of the same size without halos, on all cores."""
    files = 3
    (tmp_path / "in").mkdir()
    for index in range(files):
        write_photograph(tmp_path / f"in/{index}.dng", MEGAPIXELS, LAYOUTS["lossless JPEG"])
    raw = read_raw(tmp_path / "in/0.dng")
    side = (denoiser.tile_px // 2) // denoiser.spec.multiple * denoiser.spec.multiple
    tile = np.full((1, 4, side, side), 0.2, np.float32)
    level = None if denoiser.spec.blind else np.array([[NOISE.shot, NOISE.read]], np.float32)
    count = raw.shape[0] * raw.shape[1] / 4 / side**2

    def network() -> None:
        run_all(denoiser, tile, level, round(count))

    def batch() -> None:
        jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
        results = list(denoise_files(denoiser, jobs, Options(noise=NOISE, force=True)))
        assert [result.status for result in results] == ["done"] * files

    taken = in_turn(
        {"network": network, "mosaic": lambda: denoiser.image(raw, NOISE), "batch": batch}, rounds=3
    )
    exact = count / round(count)  # whole tiles are a little more or less than the pixels
    taken["network"] = [seconds * exact for seconds in taken["network"]]
    taken["batch, a file"] = [seconds / files for seconds in taken["batch"]]
    print(f"\n{denoiser.spec.name}, {MEGAPIXELS} MP, tiles of {denoiser.tile_px} px")
    for name, seconds in taken.items():
        print(f"{name}: {statistics.median(seconds):.3f} s")
    ratio(taken, "batch, a file", "network")
    assert ratio(taken, "mosaic", "network") <= 1.15


def run_all(denoiser: Denoiser, tile: np.ndarray, level: np.ndarray | None, count: int) -> None:
    """So many tiles through the network, as many at a time as when denoising."""
    with ThreadPoolExecutor(denoiser.session.lanes) as pool:
        list(pool.map(lambda _: denoiser.session.run(tile, level), range(count)))


def test_the_self_ensemble_takes_eight_passes(tmp_path: Path, denoiser: Denoiser) -> None:
    write_photograph(tmp_path / "a.dng", MEGAPIXELS, LAYOUTS["uncompressed"])
    raw = read_raw(tmp_path / "a.dng")
    taken = in_turn(
        {
            "single": lambda: denoiser.image(raw, NOISE),
            "ensemble": lambda: denoiser.image(raw, NOISE, ensemble=True),
        },
        rounds=2,
    )
    assert ratio(taken, "ensemble", "single") <= 8.2
