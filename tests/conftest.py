"""How the tests share a machine: a file to a worker, a worker for each core, each on one thread."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports PyTorch, and in what a test starts


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None: as many as there are cores. 0 where benchmarks were asked for: they print, too."""
    return None if "not bench" in config.option.markexpr else 0


@pytest.fixture
def network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denoisers that leave the means as the network makes them, which a model of a test's own may shift."""
    monkeypatch.setattr("sk_deploy.denoiser.keep_brightness", lambda *_: None)
